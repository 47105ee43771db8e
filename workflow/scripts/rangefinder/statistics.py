"""Means, intervals, paired comparisons, and the verdict against a published number."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy import special


@dataclass(frozen=True)
class Interval:
    """A mean with its confidence interval; `low` and `high` are None with fewer than two values."""

    n: int
    mean: float | None
    low: float | None
    high: float | None

    @property
    def half(self) -> float | None:
        """Half the interval's width."""
        return None if self.high is None else self.high - self.mean


@cache
def t_quantile(share: float, degrees: int) -> float:
    """Quantile of Student's t distribution; a report asks for the same few thousands of times."""
    return float(special.stdtrit(degrees, share))


def mean_interval(values: Sequence[float], confidence: float = 0.95) -> Interval:
    """Mean and Student's t interval: mean ± t(1 − α/2, n − 1) · s / √n, s with n − 1 in its denominator.

    Source: Student, "The Probable Error of a Mean", Biometrika 6 (1908).
    """
    array = np.asarray([value for value in values if value is not None], dtype=np.float64)
    if len(array) == 0:
        return Interval(0, None, None, None)
    mean = float(array.mean())
    if len(array) == 1:
        return Interval(1, mean, None, None)
    half = float(t_quantile((1 + confidence) / 2, len(array) - 1) * array.std(ddof=1) / math.sqrt(len(array)))
    return Interval(len(array), mean, mean - half, mean + half)


def paired_difference(
    ours: Mapping[int, float], theirs: Mapping[int, float], confidence: float = 0.95
) -> Interval:
    """Mean difference over the seeds that both have, with its t interval.

    Runs of the same seed share initial weights and sample order, which their difference cancels.
    """
    seeds = sorted(set(ours) & set(theirs))
    return mean_interval([ours[seed] - theirs[seed] for seed in seeds], confidence)


def welch_difference(ours: Sequence[float], theirs: Sequence[float], confidence: float = 0.95) -> Interval:
    """Difference of two means of unrelated runs, which may scatter differently, with its interval.

    Source: B. L. Welch, "The generalization of 'Student's' problem when several different population variances are
    involved", Biometrika 34 (1947). No interval where a side has fewer than two values.
    """
    mean, count = float(np.mean(ours) - np.mean(theirs)), len(ours) + len(theirs)
    if min(len(ours), len(theirs)) < 2:
        return Interval(count, mean, None, None)
    if np.ptp(ours) == 0 and np.ptp(theirs) == 0:
        return Interval(count, mean, mean, mean)
    from scipy import stats  # takes as long to import as a small report to write

    found = stats.ttest_ind(ours, theirs, equal_var=False).confidence_interval(confidence)
    return Interval(count, mean, float(found.low), float(found.high))


def is_real(difference: Interval) -> bool | None:
    """Whether an interval of differences leaves out zero; None where there is no interval."""
    if difference.low is None:
        return None
    return difference.low > 0 or difference.high < 0


LEAST_TOLERANCE = 0.002


def sampling_tolerance(share: float | None, images: int) -> float:
    """What an accuracy is uncertain by for having been measured on some images: two standard errors, at least 0.002.

    Two standard errors of a share p of n independent images are 2·sqrt(p(1 − p) / n), the normal approximation of the
    binomial distribution (Wald): 0.002 at 99 % on 10,000 images, 0.006 at 90 %, 0.0084 at 77 %. The floor is for shares
    near 0 and 1, where the approximation has no width. Of two networks on the same images it is the order of what
    their difference is uncertain by: its variance is the share on which just one of them is right, over n (McNemar,
    "Note on the sampling error of the difference between correlated proportions", Psychometrika 12, 1947), a share
    that lies between |p − q| and p(1 − q) + q(1 − p), and that no record and no publication tells.

    Args:
        share: accuracy p, a fraction; None (nothing measured) has the floor.
        images: how many it was measured on.
    """
    if share is None or not images:
        return LEAST_TOLERANCE
    return max(LEAST_TOLERANCE, 2 * math.sqrt(max(share * (1 - share), 0.0) / images))


def verdict(values: Sequence[float], published: float, *, tolerance: float) -> str:
    """How our runs compare with a published value.

    Args:
        values: ours, one for each seed that completed.
        published: in the same unit.
        tolerance: least half-width of our interval: `sampling_tolerance` of an accuracy. A single run has no other.

    Returns:
        ``reproduced`` if the published value lies within the 95 % interval over our seeds, widened to `tolerance`
        on both sides where that is more; ``better`` or ``worse`` if ours lies above or below it;
        ``not run`` without a value of ours.
    """
    interval = mean_interval(values)
    if interval.n == 0:
        return "not run"
    half = max(interval.half or 0.0, tolerance)
    if abs(interval.mean - published) <= half:
        return "reproduced"
    return "better" if interval.mean > published else "worse"
