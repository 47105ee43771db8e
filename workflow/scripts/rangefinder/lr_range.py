"""From raw sweeps to an LR range: lr_min, suggested_lr, lr_max, with an interval over seeds and a status.

A number is given only where the status is ``ok``; every other status forbids numbers. docs/lr-range.md explains the
rule and shows how often it is right.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .errors import InputError
from .finder_rules import RULES
from .smoothing import local_linear, running_median
from .statistics import t_quantile

STATUSES = ("ok", "no_descent", "right_censored", "left_censored", "diverged", "too_few_points")
NUMBERS = ("lr_min", "suggested_lr", "lr_max")

LEAST_POINTS = 20  # fewer steps than this carry no curve
BANDWIDTH = 0.12  # of the smoother, in decades; two steps where the sweep is so fast that this is less
LEAST_DESCENT = 0.05  # of the initial loss: less is no descent
GIVE_BACK = 0.15  # the loss has turned up where it has lost this much of its descent again
BACK_OFF = 1.5  # how far suggested_lr stays below the LR at which the basin would be left slowly
UNSEEN = 1e-4  # of what is seen: what an instability grows from
MOST_LATE = (
    5.0  # times lr_max, and no more, is the LR of the least loss: a jump in one step measures no growth
)
WORK = 50  # steps per decade of the sweep whose half of the descent is the LR that is enough to learn
TOWARDS = 0.2  # how far suggested_lr goes from there towards that LR, as a share of the decades between


@dataclass(frozen=True)
class SeedRange:
    """What one sweep says; the three LRs are None unless `status` is ``ok``."""

    status: str
    lr_min: float | None = None
    suggested_lr: float | None = None
    lr_max: float | None = None
    initial_loss: float | None = None
    minimum_loss: float | None = None  # of the smoothed curve
    truncated_at_lr: float | None = None  # the first LR at which the loss had exploded or was not finite
    lr: np.ndarray = field(default_factory=lambda: np.empty(0))  # [points] of the smoothed curve
    loss: np.ndarray = field(default_factory=lambda: np.empty(0))  # [points] smoothed


def check_sweep(
    step: Sequence[float], lr: Sequence[float], loss: Sequence[float], *, file: object = None
) -> None:
    """Refuse columns that are not those of a range test.

    Args:
        step, lr, loss: [steps] each.
        file: the file they come from, for the message.

    Raises:
        InputError: no rows, unequal lengths, an LR that is not a positive number, LRs or steps that do not increase.
    """
    step, lr = np.asarray(step, np.float64), np.asarray(lr, np.float64)
    if not len(lr):
        raise InputError("the sweep has no rows", file=file)
    if not len(step) == len(lr) == len(loss):
        raise InputError("columns of different lengths", file=file, value=[len(step), len(lr), len(loss)])
    bad = np.flatnonzero(~(np.isfinite(lr) & (lr > 0)))
    if len(bad):
        row = int(bad[0])
        raise InputError(
            "not an LR", file=file, key=f"lr, row {row}", value=float(lr[row]), allowed="numbers above 0"
        )
    for name, values in (("lr", lr), ("step", step)):
        bad = np.flatnonzero(~(np.diff(values) > 0))
        if len(bad):
            row = int(bad[0]) + 1
            raise InputError(
                f"does not increase (row before: {float(values[row - 1])!r})",
                file=file,
                key=f"{name}, row {row}",
                value=float(values[row]),
                allowed="increasing values",
            )


def smooth(lr: np.ndarray, loss: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The smoothed curve of a sweep up to where its loss explodes: running median of 5, then local linear.

    Returns:
        LRs and smoothed losses, [points] each; empty where the loss is never finite.
    """
    lr, loss = np.asarray(lr, np.float64), np.asarray(loss, np.float64)
    end = _explosion(loss)
    if end < 2:
        return lr[:end], loss[:end]
    x = np.log10(lr[:end])
    return lr[:end], local_linear(
        x, running_median(loss[:end]), max(BANDWIDTH, 2 * float(np.median(np.diff(x))))
    )


