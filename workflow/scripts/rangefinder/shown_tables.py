"""The tables of runs and cells as the report shows them: numbers written out, with sort keys and links to records."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from . import formats, published, tables
from .cells import Cell
from .shown import NEVER, interval_of, plain, shown_table
from .statistics import Interval

LABELS = {
    "form": "form",
    "optimizer": "optimizer",
    "schedule": "schedule",
    "batch_size": "batch",
    "lr": "LR as written",
    "learning_rate": "learning rate",
}


def record_links(cell: Cell, file: str = "run.json") -> list[tuple[str, str, str]]:
    """A link to a file of every run of a cell that has a record, named by its seed."""
    return [(str(seed), f"runs/{cell.ids[seed]}/{file}", f"record of {cell.ids[seed]}") for seed in cell.runs]


def _cell_columns(row: pd.Series, axes: Sequence[str]) -> dict[str, Any]:
    return {LABELS.get(axis, axis): plain(row[axis]) for axis in axes}


def _axes_of(frame: pd.DataFrame, first: str) -> list[str]:
    axes = list(frame.columns[: list(frame.columns).index(first)])
    return [axis for axis in axes if axis != "form" or frame["form"].astype(bool).any()]


def accuracy_table(frame: pd.DataFrame, cells: Sequence[Cell]) -> dict[str, Any]:
    """The accuracy table with links to the records of each cell's runs."""
    axes, rows = _axes_of(frame, "learning_rate"), []
    # A write-up's own metric: shown beside the others where a study reproduces one.
    closest = any(cell.form for cell in cells) and frame[tables.CLOSEST].notna().any()
    for (_, row), cell in zip(frame.iterrows(), cells, strict=True):
        shown = _cell_columns(row, axes)
        rate = plain(row["learning_rate"])
        shown["learning rate"] = (formats.learning_rate(rate), rate)
        shown["seeds"] = (f"{row['completed']}/{row['runs']}", int(row["completed"]), record_links(cell))
        for metric, heading in (
            ("final_test_accuracy", "final test accuracy (%)"),
            ("test_accuracy_at_best_validation", "test accuracy at best validation (%)"),
            ("best_test_accuracy", "best on test (%)"),
            *([(tables.CLOSEST, "closest to baseline (%)")] if closest else []),
        ):
            interval = interval_of(row, metric)
            shown[heading] = (formats.percent_interval(interval), interval.mean)
        interval = interval_of(row, "final_test_loss")
        shown["final test loss"] = (formats.loss(interval.mean), interval.mean)
        shown["status"] = row["status"]
        rows.append(shown)
    caption = (
        "Accuracy on the test set: mean over seeds ± half the 95 % interval (Student's t). "
        + "; ".join(f"“{name.replace('_', ' ')}” is measured {text}" for name, text in tables.METRICS.items())
        + (f"; “closest to baseline” is {published.METRICS[tables.CLOSEST]}" if closest else "")
        + ". Diverged runs are counted, never averaged in. Each seed leads to its record."
    )
    return shown_table(rows, caption, "accuracy", identity=len(axes))


def time_table(frame: pd.DataFrame, cells: Sequence[Cell]) -> dict[str, Any]:
    """The time table with links to the machine records of each cell's runs."""
    axes, rows = _axes_of(frame, "completed"), []
    for (_, row), cell in zip(frame.iterrows(), cells, strict=True):
        shown = _cell_columns(row, axes)
        shown["runs"] = (row["completed"], int(row["completed"]), record_links(cell, "machine.json"))
        for column, heading in (
            ("to_train_s", "time to train (s)"),
            ("to_best_validation_s", "time to best on validation (s)"),
            ("to_best_test_s", "time to best on test (s)"),
            ("to_baseline_s", "time to baseline (s)"),
            ("reached", "reached it"),
            ("per_epoch_s", "per epoch (s)"),
            ("images_per_s", "images/s"),
        ):
            value = plain(row[column])
            shown[heading] = (value, NEVER) if isinstance(value, str) else (formats.seconds(value), value)
        shown["device"] = row["device"]
        rows.append(shown)
    caption = (
        "Seconds of training alone, mean over completed runs: no evaluation, data preparation, start-up or waiting. "
        "“Best” is the epoch with the highest accuracy on that split; “baseline” is "
        + (
            "the best accuracy of SGD on the test set at the same form and schedule, as in “closest to baseline”, or "
            "where SGD has no other optimizer beside it "
            if any(form for form, _ in published.sgd_baselines(cells))
            else ""
        )
        + "the best mean final test accuracy of the same form at the smallest batch size, less one percentage point, "
        "“not reached” where any run misses it."
    )
    return shown_table(rows, caption, "time", "Time", identity=len(axes))


def difference_table(frame: pd.DataFrame, anchors: Mapping[str, str]) -> dict[str, Any] | None:
    """Each schedule against the best of its group, with links to their rows of the accuracy table.

    Args:
        anchors: of `row_anchors`.
    """
    if frame.empty:
        return None
    axes, rows = _axes_of(frame, "best_schedule"), []
    for _, row in frame.iterrows():
        interval = interval_of(row, "difference")
        shown = _cell_columns(row, axes)
        setting = {axis: row[axis] for axis in row.index[: list(row.index).index("best_schedule")]}
        for heading, column in (("best", "best_schedule"), ("compared", "schedule")):
            address = anchors.get(_place(setting | {"schedule": row[column]}))
            shown[heading] = (row[column], row[column], address)
        shown["difference (points)"] = (formats.points(interval), interval.mean)
        rows.append(shown | {"pairs": int(row["pairs"]), "real": row["real"]})
    caption = (
        "Final test accuracy of each schedule less that of the best one at the same setting, paired by seed, "
        "± half the 95 % interval. “Real” says whether the interval leaves out zero; the best of several is chosen "
        "after the fact, which favours it."
    )
    return shown_table(rows, caption, "differences", "Differences between schedules", identity=len(axes) + 2)


