"""Every table as the report shows it: numbers written out, with sort keys and links to their records."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from . import formats, published, tables, verdicts
from .cells import Cell
from .finder_rules import RULES
from .shown import NEVER, shown_table
from .statistics import Interval

LABELS = {
    "form": "form",
    "optimizer": "optimizer",
    "schedule": "schedule",
    "batch_size": "batch",
    "lr": "LR as written",
    "learning_rate": "learning rate",
}


OURS = "rangefinder"


def record_links(cell: Cell, file: str = "run.json") -> list[tuple[str, str, str]]:
    """A link to a file of every run of a cell that has a record, named by its seed."""
    return [(str(seed), f"runs/{cell.ids[seed]}/{file}", f"record of {cell.ids[seed]}") for seed in cell.runs]


def _cell_columns(row: pd.Series, axes: Sequence[str]) -> dict[str, Any]:
    return {LABELS.get(axis, axis): _plain(row[axis]) for axis in axes}


def _plain(value: Any) -> Any:
    if value is None or value is pd.NA or (isinstance(value, float) and value != value):
        return None
    return value.item() if hasattr(value, "item") else value


def _interval(row: pd.Series, name: str) -> Interval:
    mean, low, high = (_plain(row[key]) for key in (name, f"{name}_low", f"{name}_high"))
    return Interval(0 if mean is None else 1 if low is None else 2, mean, low, high)


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
        rate = _plain(row["learning_rate"])
        shown["learning rate"] = (formats.learning_rate(rate), rate)
        shown["seeds"] = (f"{row['completed']}/{row['runs']}", int(row["completed"]), record_links(cell))
        for metric, heading in (
            ("final_test_accuracy", "final test accuracy (%)"),
            ("test_accuracy_at_best_validation", "test accuracy at best validation (%)"),
            ("best_test_accuracy", "best on test (%)"),
            *([(tables.CLOSEST, "closest to baseline (%)")] if closest else []),
        ):
            interval = _interval(row, metric)
            shown[heading] = (formats.percent_interval(interval), interval.mean)
        interval = _interval(row, "final_test_loss")
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
            value = _plain(row[column])
            shown[heading] = (value, NEVER) if isinstance(value, str) else (formats.seconds(value), value)
        shown["device"] = row["device"]
        rows.append(shown)
    caption = (
        "Seconds of training alone, mean over completed runs: no evaluation, data preparation, start-up or waiting. "
        "“Best” is the epoch with the highest accuracy on that split; “baseline” is the best mean final test accuracy "
        "of the same form at the smallest batch size, less one percentage point, “not reached” where any run misses it."
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
        interval = _interval(row, "difference")
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
    return json.dumps({axis: str(_plain(value)) for axis, value in setting.items()}, sort_keys=True)


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
        difference = _interval(row, "difference")
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


def range_table(ranges: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The LR ranges."""
    rows = []
    for entry in ranges:
        row: dict[str, Any] = {
            "range test": (
                entry["range_test"],
                entry["range_test"],
                f"lr_range/{entry['range_test']}/range.json",
            )
        }
        row |= {"optimizer": entry["optimizer"], "batch": entry["batch_size"], "seeds": len(entry["seeds"])}
        for name in ("lr_min", "suggested_lr", "lr_max"):
            value = entry[name]
            row[name] = (formats.range_value(value), value["value"] if value else None)
        row["steps per decade"] = (f"{entry['steps_per_decade']:.0f}", entry["steps_per_decade"])
        rows.append(row | {"status": entry["status"]})
    caption = (
        "The usable LR range: geometric mean over seeds, ×/÷ the factor of the 95 % interval (t in log10)."
    )
    return shown_table(rows, caption, "lr_ranges", "LR ranges") if rows else None


