"""Differences and ratios of two sides against Welch's formula written out, and which of them is made."""

import math

import numpy as np
import pytest
from rangefinder import collection, comparison, tables
from rangefinder.statistics import Interval, paired_difference, welch_difference
from scipy import stats
from test_report import record, study

A, B = [0.91, 0.93, 0.96], [0.88, 0.89, 0.885, 0.9]


def test_welch_is_the_formula_with_satterthwaites_degrees_of_freedom():
    found = welch_difference(A, B)
    errors = np.var(A, ddof=1) / len(A), np.var(B, ddof=1) / len(B)
    degrees = sum(errors) ** 2 / (errors[0] ** 2 / (len(A) - 1) + errors[1] ** 2 / (len(B) - 1))
    half = stats.t.ppf(0.975, degrees) * math.sqrt(sum(errors))
    assert found.mean == pytest.approx(np.mean(A) - np.mean(B), rel=1e-12)
    assert found.high - found.mean == pytest.approx(half, rel=1e-9)
    assert found.mean - found.low == pytest.approx(half, rel=1e-9)


def test_runs_without_scatter_differ_exactly_and_one_run_has_no_interval():
    assert welch_difference([0.5, 0.5], [0.25, 0.25]) == Interval(4, 0.25, 0.25, 0.25)
    assert welch_difference([0.5], [0.25, 0.25]) == Interval(3, 0.25, None, None)


@pytest.mark.parametrize(
    ("ours", "theirs", "how"),
    [
        ((0, 1, 2), (0, 1, 2), "paired, 3 seeds"),
        ((0, 1, 2), (1, 2, 3), "paired, 2 seeds"),
        ((0,), (0,), "paired, 1 seed"),
        ((0, 1, 2), (2, 3), "unpaired, 3 and 2 seeds"),
        ((0, 1), (), "nothing to compare"),
    ],
)
def test_the_seeds_decide_how_a_difference_is_made(ours, theirs, how):
    left, right = dict(zip(ours, A, strict=False)), dict(zip(theirs, B, strict=False))
    found, told = comparison.difference(left, right)
    assert told == how
    if how.startswith("paired"):
        assert found == paired_difference(left, right)
    elif how.startswith("unpaired"):
        assert found == welch_difference(list(left.values()), list(right.values()))
    else:
        assert found.mean is None


def test_a_ratio_is_the_geometric_mean_and_its_interval_turns_over_with_the_sides():
    found, _ = comparison.ratio({0: 2.0, 1: 8.0}, {0: 1.0, 1: 1.0})
    back, _ = comparison.ratio({0: 1.0, 1: 1.0}, {0: 2.0, 1: 8.0})
    assert found.mean == pytest.approx(4.0)
    assert (back.mean, back.low, back.high) == pytest.approx((1 / found.mean, 1 / found.high, 1 / found.low))


def test_a_table_of_no_common_cell_has_the_columns_of_one_with_cells():
    def side(schedule):
        run = record(schedule, 64, 0, 0.9)
        run["run"] |= {"files": {}, "digest": "d"}
        return collection.Collection(study([(schedule, 64, 0)]), [], {}, [run])

    full, empty = comparison.cells(side("none"), side("none")), comparison.cells(side("none"), side("step"))
    assert len(full) == 1 and empty.empty
    assert tables.csv(empty) == tables.csv(full).splitlines()[0] + "\n"
