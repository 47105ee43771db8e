"""Every table as the report shows it: numbers written out, with sort keys and links to their records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from . import formats, tables, verdicts
from .cells import Cell
from .statistics import Interval

LABELS = {
    "form": "form",
    "optimizer": "optimizer",
    "schedule": "schedule",
    "batch_size": "batch",
    "lr": "LR as written",
    "learning_rate": "learning rate",
}


def shown_table(rows: Sequence[Mapping[str, Any]], caption: str, name: str) -> dict[str, Any]:
    """A table for the templates: each cell is its text, a sort key and an optional link.

    Args:
        rows: mappings from heading to text, number, or (text, sort key[, link]).
    """
    headings = list(rows[0]) if rows else []
    body = []
    for row in rows:
        line = []
        for heading in headings:
            value = row[heading]
            text, key, link = (*value, None)[:3] if isinstance(value, tuple) else (value, value, None)
            number = isinstance(key, int | float) and not isinstance(key, bool)
            line.append(
                {
                    "text": formats.MISSING if text is None or text == "" else str(text),
                    "key": "" if key is None else key,
                    "number": number,
                    "link": link,
                }
            )
        body.append(line)
    return {"headings": headings, "rows": body, "caption": caption, "name": name}


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
    """The accuracy table with links to the records of each cell's first run."""
    axes, rows = _axes_of(frame, "learning_rate"), []
    for (_, row), cell in zip(frame.iterrows(), cells, strict=True):
        first = next(iter(cell.runs), None)
        link = f"runs/{cell.ids[first]}/run.json" if first is not None else None
        shown = _cell_columns(row, axes)
        rate = _plain(row["learning_rate"])
        shown["learning rate"] = (formats.learning_rate(rate), rate)
        shown["seeds"] = (f"{row['completed']}/{row['runs']}", int(row["completed"]), link)
        for metric, heading in (
            ("final_test_accuracy", "final test accuracy (%)"),
            ("test_accuracy_at_best_validation", "test accuracy at best validation (%)"),
            ("best_test_accuracy", "best on test (%)"),
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
        + ". Diverged runs are counted, never averaged in."
    )
    return shown_table(rows, caption, "accuracy")


def time_table(frame: pd.DataFrame) -> dict[str, Any]:
    """The time table."""
    axes, rows = _axes_of(frame, "completed"), []
    for _, row in frame.iterrows():
        shown = _cell_columns(row, axes)
        for column, heading in (
            ("to_train_s", "time to train (s)"),
            ("to_best_s", "time to best (s)"),
            ("to_baseline_s", "time to baseline (s)"),
            ("per_epoch_s", "per epoch (s)"),
            ("images_per_s", "images/s"),
        ):
            value = _plain(row[column])
            shown[heading] = value if isinstance(value, str) else (formats.seconds(value), value)
        shown["device"] = row["device"]
        rows.append(shown)
    caption = (
        "Seconds of training alone, mean over completed runs: no evaluation, data preparation, start-up or waiting. "
        "“Best” is the best epoch on the validation split; “baseline” is the best mean final test accuracy at the "
        "smallest batch size, less one percentage point."
    )
    return shown_table(rows, caption, "time")


def difference_table(frame: pd.DataFrame) -> dict[str, Any] | None:
    """Each schedule against the best of its group."""
    if frame.empty:
        return None
    axes, rows = _axes_of(frame, "best_schedule"), []
    for _, row in frame.iterrows():
        interval = _interval(row, "difference")
        shown = _cell_columns(row, axes) | {"best": row["best_schedule"], "compared": row["schedule"]}
        shown["difference (points)"] = (formats.points(interval), interval.mean)
        rows.append(shown | {"pairs": int(row["pairs"]), "real": row["real"]})
    caption = (
        "Final test accuracy of each schedule less that of the best one at the same setting, paired by seed, "
        "± half the 95 % interval. “Real” says whether the interval leaves out zero; the best of several is chosen "
        "after the fact, which favours it."
    )
    return shown_table(rows, caption, "differences")


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
    return shown_table(rows, caption, "lr_ranges") if rows else None


def finder_table(frame: pd.DataFrame) -> dict[str, Any] | None:
    """The answers of the well-known finders."""
    if frame.empty:
        return None
    rows = []
    for _, row in frame.iterrows():
        value = _plain(row["value"])
        rows.append(
            {
                "range test": row["range_test"],
                "rule": row["rule"],
                "learning rate": (formats.learning_rate(value) if value is not None else "no answer", value),
                "note": row["note"],
            }
        )
    return shown_table(rows, "What other finders' published rules answer on the same sweeps.", "finders")


def confirmation_table(confirmations: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Every rule's answer with what short runs at it came to."""
    frame, rows = verdicts.table(confirmations), []
    if frame.empty:
        return None
    first = {entry["range_test"]: entry["seed"] for entry in reversed(confirmations)}
    for _, row in frame.iterrows():
        accuracy, difference = _interval(row, "accuracy"), _interval(row, "difference")
        test, value = row["range_test"], _plain(row["learning_rate"])
        link = f"lr_range/{test}/confirmation/seed{first[test]}/confirmation.json"
        rows.append(
            {
                "range test": test,
                "rule": verdicts.TITLES.get(row["rule"], row["rule"]),
                "learning rate": (formats.learning_rate(value), value),
                "seeds": (f"{row['completed']}/{row['seeds']}", int(row["completed"]), link),
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
        "several is chosen after the fact, which favours it. A diverged run is counted, never averaged in."
    )
    return shown_table(rows, caption, "confirmation")


def published_table(comparisons: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Each published number beside ours, with verdict and footnote."""
    rows = []
    for entry in comparisons:
        accuracy = entry["metric"].endswith("accuracy")
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
        row["ours"] = (text, ours.mean)
        shown = formats.points(Interval(1, difference, None, None)) if accuracy else formats.loss(difference)
        row["difference"] = (shown, difference)
        rows.append(row | {"verdict": entry["verdict"], "note": entry["footnote"]})
    caption = (
        "Published numbers beside ours. “Reproduced”: the published value lies in the 95 % interval over our seeds, or "
        "within 0.2 points; one seed has no interval. Differences of accuracies are in percentage points."
    )
    return shown_table(rows, caption, "published") if rows else None


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
    return shown_table(rows, "Every run that the study plans, with its record.", "runs")
