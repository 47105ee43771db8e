"""Learning-rate schedules as pure functions: the LR of every step of a run as one array.

torch's schedulers compute each LR from the one before it, inside the training loop. Here a schedule is a
closed form of the step's number, so that it can be drawn, tested and recorded without training.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from . import foreign_schedules, names, user_code
from .errors import InputError

# A step is a row of steps.csv, and an entry of arrays that are computed before the first one.
MOST_STEPS = 10_000_000


@dataclass(frozen=True)
class Schedule:
    """What the optimizer is given at each step.

    Attributes:
        lr: float64 [epochs * steps_per_epoch], the LR each step's update is made with.
        momentum: float64 of the same shape, or None where the schedule leaves momentum alone. For Adam and
            its kin it is beta1.
    """

    lr: np.ndarray
    momentum: np.ndarray | None = None


@dataclass(frozen=True)
class _Run:
    """What a schedule is computed from: `t` [steps] counts changes of the LR (0, 1, …), `total` of them in all."""

    base_lr: float
    t: np.ndarray
    total: int
    momentum: float | None
    steps_per_epoch: int


# --- checks: each gives the value back in its proper type, or raises ---


def _number(low: float = -math.inf, high: float = math.inf, *, open_low: bool = False) -> Callable:
    bounds = f"a number from {low:g} to {high:g}" if high < math.inf else f"a number of at least {low:g}"
    allowed = f"a number above {low:g}" if open_low else bounds

    def check(value: Any, key: str) -> float:
        if isinstance(value, str):
            allowed_here = allowed + " (YAML reads 1e-5 as text: write 1.0e-5)"
            raise InputError("is text", key=key, value=value, allowed=allowed_here)
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float | np.number)
            or not math.isfinite(value)
        ):
            raise InputError("is not a number", key=key, value=value, allowed=allowed)
        if not low <= value <= high or (open_low and value == low):
            raise InputError("out of range", key=key, value=value, allowed=allowed)
        return float(value)

    return check


def _count(low: int) -> Callable:
    def check(value: Any, key: str) -> int:
        whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
        if not whole or not low <= value <= MOST_STEPS:
            allowed = f"a whole number from {low} to {MOST_STEPS}"
            raise InputError("is not a count", key=key, value=value, allowed=allowed)
        return int(value)

    return check


def _flag(value: Any, key: str) -> bool:
    if not isinstance(value, bool):
        raise InputError("is neither true nor false", key=key, value=value, allowed=("true", "false"))
    return value


def _one_of(*names: str) -> Callable:
    def check(value: Any, key: str) -> str:
        if value not in names:
            raise InputError("unknown value", key=key, value=value, allowed=names)
        return value

    return check


def _milestones(value: Any, key: str) -> list[int]:
    if not isinstance(value, list | tuple) or not value:
        raise InputError("is not a list", key=key, value=value, allowed="a list of whole numbers from 1")
    return sorted(_count(1)(item, f"{key}[{place}]") for place, item in enumerate(value))


def _mapping(value: Any, key: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise InputError("is not a mapping", key=key, value=value, allowed="keyword arguments")
    return value


def _as_given(value: Any, key: str) -> Any:
    """What torch itself checks."""
    return value


# --- the schedules ---


def _none(run: _Run) -> Schedule:
    return Schedule(np.full(len(run.t), run.base_lr))


def _step(run: _Run, *, step_size: int, gamma: float) -> Schedule:
    return Schedule(run.base_lr * gamma ** (run.t // step_size).astype(np.float64))


def _multi_step(run: _Run, *, milestones: list[int], gamma: float) -> Schedule:
    passed = np.searchsorted(milestones, run.t, side="right")
    return Schedule(run.base_lr * gamma ** passed.astype(np.float64))


def _exponential(run: _Run, *, gamma: float) -> Schedule:
    return Schedule(run.base_lr * gamma ** run.t.astype(np.float64))


def _cosine(run: _Run, *, eta_min: float) -> Schedule:
    """Loshchilov and Hutter 2017, equation 5, one cycle as long as the run."""
    return Schedule(eta_min + (run.base_lr - eta_min) * (1 + np.cos(math.pi * run.t / run.total)) / 2)


def _polynomial(run: _Run, *, power: float, end_lr: float) -> Schedule:
    return Schedule((run.base_lr - end_lr) * (1 - run.t / run.total) ** power + end_lr)


def _anneal_cosine(start: float, end: float, part: np.ndarray) -> np.ndarray:
    return end + (start - end) / 2 * (1 + np.cos(math.pi * part))


def _anneal_linear(start: float, end: float, part: np.ndarray) -> np.ndarray:
    return (end - start) * part + start


def _one_cycle(
    run: _Run,
    *,
    max_lr: float | None,
    pct_start: float,
    div_factor: float,
    final_div_factor: float,
    anneal_strategy: str,
    three_phase: bool,
    cycle_momentum: bool | None,
    base_momentum: float,
    max_momentum: float,
) -> Schedule:
    """Smith and Topin 2018, in the two- and three-phase forms of torch's OneCycleLR."""
    peak = run.base_lr if max_lr is None else max_lr
    first = peak / div_factor
    last = first / final_div_factor
    rise, end = pct_start * run.total - 1, run.total - 1.0
    # (the last t of a phase, LR at its ends, momentum at its ends)
    phases = [(rise, first, peak, max_momentum, base_momentum)]
    if three_phase:
        phases.append((2 * pct_start * run.total - 2, peak, first, base_momentum, max_momentum))
        phases.append((end, first, last, max_momentum, max_momentum))
    else:
        phases.append((end, peak, last, base_momentum, max_momentum))
    anneal = _anneal_cosine if anneal_strategy == "cos" else _anneal_linear
    lr, momentum = np.empty(len(run.t)), np.empty(len(run.t))
    begin, done = 0.0, np.zeros(len(run.t), dtype=bool)
    for number, (finish, lr_from, lr_to, momentum_from, momentum_to) in enumerate(phases):
        here = ~done if number == len(phases) - 1 else ~done & (run.t <= finish)
        part = (run.t[here] - begin) / (finish - begin) if finish != begin else np.ones(here.sum())
        lr[here] = anneal(lr_from, lr_to, part)
        momentum[here] = anneal(momentum_from, momentum_to, part)
        begin, done = finish, done | here
    if cycle_momentum and run.momentum is None:
        raise InputError(
            "the optimizer has no momentum to cycle",
            key="schedule.cycle_momentum",
            value=True,
            allowed="false, or true with an optimizer that has momentum or betas",
        )
    cycles = bool(run.momentum) if cycle_momentum is None else cycle_momentum
    return Schedule(lr, momentum if cycles else None)