def finder_table(frame: pd.DataFrame) -> dict[str, Any] | None:
    """The answers of the well-known finders, a column per range test; what is known of them as notes."""
    if frame.empty:
        return None
    tests = list(dict.fromkeys(frame["range_test"]))
    values = {(row["range_test"], row["rule"]): _plain(row["value"]) for _, row in frame.iterrows()}
    rows = []
    for rule in dict.fromkeys(frame["rule"]):
        row: dict[str, Any] = {"rule": RULES[rule].title if rule in RULES else rule}
        for test in tests:
            value, ours = values.get((test, rule)), values.get((test, OURS))
            text = formats.learning_rate(value) if value is not None else "no answer"
            if value is not None and ours and rule != OURS:
                text += f" ({formats.ratio(value / ours)} × ours)"
            row[f"LR, {test}"] = (text, value, f"lr_range/{test}/range.json")
        rows.append(row)
    caption = "What other finders' published rules answer on the same sweeps."
    remarks: dict[str, list[str]] = {}
    for rule, note in dict.fromkeys(zip(frame["rule"], frame["note"], strict=True)):
        for sentence in re.findall(r".+?\.(?=\s|$)", note):
            title = RULES[rule].title if rule in RULES else rule
            remarks.setdefault(sentence.strip(), []).append(title)
    notes = [f"{', '.join(titles)}: {sentence}" for sentence, titles in remarks.items()]
    return shown_table(rows, caption, "finders", "Answers of other finders", notes=notes)


def confirmation_table(confirmations: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Every rule's answer with what short runs at it came to."""
    frame, rows = verdicts.table(confirmations), []
    if frame.empty:
        return None
    for _, row in frame.iterrows():
        accuracy, difference = _interval(row, "accuracy"), _interval(row, "difference")
        test, value = row["range_test"], _plain(row["learning_rate"])
        links = [
            (
                str(seed),
                f"lr_range/{test}/confirmation/seed{seed}/confirmation.json",
                f"record of {test}, seed {seed}",
            )
            for seed in (entry["seed"] for entry in confirmations if entry["range_test"] == test)
        ]
        rows.append(
            {
                "range test": test,
                "rule": verdicts.TITLES.get(row["rule"], row["rule"]),
                "learning rate": (formats.learning_rate(value), value),
                "seeds": (f"{row['trained']}/{row['seeds']}", int(row["trained"]), links),
                "accuracy (%)": (formats.percent_interval(accuracy), accuracy.mean),
                "measured on": row["split"],
                "less the best (points)": (formats.points(difference), difference.mean),
                "verdict": row["verdict"],
            }
        )
    steps = sorted({entry["parameters"]["steps"] for entry in confirmations})
    caption = (
        f"Short runs ({' or '.join(map(str, steps))} steps, constant learning rate) at every rule's answer; those of "
        "one seed start alike and see the same batches. Mean ± half the 95 % interval over seeds; the difference to "
        "the best learning rate is paired by seed. “Within one point” and “worse” are said where the whole interval "
        "lies on that side of one percentage point below the best (with one seed, the difference itself). The best of "
        "several is chosen after the fact, which favours it. A run that diverged, or did not train (its loss ended no "
        "lower than it began), is counted, never averaged in."
    )
    return shown_table(rows, caption, "confirmation", "Answers confirmed by short runs", identity=2)


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
        text = formats.percent_interval(ours) if accuracy else formats.loss(ours.mean)
        cell = by_axes.get(_place({axis: entry[axis] for axis in published.AXES}))
        row["ours"] = (text, ours.mean, record_links(cell) if cell else None)
        shown = formats.points(Interval(1, difference, None, None)) if accuracy else formats.loss(difference)
        row["difference"] = (shown, difference)
        rows.append(row | {"verdict": entry["verdict"], "note": entry["footnote"]})
    caption = (
        "Published numbers beside ours. “Reproduced”: the published value lies in the 95 % interval over our seeds, or "
        "within 0.2 points (losses: 0.005) where that is wider; one seed has no interval. Differences of accuracies "
        "are in percentage points."
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
        step = _plain(row["diverged_at_step"])
        link = None if row["status"] == "missing" else f"runs/{row['run']}/run.json"
        shown: dict[str, Any] = {"run": (row["run"], row["run"], link)}
        shown["status"] = row["status"] if step is None else f"diverged at step {step}"
        for column, heading in (
            ("final_test_accuracy", "final test (%)"),
            ("test_accuracy_at_best_validation", "test at best validation (%)"),
            ("best_test_accuracy", "best on test (%)"),
        ):
            value = _plain(row[column])
            shown[heading] = (formats.percent(value), value)
        rows.append(shown)
    return shown_table(
        rows, "Every run that the study plans, with its record.", "runs", "Runs and their records"
    )
