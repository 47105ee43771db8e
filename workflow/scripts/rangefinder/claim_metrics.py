"""What claims speak of, measured on our runs: a metric by seed, its kind, and how near is near enough."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from .cells import Cell
from .published import LOSS_TOLERANCE, metric_values, sgd_baselines
from .statistics import mean_interval, sampling_tolerance


def _lowest(run: Mapping[str, Any], column: str) -> float:
    epochs = run["epochs"]
    return float(epochs[column][np.nanargmin(epochs["test_loss"])])


def _growth(run: Mapping[str, Any]) -> float:
    """Geometric mean of the factors between one epoch's LR and the next's."""
    lr = run["epochs"]["lr"]
    return float((lr[-1] / lr[0]) ** (1 / (len(lr) - 1))) if len(lr) > 1 else math.nan


def _seconds(run: Mapping[str, Any]) -> float:
    return float(np.mean([entry["train_s"] for entry in run["machine"]["epochs"]]))


OWN: dict[str, Callable[[Mapping[str, Any]], float]] = {
    "test_loss_change": lambda run: float(run["epochs"]["test_loss"][-1] - run["epochs"]["test_loss"][0]),
    "lr_at_lowest_test_loss": lambda run: _lowest(run, "lr"),
    "lr_growth_per_epoch": _growth,
    "seconds_per_epoch": _seconds,
}


def values(cells: Sequence[Cell], cell: Cell, metric: str) -> dict[int, float]:
    """A metric of the claims' schema by seed, over the cell's completed runs."""
    if metric not in OWN:
        return metric_values(sgd_baselines(cells), cell, metric)
    found = {seed: OWN[metric](run) for seed, run in cell.completed().items()}
    return {seed: value for seed, value in found.items() if not math.isnan(value)}


def kind(test: Mapping[str, Any]) -> str:
    """What a test's values are: accuracy, loss, lr, factor or seconds."""
    metric = test.get("metric", "lr")
    for word in ("seconds", "growth", "lr", "loss"):
        if word in metric.split("_"):
            return {"growth": "factor"}.get(word, word)
    return "accuracy"


def tolerance(test: Mapping[str, Any], cells: Sequence[Cell], compared: Sequence[Cell]) -> float:
    """The least half-width of an interval: the sampling error of a test set, none for what has none.

    Args:
        test: of a claim.
        cells: of the study.
        compared: those whose values the test holds against a span or each other; the largest of their errors counts.
    """
    if test["relation"] == "ratio" or kind(test) not in ("accuracy", "loss"):
        return 0.0
    if kind(test) == "loss":
        return LOSS_TOLERANCE
    means = (mean_interval(list(values(cells, cell, test["metric"]).values())).mean for cell in compared)
    return max(
        sampling_tolerance(mean, cell.test_images()) for mean, cell in zip(means, compared, strict=True)
    )