def _writeup2(
    *, base_lr: float, epochs: int, n: int, warmup_multiplier: float, end_lr: float, warmup_epochs: int
) -> Schedule:
    """Warm-up and decay of the ResNet-50 LARS write-up, as coded there.

    The LR of epoch e (from 0) rises to base·m in `warmup_epochs` epochs w, and never is the base LR itself:
    base·(1 + (m−1)(e+1)/w) for e < w, then base·m in epoch w. From epoch w+1 on it decays with every step,
    (base·m − end)(1 − s/(E·n))² + end, where s starts at 2 and the denominator counts all E epochs though
    only E−w−1 of them decay: so the last LR is (about (w+1)/E squared) well above `end_lr`.
    """
    step = np.arange(epochs * n)
    epoch = step // n
    peak = base_lr * warmup_multiplier
    warm = base_lr * (1 + (warmup_multiplier - 1) * (epoch + 1) / max(warmup_epochs, 1))
    s = step - (warmup_epochs + 1) * n + 2
    decay = (peak - end_lr) * (1 - s / (epochs * n)) ** 2 + end_lr
    return Schedule(np.where(epoch < warmup_epochs, warm, np.where(epoch == warmup_epochs, peak, decay)))


def _torch(run: _Run, *, name: str, **arguments: Any) -> Schedule:
    lr, momentum = foreign_schedules.run_torch(
        name, arguments, base_lr=run.base_lr, changes=run.total, momentum=run.momentum
    )
    return Schedule(lr[run.t], None if momentum is None else momentum[run.t])


def _own(run: _Run, *, reference: str, arguments: Mapping[str, Any]) -> Schedule:
    lr = foreign_schedules.run_own(
        reference, arguments, base_lr=run.base_lr, steps=len(run.t), steps_per_epoch=run.steps_per_epoch
    )
    return Schedule(lr)


@dataclass(frozen=True)
class Kind:
    """One schedule by name.

    Attributes:
        compute: the pure function.
        parameters: for each key, its check and its default (`REQUIRED` if it must be given).
        per: when the LR changes unless the study says otherwise; None where there is no choice.
    """

    compute: Callable[..., Schedule]
    parameters: Mapping[str, tuple[Callable, Any]]
    per: str | None = None


