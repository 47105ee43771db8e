"""The rules by which well-known LR finders suggest an LR, applied to a raw sweep.

Each rule does all that its package does between the raw loss and the suggestion: smoothing, stop rule, clipping of
both ends, suggestion, in the package's own precision. Known faults are kept, and named in the rule's `note`. What a
package answers with an exception, or with None, is None here.

Checked against the packages themselves: fastai 2.8.12, Lightning 2.6.6, torch-lr-finder 0.2.2, ignite 0.5.5.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Rule:
    """One finder's rule.

    `function` takes ``(lr, loss)``, raw arrays [steps] of one sweep with increasing LRs, and returns the suggested LR,
    or None where the package gives none.
    """

    name: str
    title: str
    function: Callable[[np.ndarray, np.ndarray], float | None]
    package: str
    source: str
    note: str


def averaged(loss: np.ndarray, beta: float, *, offset: int = 0, single: bool = False) -> np.ndarray:
    """Exponential moving average from 0, divided by ``1 − beta^(n + offset)`` with n = 1, 2, …

    Args:
        offset: 0 removes the bias of the start at 0; Lightning divides with 1.
        single: in float32, with the order of operations of `torch.lerp` (fastai).
    """
    number = np.float32 if single else np.float64
    average, smoothed = number(0), np.empty(len(loss), number)
    keep = number(beta)
    take = number(1) - keep
    with np.errstate(all="ignore"):
        for step, value in enumerate(loss.astype(number)):
            average = average - (average - value) * take if single else keep * average + take * value
            smoothed[step] = average / number(1 - beta ** (step + 1 + offset))
    return smoothed


def followed(loss: np.ndarray, weight: float) -> np.ndarray:
    """Exponential moving average that starts at the first loss: ``weight·loss + (1 − weight)·previous``."""
    smoothed = np.array(loss, np.float64)
    with np.errstate(all="ignore"):
        for step in range(1, len(smoothed)):
            smoothed[step] = weight * smoothed[step] + (1 - weight) * smoothed[step - 1]
    return smoothed


def until_diverged(smoothed: np.ndarray, factor: float, *, first: int = 0) -> int:
    """How many points are recorded until one, from index `first` on, exceeds `factor` times the best before it.

    As in the packages, a comparison with NaN is false: NaN never stops a sweep.
    """
    best = smoothed[0] if len(smoothed) else np.inf
    with np.errstate(all="ignore"):
        for step, value in enumerate(smoothed):
            if step >= first and value > factor * best:
                return step + 1
            if value < best:
                best = value
    return len(smoothed)


def _fastai(lr: np.ndarray, loss: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What fastai's `lr_find` hands to its rules: smoothed, stopped, without the first tenth and the last five."""
    smoothed = averaged(loss, 0.98, single=True)
    end = until_diverged(smoothed, 4.0)
    lr, smoothed = lr[len(lr) // 10 : end][:-5], smoothed[len(lr) // 10 : end][:-5]
    missing = np.flatnonzero(np.isnan(smoothed))
    if len(missing):
        lr, smoothed = lr[: missing[0]], smoothed[: missing[0]]
    return lr.astype(np.float32), smoothed


def fastai_valley(lr: np.ndarray, loss: np.ndarray) -> float | None:
    """Half-way along the longest strictly falling subsequence (of points, not of the curve), as fastai indexes it."""
    lr, smoothed = _fastai(lr, loss)
    if not len(lr):
        return None
    lengths, tails = [], []
    for value in smoothed:
        place = bisect_left(tails, -value)
        tails[place : place + 1] = [-value]
        lengths.append(place + 1)
    end = int(np.argmax(lengths))
    start = end - lengths[end] if end else 0
    third = (end - start) / 3
    return float(lr[start + int(third) + int(third / 2)])


def fastai_slide(lr: np.ndarray, loss: np.ndarray) -> float | None:
    """From the right, the first interval of 15 points whose end gradients differ by at most 0.005."""
    lr, smoothed = _fastai(lr, loss)
    if len(lr) < 16:
        return None
    with np.errstate(all="ignore"):
        gradient = np.gradient(smoothed)
        right, left = -1, -16
        suggestion = lr[left]
        while left >= -len(smoothed) and abs(gradient[right] - gradient[left]) > 0.005:
            suggestion = lr[left]
            right, left = right - 1, left - 1
    return float(suggestion)


def fastai_steep(lr: np.ndarray, loss: np.ndarray) -> float | None:
    """Where the smoothed loss falls fastest per unit of ln(LR)."""
    lr, smoothed = _fastai(lr, loss)
    if len(lr) < 2:
        return None
    with np.errstate(all="ignore"):
        return float(lr[np.argmin(np.diff(smoothed) / np.diff(np.log(lr)))])


def fastai_minimum(lr: np.ndarray, loss: np.ndarray) -> float | None:
    """A tenth of the LR at the minimum of the smoothed loss."""
    lr, smoothed = _fastai(lr, loss)
    return float(lr[np.argmin(smoothed)]) / 10 if len(lr) else None


def lightning(lr: np.ndarray, loss: np.ndarray) -> float | None:
    """Where the smoothed loss falls fastest per unit of LR, without the first ten points and the last."""
    smoothed = averaged(loss, 0.98, offset=1)
    end = until_diverged(smoothed, 4.0, first=1)
    lr, smoothed = lr[:end], smoothed[:end].astype(np.float32)
    kept = np.arange(len(lr))[10:-1]
    kept = kept[np.isfinite(smoothed[kept])]
    if len(kept) < 2:
        return None
    slope = np.gradient(smoothed[kept], lr[kept].astype(np.float32))
    return float(lr[kept[np.argmin(slope)]])


def torch_lr_finder(lr: np.ndarray, loss: np.ndarray) -> float | None:
    """Where the smoothed loss falls fastest per step, without the first ten points and the last five."""
    smoothed = followed(loss, 0.05)
    end = until_diverged(smoothed, 5.0)
    if end < 17:
        return None
    with np.errstate(all="ignore"):
        return float(lr[10 : end - 5][np.argmin(np.gradient(smoothed[10 : end - 5]))])


def ignite(lr: np.ndarray, loss: np.ndarray) -> float | None:
    """Where the smoothed loss falls fastest per step, left of its minimum."""
    smoothed = followed(loss, 0.05)
    smoothed = smoothed[: until_diverged(smoothed, 5.0)].astype(np.float32)
    falling = smoothed[: np.argmin(smoothed) + 1] if len(smoothed) else smoothed
    if len(falling) < 3:
        return None
    with np.errstate(all="ignore"):
        return float(lr[np.argmin(np.float32(0.5) * (falling[2:] - falling[:-2])) + 1])


_LAG = "The moving average (0.98) lags about 34 steps, so the answer moves with the speed of the sweep."

RULES: dict[str, Rule] = {
    rule.name: rule
    for rule in (
        Rule(
            "fastai_valley",
            "fastai valley",
            fastai_valley,
            "fastai",
            "fastai/callback/schedule.py, valley",
            f"{_LAG} The valley's start is its end minus the number of its points, not its first point.",
        ),
        Rule(
            "fastai_slide",
            "fastai slide",
            fastai_slide,
            "fastai",
            "fastai/callback/schedule.py, slide",
            f"{_LAG} The threshold 0.005 is per step, not per decade: on a slow or a flat sweep the answer is always "
            "the 16th point from the end.",
        ),
        Rule(
            "fastai_steep",
            "fastai steep",
            fastai_steep,
            "fastai",
            "fastai/callback/schedule.py, steep",
            f"{_LAG} The largest single difference of a noisy curve.",
        ),
        Rule(
            "fastai_minimum",
            "fastai minimum / 10",
            fastai_minimum,
            "fastai",
            "fastai/callback/schedule.py, minimum",
            f"{_LAG} The lag puts the minimum right of the true one, which the division by ten hides.",
        ),
        Rule(
            "lightning",
            "Lightning",
            lightning,
            "lightning",
            "lightning/pytorch/tuner/lr_finder.py, _LRFinder.suggestion",
            f"{_LAG} The slope is per unit of LR, not per decade, which favours the smallest LRs. The bias correction "
            "is one step off: the first losses are recorded as half of what they are. NaN never stops the sweep.",
        ),
        Rule(
            "torch_lr_finder",
            "pytorch-lr-finder",
            torch_lr_finder,
            "torch-lr-finder",
            "torch_lr_finder/lr_finder.py, LRFinder.plot",
            "The moving average (0.05 of the new loss) lags about 19 steps. NaN never stops the sweep, and is then "
            "taken for the steepest descent and suggested.",
        ),
        Rule(
            "ignite",
            "ignite",
            ignite,
            "pytorch-ignite",
            "ignite/handlers/lr_finder.py, FastaiLRFinder.lr_suggestion",
            "The moving average (0.05 of the new loss) lags about 19 steps. NaN never stops the sweep, and is then "
            "taken for the minimum and for the steepest descent, and suggested.",
        ),
    )
}