def row_anchors(frame: pd.DataFrame) -> dict[str, str]:
    """Address of each row of the accuracy table by the cell's settings."""
    axes = list(frame.columns[: list(frame.columns).index("learning_rate")])
    return {
        _place({axis: row[axis] for axis in axes}): f"#accuracy-{number}"
        for number, (_, row) in enumerate(frame.iterrows(), start=1)
    }


def _place(setting: Mapping[str, Any]) -> str:
    return json.dumps({axis: str(plain(value)) for axis, value in setting.items()}, sort_keys=True)


def largest_batch_table(frame: pd.DataFrame) -> dict[str, Any] | None:
    """The largest batch size that holds the accuracy of the smallest."""
    if frame.empty:
        return None
    axes, rows = _axes_of(frame, "baseline_batch"), []
    for _, row in frame.iterrows():
        shown = _cell_columns(row, axes)
        shown["smallest batch"] = (row["baseline_batch"], int(row["baseline_batch"]))
        shown["its accuracy (%)"] = (formats.percent(row["baseline"]), row["baseline"])
        shown["largest that holds"] = (row["largest_batch"], int(row["largest_batch"]))
        difference = interval_of(row, "difference")
        shown["difference (points)"] = (formats.points(difference), difference.mean)
        shown["sure"] = row["sure"]
        shown["largest tried"] = (row["of"], int(row["of"]))
        rows.append(shown)
    caption = (
        "The largest batch size whose mean final test accuracy is at most one percentage point below that of the "
        "smallest, with every run complete. The difference between the two is paired by seed, ± half the 95 % "
        "interval; “sure” says whether the whole interval lies above minus one point."
    )
    return shown_table(rows, caption, "largest_batch", "Largest batch", identity=len(axes))


def published_table(
    comparisons: Sequence[Mapping[str, Any]], cells: Sequence[Cell] = ()
) -> dict[str, Any] | None:
    """Each published number beside ours, with verdict and footnote, and links to the records of ours."""
    rows = []
    by_axes = {
        _place({axis: cell.axes.get(axis) for axis in published.AXES}): cell
        for cell in cells
        if cell.form == published.FORM
    }
    for entry in comparisons:
        accuracy = entry["metric"] not in published.LOSSES
        write = formats.percent if accuracy else formats.loss
        ours, difference = entry["ours"], entry["difference"]
        row: dict[str, Any] = {
            LABELS.get(axis, axis): entry[axis] for axis in ("optimizer", "schedule", "batch_size", "lr")
        }
        row |= {
            "metric": entry["metric"].replace("_", " ") + (" (%)" if accuracy else ""),
            "revision": entry["revision"],
        }
        row["published"] = (write(entry["published"]), entry["published"])
        text = formats.percent_interval(ours) if accuracy else formats.loss_interval(ours)
        cell = by_axes.get(_place({axis: entry[axis] for axis in published.AXES}))
        row["ours"] = (text, ours.mean, record_links(cell) if cell else None)
        shown = formats.points(Interval(1, difference, None, None)) if accuracy else formats.loss(difference)
        row["difference"] = (shown, difference)
        rows.append(row | {"verdict": entry["verdict"], "note": entry["footnote"]})
    caption = (
        "Published numbers beside ours. “Reproduced”: the published value lies in the 95 % interval over our seeds, or,"
        " where that is wider, within two standard errors of our accuracy p on the n images of the test set, "
        "2·√(p(1 − p)/n), and never less than 0.2 points (losses: 0.005). Ours is the mean over seeds ± half the "
        "interval; one seed has none. Differences of accuracies are in percentage points."
    )
    if any(entry["metric"] == published.BATCH_MEAN for entry in comparisons):
        caption += (
            " A batch mean lets a last, smaller test batch weigh as much as the others, in the published number and in "
            "ours; “not measured”: ours is of a version that did not record it."
        )
    if not rows:
        return None
    return shown_table(
        rows, caption, "published", "Published numbers beside ours", identity=len(published.AXES)
    )


def run_table(frame: pd.DataFrame) -> dict[str, Any]:
    """Every planned run with its record."""
    rows = []
    for _, row in frame.iterrows():
        step = plain(row["diverged_at_step"])
        link = None if row["status"] == "missing" else f"runs/{row['run']}/run.json"
        shown: dict[str, Any] = {"run": (row["run"], row["run"], link)}
        shown["status"] = row["status"] if step is None else f"diverged at step {step}"
        for column, heading in (
            ("final_test_accuracy", "final test (%)"),
            ("test_accuracy_at_best_validation", "test at best validation (%)"),
            ("best_test_accuracy", "best on test (%)"),
        ):
            value = plain(row[column])
            shown[heading] = (formats.percent(value), value)
        rows.append(shown)
    return shown_table(
        rows, "Every run that the study plans, with its record.", "runs", "Runs and their records"
    )