REQUIRED = object()
_POSITIVE = _number(0, open_low=True)
_GAMMA = (_POSITIVE, 0.1)

SCHEDULES: dict[str, Kind] = {
    "none": Kind(_none, {}),
    "StepLR": Kind(_step, {"step_size": (_count(1), REQUIRED), "gamma": _GAMMA}, "epoch"),
    "MultiStepLR": Kind(_multi_step, {"milestones": (_milestones, REQUIRED), "gamma": _GAMMA}, "epoch"),
    "ExponentialLR": Kind(_exponential, {"gamma": (_POSITIVE, REQUIRED)}, "epoch"),
    "OneCycleLR": Kind(
        _one_cycle,
        {
            "max_lr": (_POSITIVE, None),
            "pct_start": (_number(0, 1), 0.3),
            "div_factor": (_POSITIVE, 25.0),
            "final_div_factor": (_POSITIVE, 1e4),
            "anneal_strategy": (_one_of("cos", "linear"), "cos"),
            "three_phase": (_flag, False),
            "cycle_momentum": (_flag, None),
            "base_momentum": (_number(0, 1), 0.85),
            "max_momentum": (_number(0, 1), 0.95),
        },
        "step",
    ),
    "CosineAnnealingLR": Kind(_cosine, {"eta_min": (_number(0), 0.0)}, "step"),
    "PolynomialLR": Kind(_polynomial, {"power": (_POSITIVE, 1.0), "end_lr": (_number(0), 0.0)}, "step"),
    "writeup2": Kind(
        _writeup2,
        {
            "warmup_multiplier": (_POSITIVE, REQUIRED),
            "end_lr": (_number(0), REQUIRED),
            "warmup_epochs": (_count(0), 5),
        },
    ),
    **{
        name: Kind(
            partial(_torch, name=name),
            dict.fromkeys(arguments, (_as_given, None)),
            "step" if name == "CyclicLR" else "epoch",
        )
        for name, arguments in names.TORCH_SCHEDULES.items()
    },
}


def runs_foreign_code(name: object) -> bool:
    """Whether a schedule can only be computed by torch's scheduler or the user's function (seconds of imports)."""
    return name in names.TORCH_SCHEDULES or user_code.is_reference(name)


_WARMUP = {
    "kind": (_one_of("linear", "constant"), "linear"),
    "epochs": (_count(0), None),
    "steps": (_count(0), None),
    "factor": (_number(0, 1), 1 / 3),
    "per": (_one_of("epoch", "step"), "step"),
}