def _head(loss: np.ndarray) -> tuple[float, float]:
    """Median and standard deviation (from the MAD) of the first tenth of the losses, at least five of them."""
    head = loss[: max(5, len(loss) // 10)]
    head = head[np.isfinite(head)]
    if not len(head):
        return math.nan, math.nan
    middle = float(np.median(head))
    return middle, 1.4826 * float(np.median(np.abs(head - middle)))


def _explosion(loss: np.ndarray) -> int:
    """Index of the first loss that is not finite, or that begins a stay above ``L0 + max(|L0|, 6·MAD)``.

    Unlike a bound such as L0 + 2, this does not depend on the loss's unit. The number of losses if there is none.
    """
    end = _finite(loss)
    initial, noise = _head(loss[:end])
    stay = _stay(loss[:end], initial + max(abs(initial), 6 * noise), 0)
    return end if stay is None else stay


def _finite(loss: np.ndarray) -> int:
    """How many losses there are before the first that is not finite."""
    bad = np.flatnonzero(~np.isfinite(loss))
    return int(bad[0]) if len(bad) else len(loss)


def _stay(loss: np.ndarray, level: float, start: int) -> int | None:
    """Index from `start` on at which the losses begin to stay above a level: four of five, so no mere spike."""
    high = loss > level
    for step in np.flatnonzero(high[start:]) + start:
        if high[step : step + 5].sum() >= min(4, len(loss) - step):
            return int(step)
    return None


def stability_threshold(lr: np.ndarray, loss: np.ndarray, turn: int) -> float:
    """The LR at which the loss began to grow, from how fast it grows once it is seen to.

    Growth needs steps to become visible, so the LR at which a loss is seen to have turned up lies above the
    threshold. On a quadratic with largest curvature λ, gradient descent with momentum μ multiplies the error per
    step by −g, with ``LR·λ = (g + 1)(g + μ)/g``; at the threshold g = 1 and ``LR = 2(1 + μ)/λ``. So

        threshold / LR = 2 (1 + μ) g / ((g + 1)(g + μ)),

    which lies between ``2/(g + 1)`` (μ = 0) and ``4g/(g + 1)²`` (μ = 1). A sweep does not know μ: the geometric
    mean of the two is taken, at most √2 from either. g is the square root of the ratio of consecutive losses, both
    less the floor they rise from; the answer is the median over the steps around `turn`.

    Sources: B. T. Polyak, "Some methods of speeding up the convergence of iteration methods", 1964, for the
    condition on a quadratic; J. M. Cohen et al., "Gradient Descent on Neural Networks Typically Occurs at the
    Edge of Stability", ICLR 2021, for networks.

    Args:
        lr, loss: [steps], all finite.
        turn: index of the step at which the loss is seen to have turned up.

    Returns:
        The threshold; the LR at `turn` itself where no growth can be measured.
    """
    low = float(np.median(np.sort(loss[:turn])[: max(5, turn // 10)]))
    level = loss[turn] ** 0.7 * low**0.3 if low > 0 else 0.7 * loss[turn] + 0.3 * low
    below = np.flatnonzero(loss[:turn] <= level)
    start = int(below[-1]) if len(below) else 0
    above = loss - np.median(loss[max(0, start - 6) : start + 1])
    rise = np.arange(start, min(turn + 3, len(loss) - 1))
    rise = rise[(above[rise] > np.maximum(loss[rise] / 2, 0)) & (above[rise + 1] > 0)]
    growth = np.sqrt(np.maximum(above[rise + 1] / above[rise], 1.0))
    rise, growth = rise[np.isfinite(growth)], growth[np.isfinite(growth)]
    if not len(rise):
        return float(lr[turn])
    estimate = np.log(lr[rise]) + np.log(2 / (growth + 1)) + 0.5 * np.log(2 * growth / (growth + 1))
    return float(np.exp(np.median(estimate)))


def suggestion(centre: float, half: float, steps_per_decade: float) -> float:
    """The suggested LR, from the centre of the basin and the LR at which half of the descent was done.

    Both move with the speed of a sweep, and each in a way that is known. With n steps per decade:

    - An instability has to grow before it is seen. On a quadratic the loss grows by ``(2 LR/t − 1)²`` per step above
      the threshold t, about ``exp(4u)`` at ``LR = t·exp(u)``; summed over the ``n/ln 10`` steps per unit of u, it has
      grown by 1/`UNSEEN` at ``u = √(ln(1/UNSEEN) · ln(10) / (2n))``. The basin's centre is taken back by exp(u).
    - The progress of a sweep is the sum of its LRs, ``LR · n / ln 10``, so that half of the descent is done at an LR in
      proportion to 1/n. It is taken to `WORK` steps per decade.

    The lower of the two pulls a little: a basin that is wide is best left further behind than a narrow one.

    Args:
        centre: LR in the middle of the basin of the smoothed loss.
        half: LR at which half of the descent was done.
        steps_per_decade: n.
    """
    delay = math.sqrt(math.log(1 / UNSEEN) * math.log(10) / (2 * steps_per_decade))
    most = centre / (BACK_OFF * math.exp(delay))
    enough = half * steps_per_decade / WORK
    return min(most, most ** (1 - TOWARDS) * enough**TOWARDS)


def extract_one(lr: np.ndarray, loss: np.ndarray) -> SeedRange:
    """The LR range of one sweep.

    Args:
        lr: [steps] increasing, as checked by `check_sweep`.
        loss: [steps] raw training losses; may hold NaN and infinity.

    Raises:
        InputError: as `check_sweep`.
    """
    check_sweep(np.arange(len(lr)), lr, loss)
    lr, loss = np.asarray(lr, np.float64), np.asarray(loss, np.float64)
    finite, end = _finite(loss), _explosion(loss)
    truncated = end < len(lr)
    initial, noise = _head(loss[:end])
    known = {
        "truncated_at_lr": float(lr[end]) if truncated else None,
        "initial_loss": initial if end else None,
    }
    if len(lr) < LEAST_POINTS:
        return SeedRange("too_few_points", **known)
    if end < LEAST_POINTS // 2:
        return SeedRange("diverged", **known)
    x, f = smooth(lr, loss)
    lowest = int(np.argmin(f))
    known |= {"minimum_loss": float(f[lowest]), "lr": x, "loss": f}
    descent = initial - f[lowest]
    head = max(5, end // 10)
    if descent <= max(3 * noise / math.sqrt(head), LEAST_DESCENT * abs(initial)):
        return SeedRange("diverged" if truncated else "no_descent", **known)

    level = f[lowest] + GIVE_BACK * descent
    risen = np.flatnonzero(f[lowest:] > level)
    if not len(risen) and not truncated:
        return SeedRange("right_censored", **known)
    above = np.flatnonzero(f[:lowest] > initial - descent / 2)
    if not len(above) or above[-1] < head:
        return SeedRange("left_censored", **known)

    per_decade = 1 / float(np.median(np.diff(np.log10(lr))))
    turn = _stay(loss[:finite], level, lowest)
    lr_max = float(x[-1]) if turn is None else stability_threshold(lr[:finite], loss[:finite], turn)
    lr_max = max(lr_max, float(x[lowest]) / MOST_LATE, float(lr[0]))
    basin_end = float(x[lowest + risen[0]]) if len(risen) else float(lr[end])
    half = float(x[above[-1]])
    centre = min(math.sqrt(float(x[lowest]) * basin_end), lr_max)
    suggested = max(suggestion(centre, half, per_decade), float(lr[0]))
    return SeedRange("ok", min(half, suggested), suggested, lr_max, **known)


def interval(values: Sequence[float], confidence: float = 0.95) -> dict[str, float | None]:
    """Geometric mean with Student's t interval in log10 (shown as × / ÷ `factor`); one value has no interval."""
    logs = np.log10(np.asarray(values, np.float64))
    mean = float(logs.mean())
    if len(logs) < 2:
        return {"value": 10**mean, "low": None, "high": None, "factor": None}
    half = float(t_quantile(0.5 + confidence / 2, len(logs) - 1) * logs.std(ddof=1) / math.sqrt(len(logs)))
    half = min(half, 300.0 - abs(mean))  # two seeds a decade apart: the factor stays a finite number
    return {"value": 10**mean, "low": 10 ** (mean - half), "high": 10 ** (mean + half), "factor": 10**half}


def combined_status(statuses: Sequence[str]) -> str:
    """``ok`` if more than half of the seeds are; else the most frequent other, in a tie the first in STATUSES."""
    if 2 * statuses.count("ok") > len(statuses):
        return "ok"
    counts = Counter(status for status in statuses if status != "ok")
    return max(STATUSES[1:], key=lambda status: (counts[status], -STATUSES.index(status)))


def extract(sweeps: Sequence[Mapping[str, Any]], *, confidence: float = 0.95) -> dict[str, Any]:
    """The LR range over the seeds, with the other finders' answers on the same sweeps.

    Args:
        sweeps: one ``{"seed", "lr", "loss"}`` per seed, arrays [steps].
        confidence: of the intervals over seeds.

    Returns:
        ``status``, ``seeds``, ``confidence``, ``lr_min``, ``suggested_lr``, ``lr_max``, ``per_seed`` and ``rules`` of
        range.json. The numbers are over the seeds whose own status is ``ok``, and null unless the status over all
        seeds is.
    """
    if not sweeps:
        raise InputError("no sweeps to extract an LR range from")
    ranges = [extract_one(np.asarray(sweep["lr"]), np.asarray(sweep["loss"])) for sweep in sweeps]
    status = combined_status([found.status for found in ranges])
    usable = [found for found in ranges if found.status == "ok"] if status == "ok" else []
    kept = ("status", *NUMBERS, "initial_loss", "minimum_loss", "truncated_at_lr")
    return {
        "status": status,
        "seeds": [sweep["seed"] for sweep in sweeps],
        "confidence": confidence,
        **{
            name: interval([getattr(found, name) for found in usable], confidence) if usable else None
            for name in NUMBERS
        },
        "per_seed": [
            {"seed": sweep["seed"]} | {name: getattr(found, name) for name in kept}
            for sweep, found in zip(sweeps, ranges, strict=True)
        ],
        "rules": {name: _rule(name, sweeps, confidence) for name in RULES},
    }


def _rule(name: str, sweeps: Sequence[Mapping[str, Any]], confidence: float) -> dict[str, Any]:
    """One finder's answers: per seed, and their mean if it has one for every seed."""
    rule = RULES[name]
    answers = [
        rule.function(np.asarray(sweep["lr"], np.float64), np.asarray(sweep["loss"])) for sweep in sweeps
    ]
    nothing = {"value": None, "low": None, "high": None, "factor": None}
    whole = interval(answers, confidence) if None not in answers else nothing
    return {"title": rule.title, **whole, "per_seed": answers, "note": rule.note}


def _check_alike(sweeps: Sequence[Mapping[str, Any]]) -> None:
    """Refuse sweeps that differ in more than their seed, and a seed that stands twice."""

    def identity(sweep: Mapping[str, Any]) -> dict[str, Any]:
        others = {f"parameters.{key}": value for key, value in sweep["parameters"].items() if key != "seed"}
        names = {key: sweep[key] for key in ("study", "range_test", "steps_per_decade", "steps")}
        return names | others | {"provenance.data_digest": sweep["provenance"]["data_digest"]}

    wanted, files = identity(sweeps[0]["sweep"]), {}  # the file of every seed so far
    for entry in sweeps:
        sweep, file = entry["sweep"], entry["file"].with_name("sweep.json")
        found = identity(sweep)
        for key in sorted(wanted.keys() | found.keys()):
            if found.get(key) != wanted.get(key):
                raise InputError(
                    "sweeps of one range test differ in more than their seed; delete both and run again",
                    file=file,
                    key=key,
                    value=found.get(key),
                    allowed=f"{wanted.get(key)!r}, as in {sweeps[0]['file'].with_name('sweep.json')}",
                )
        if sweep["seed"] in files:
            raise InputError(
                f"the same seed twice, here and in {files[sweep['seed']]}; delete both and run again",
                file=file,
                key="seed",
                value=sweep["seed"],
                allowed="each seed once",
            )
        files[sweep["seed"]] = file


def record(sweeps: Sequence[Mapping[str, Any]], *, confidence: float = 0.95) -> dict[str, Any]:
    """The content of range.json from the range tests of all seeds, as `records.read_sweep` reads them.

    Raises:
        InputError: the sweeps are not of one range test, a seed stands twice, or one of them is no sweep.
    """
    first = sweeps[0]["sweep"]
    parameters = first["parameters"]
    _check_alike(sweeps)
    for entry in sweeps:
        columns = entry["columns"]
        check_sweep(columns["step"], columns["lr"], columns["loss"], file=entry["file"])
    columns = [
        {"seed": entry["sweep"]["seed"], "lr": entry["columns"]["lr"], "loss": entry["columns"]["loss"]}
        for entry in sweeps
    ]
    return {
        "study": first["study"],
        "range_test": first["range_test"],
        "optimizer": parameters["optimizer"]["name"],
        "batch_size": parameters["batch_size"],
        "steps_per_decade": first["steps_per_decade"],
        **extract(columns, confidence=confidence),
        "provenance": first["provenance"],
    }
