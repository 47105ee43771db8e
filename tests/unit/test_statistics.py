"""Statistics against closed forms and scipy."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rangefinder.statistics import (
    Interval,
    is_real,
    mean_interval,
    paired_difference,
    sampling_tolerance,
    t_quantile,
    verdict,
)
from scipy import stats

fractions = st.floats(0, 1, allow_nan=False)


def test_three_values_by_hand():
    # mean 2, s = 1; with two degrees of freedom t has a closed form: t(p) = (2p − 1)·sqrt(2 / (4p(1 − p)))
    t = 0.95 * math.sqrt(2 / (4 * 0.975 * 0.025))
    interval = mean_interval([1, 2, 3])
    assert interval.n == 3 and interval.mean == 2
    assert interval.half == pytest.approx(t / math.sqrt(3), rel=1e-12)


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=20).filter(lambda v: max(v) - min(v) > 1e-6))
def test_the_interval_is_scipys(values):
    low, high = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    interval = mean_interval(values)
    assert interval.low == pytest.approx(low, rel=1e-9, abs=1e-9)
    assert interval.high == pytest.approx(high, rel=1e-9, abs=1e-9)


def test_one_value_has_no_interval_and_none_has_no_mean():
    assert mean_interval([0.5]) == Interval(1, 0.5, None, None)
    assert mean_interval([None]) == Interval(0, None, None, None)


def test_a_paired_difference_uses_only_the_seeds_that_both_have():
    ours, theirs = {0: 0.9, 1: 0.8, 2: 0.7, 9: 0.0}, {0: 0.8, 1: 0.75, 2: 0.5, 5: 1.0}
    low, high = stats.ttest_rel([0.9, 0.8, 0.7], [0.8, 0.75, 0.5]).confidence_interval(0.95)
    interval = paired_difference(ours, theirs)
    assert interval.n == 3
    assert (interval.low, interval.high) == (pytest.approx(low), pytest.approx(high))


@pytest.mark.parametrize(
    ("interval", "real"),
    [
        (Interval(3, 1, 0.5, 1.5), True),
        (Interval(3, -1, -2, -0.1), True),
        (Interval(3, 1, -1, 3), False),
        (Interval(1, 1, None, None), None),
    ],
)
def test_a_difference_is_real_if_its_interval_leaves_out_zero(interval, real):
    assert is_real(interval) is real


@pytest.mark.parametrize(
    ("values", "published", "expected"),
    [
        ([], 0.9, "not run"),
        ([0.9], 0.9019, "reproduced"),
        ([0.9], 0.9021, "worse"),
        ([0.9], 0.8979, "better"),
        ([0.89, 0.9, 0.91], 0.92, "reproduced"),  # half width 4.303 * 0.01 / sqrt(3) = 0.0248
        ([0.89, 0.9, 0.91], 0.926, "worse"),
        ([0.9, 0.9, 0.9], 0.9015, "reproduced"),  # no spread: the tolerance remains
    ],
)
def test_verdicts(values, published, expected):
    assert verdict(values, published, tolerance=0.002) == expected


@pytest.mark.parametrize("images", [1000, 10_000])
@pytest.mark.parametrize("share", [0.1135, 0.5, 0.77, 0.9, 0.98])
def test_an_accuracy_is_uncertain_by_two_standard_errors_of_a_binomial_share(share, images):
    assert sampling_tolerance(share, images) == pytest.approx(2 * stats.binom(images, share).std() / images)


@pytest.mark.parametrize("share", [0.0, 0.995, 1.0, 1 + 1e-16, None])
def test_near_the_ends_the_least_tolerance_remains(share):
    assert sampling_tolerance(share, 10_000) == 0.002
    assert sampling_tolerance(share, 0) == 0.002


def test_t_quantiles_are_those_of_scipy_to_the_last_bit():
    for share in (0.9, 0.95, 0.975, 0.995):
        for degrees in (1, 2, 4, 9, 99):
            assert t_quantile(share, degrees) == stats.t.ppf(share, degrees)