def build(
    spec: Mapping[str, Any],
    *,
    base_lr: float,
    epochs: int,
    steps_per_epoch: int,
    momentum: float | None = None,
) -> Schedule:
    """The LR (and momentum) of every step of a run.

    Args:
        spec: ``name``, one of `SCHEDULES` with its parameters under torch's names, or ``path/file.py:function``
            with ``arguments``, called as ``function(base_lr, steps, steps_per_epoch, **arguments)``; and optionally

            - ``per``: ``epoch`` or ``step``, when the LR changes, and so the unit of ``step_size``,
              ``milestones`` and ``gamma``. By default StepLR, MultiStepLR and ExponentialLR change per epoch,
              the others per step. OneCycleLR, CosineAnnealingLR and PolynomialLR span the whole run.
            - ``warmup``: ``{kind: linear | constant, epochs: n | steps: n, factor: f, per: step | epoch}``.
              Like torch's LinearLR and ConstantLR before a SequentialLR: the LR starts at ``factor`` times
              the schedule's first LR and rises to it linearly, or stays there, for n epochs or steps; the
              schedule proper follows over the remaining steps, its epochs counted from the warm-up's end.
        base_lr: the run's LR. OneCycleLR takes it for ``max_lr`` where that is not given.
        epochs, steps_per_epoch: the run's length.
        momentum: the optimizer's momentum or beta1; None if it has none. OneCycleLR cycles momentum only
            where there is one above zero, unless ``cycle_momentum`` is given (torch's turns momentum on even
            for plain SGD).

    Returns:
        The schedule; a warm-up longer than the run is cut off at its end.

    Raises:
        InputError: unknown name or key, or a value out of range.
    """
    spec = dict(spec)
    name = spec.pop("name", None)
    if user_code.is_reference(name):
        spec.pop("source_digest", None)  # only tells apart versions of the user's file
        kind = Kind(partial(_own, reference=name), {"arguments": (_mapping, {})})
    elif name in SCHEDULES:
        kind = SCHEDULES[name]
    else:
        allowed = [*SCHEDULES, "path/file.py:function"]
        raise InputError("unknown schedule", key="schedule.name", value=name, allowed=allowed)
    base_lr = _number(0)(base_lr, "lr")
    epochs, steps_per_epoch = _count(1)(epochs, "epochs"), _count(1)(steps_per_epoch, "steps_per_epoch")
    if kind.compute is _writeup2:
        parameters = _checked(spec, kind.parameters, "schedule")
        return _writeup2(base_lr=base_lr, epochs=epochs, n=steps_per_epoch, **parameters)
    warmup = spec.pop("warmup", None)
    known = dict(kind.parameters)
    if kind.per is not None:
        known["per"] = (_one_of("epoch", "step"), kind.per)
    parameters = _checked(spec, known, "schedule")
    unit = steps_per_epoch if parameters.pop("per", None) == "epoch" else 1

    total = epochs * steps_per_epoch
    factors = _warmup_factors(warmup, steps_per_epoch)[:total]
    rest = total - len(factors)
    # A warm-up may fill the whole run: its target, the schedule's first LR, is then computed all the same.
    t = np.arange(max(rest, 1)) // unit
    length = -(-max(rest, 1) // unit)
    with np.errstate(over="ignore"):  # an LR that grows beyond float64 is the user's to see diverge
        proper = kind.compute(_Run(base_lr, t, length, momentum, steps_per_epoch), **parameters)
    if len(factors) == 0:
        return proper
    if runs_foreign_code(name):
        first = proper.lr[0]
    else:
        first = _first_lr(base_lr, parameters) if name == "OneCycleLR" else base_lr
    lr = np.concatenate([first * factors, proper.lr[:rest]])
    if proper.momentum is None:
        return Schedule(lr)
    highest = parameters["max_momentum"] if name == "OneCycleLR" else proper.momentum[0]
    held = np.full(len(factors), highest)
    return Schedule(lr, np.concatenate([held, proper.momentum[:rest]]))


def _first_lr(base_lr: float, parameters: Mapping[str, Any]) -> float:
    peak = base_lr if parameters["max_lr"] is None else parameters["max_lr"]
    return peak / parameters["div_factor"]


def _warmup_factors(warmup: Any, steps_per_epoch: int) -> np.ndarray:
    """Factors [steps of the warm-up] by which the schedule's first LR is multiplied."""
    if warmup is None:
        return np.empty(0)
    if not isinstance(warmup, Mapping):
        allowed = "{kind: linear | constant, epochs: n, factor: f}"
        raise InputError("is not a mapping", key="schedule.warmup", value=warmup, allowed=allowed)
    values = _checked(warmup, _WARMUP, "schedule.warmup")
    if (values["epochs"] is None) == (values["steps"] is None):
        given = sorted(warmup)
        raise InputError(
            "has no single length", key="schedule.warmup", value=given, allowed="epochs or steps"
        )
    per_epoch = values["per"] == "epoch"
    if per_epoch and values["epochs"] is None:
        raise InputError("is counted in steps", key="schedule.warmup.per", value="epoch", allowed=["step"])
    steps = values["steps"] if values["epochs"] is None else values["epochs"] * steps_per_epoch
    if values["kind"] == "constant":
        return np.full(steps, values["factor"])
    unit = steps_per_epoch if per_epoch else 1
    return values["factor"] + (1 - values["factor"]) * (np.arange(steps) // unit * unit) / max(steps, 1)


def _allowed_by(check: Callable) -> str | list[str] | None:
    """What a check allows, as it says it of null, which none takes where a value is required."""
    try:
        check(None, "")
    except InputError as error:
        return error.allowed
    return None


def _checked(given: Mapping[str, Any], known: Mapping[str, tuple[Callable, Any]], key: str) -> dict[str, Any]:
    for name in given:
        if name not in known:
            raise InputError("unknown key", key=f"{key}.{name}", value=name, allowed=known or "no keys")
    values = {}
    for name, (check, default) in known.items():
        value = given.get(name)  # null in YAML: the default
        if value is None:
            if default is REQUIRED:
                raise InputError("is missing", key=f"{key}.{name}", allowed=_allowed_by(check))
            values[name] = default
        else:
            values[name] = check(value, f"{key}.{name}")
    return values
