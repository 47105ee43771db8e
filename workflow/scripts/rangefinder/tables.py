"""Tables of a study as data frames: pure functions of its cells and LR ranges."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from .cells import Cell, varying
from .published import metric_values, sgd_baselines
from .statistics import Interval, is_real, mean_interval, paired_difference

METRICS = {
    "final_test_accuracy": "after the last epoch, on the test set",
    "test_accuracy_at_best_validation": "on the test set, at the epoch that is best on the validation split",
    "best_test_accuracy": "as the highest on the test set over all epochs (chosen on the test set, which overstates)",
}
CLOSEST = "closest_to_baseline"


def _axes(cell: Cell, axes: Sequence[str]) -> dict[str, Any]:
    row: dict[str, Any] = {"form": cell.form or ""}
    for axis in axes:
        value = cell.axes.get(axis)
        row[axis] = json.dumps(value, sort_keys=True) if isinstance(value, dict | list) else value
    return row


def _ends(*names: str) -> list[str]:
    """The columns that `_spread` fills."""
    return [f"{name}{end}" for name in names for end in ("", "_low", "_high")]


def _spread(row: dict[str, Any], name: str, interval: Interval) -> None:
    row[name], row[f"{name}_low"], row[f"{name}_high"] = interval.mean, interval.low, interval.high


def accuracy(cells: Sequence[Cell], confidence: float = 0.95) -> pd.DataFrame:
    """One row per cell: runs, status, learning rate, accuracies (fractions) and loss with t intervals over seeds.

    Diverged runs are counted, never averaged in.
    """
    axes, baselines, rows = varying(cells), sgd_baselines(cells), []
    for cell in cells:
        row = _axes(cell, axes) | {
            "learning_rate": cell.learning_rate(),
            "runs": len(cell.expected),
            "completed": len(cell.completed()),
            "diverged": len(cell.diverged()),
            "missing": len(cell.missing()),
            "status": cell.status(),
        }
        for metric in (*METRICS, CLOSEST, "final_test_loss"):
            values = metric_values(baselines, cell, metric)
            _spread(row, metric, mean_interval(list(values.values()), confidence))
        rows.append(row)
    return pd.DataFrame(rows)


def reached(run: Mapping[str, Any], column: str, target: float) -> int | None:
    """The first epoch whose accuracy is at least `target`, or None."""
    for epoch, value in zip(run["epochs"]["epoch"], run["epochs"][column], strict=True):
        if not math.isnan(value) and value >= target:
            return int(epoch)
    return None


def train_seconds(run: Mapping[str, Any], until: int | None = None) -> float:
    """Seconds of training (no evaluation, start-up or waiting) up to and with an epoch."""
    return sum(
        entry["train_s"] for entry in run["machine"]["epochs"] if until is None or entry["epoch"] <= until
    )


def targets(cells: Sequence[Cell]) -> dict[tuple[str | None, str], float | None]:
    """The test accuracy that "time to baseline" runs to, by form and schedule: the base line less one point.

    Where a write-up is reproduced, its base line, which `CLOSEST` is near to: the best accuracy of SGD at the same
    schedule (`published.sgd_baselines`). In a study without a form, and where SGD and another optimizer do not share a
    schedule, one for all schedules of a form: the best mean final test accuracy at the smallest batch size.
    """
    lines = {place: value for place, value in sgd_baselines(cells).items() if place[0]}
    places = {(cell.form, cell.axes["schedule"]): None for cell in cells}
    common = {form: _best_of_smallest(cells, form) for form in {form for form, _ in places}}
    found = {place: lines[place] if place in lines else common[place[0]] for place in places}
    return {place: None if line is None else line - 0.01 for place, line in found.items()}


def _best_of_smallest(cells: Sequence[Cell], form: str | None) -> float | None:
    candidates = [cell for cell in cells if cell.form == form and cell.values("final_test_accuracy")]
    if not candidates:
        return None
    smallest = min(cell.axes["batch_size"] for cell in candidates)
    means = [
        mean_interval(list(cell.values("final_test_accuracy").values())).mean
        for cell in candidates
        if cell.axes["batch_size"] == smallest
    ]
    return max(means)


def time(cells: Sequence[Cell]) -> pd.DataFrame:
    """One row per cell: means over completed runs, in seconds of training alone.

    ``to_best_validation_s`` and ``to_best_test_s`` are up to the epoch that is best on that split; ``to_baseline_s`` up
    to the first epoch whose test accuracy is at ``baseline`` (`targets`), "not reached" if any run misses it, and
    ``reached`` says how many did. A time that does not exist is a word that says why: "not run", "diverged", "no
    validation split", "no base line" (no run that would give it is complete).
    """
    axes, rows = varying(cells), []
    goals = targets(cells)
    for cell in cells:
        runs, target = list(cell.completed().values()), goals[cell.form, cell.axes["schedule"]]
        row = _axes(cell, axes) | {
            "completed": len(runs),
            "device": ", ".join(sorted({r["machine"]["device"] for r in runs})),
        }
        none = "diverged" if cell.runs else "not run"
        totals = [train_seconds(run) for run in runs]
        row["to_train_s"] = mean_interval(totals).mean if runs else none
        for split, otherwise in (("validation", "no validation split"), ("test", "not evaluated")):
            bests = [run["run"]["results"][f"best_{split}_epoch"] for run in runs]
            times = [
                train_seconds(run, epoch) for run, epoch in zip(runs, bests, strict=True) if epoch is not None
            ]
            row[f"to_best_{split}_s"] = mean_interval(times).mean if times else otherwise if runs else none
        hits = [] if target is None else [reached(run, "test_accuracy", target) for run in runs]
        found = [train_seconds(run, hit) for run, hit in zip(runs, hits, strict=False) if hit is not None]
        whole = bool(found) and len(found) == len(cell.runs)
        row["baseline"] = target
        missed = "no base line" if target is None and runs else "not reached" if cell.runs else none
        row["to_baseline_s"] = mean_interval(found).mean if whole else missed
        row["reached"] = f"{len(found)}/{len(cell.runs)}"
        epochs = [len(run["machine"]["epochs"]) for run in runs]
        images = [run["run"]["samples"]["train"] for run in runs]
        each = [total / count for total, count in zip(totals, epochs, strict=True) if count]
        row["per_epoch_s"] = mean_interval(each).mean
        rates = [image / value for image, value in zip(images, each, strict=False) if value > 0]
        row["images_per_s"] = mean_interval(rates).mean
        row["evaluate_s"] = mean_interval([run["machine"]["clocks"]["evaluate_s"] for run in runs]).mean
        row["startup_s"] = mean_interval([run["machine"]["clocks"]["startup_s"] for run in runs]).mean
        rows.append(row)
    return pd.DataFrame(rows)


def differences(cells: Sequence[Cell], metric: str = "final_test_accuracy") -> pd.DataFrame:
    """Each schedule against the best one of the same form, optimizer, batch size and LR, paired by seed."""
    axes = [axis for axis in varying(cells) if axis != "schedule"]
    groups: dict[str, list[Cell]] = {}
    for cell in cells:
        key = json.dumps(
            [cell.form, {axis: cell.axes[axis] for axis in axes if axis in cell.axes}], sort_keys=True
        )
        groups.setdefault(key, []).append(cell)
    rows = []
    for members in groups.values():
        members = [cell for cell in members if cell.values(metric)]
        if len(members) < 2:
            continue
        best = max(members, key=lambda cell: mean_interval(list(cell.values(metric).values())).mean)
        for cell in members:
            if cell is best:
                continue
            difference = paired_difference(cell.values(metric), best.values(metric))
            row = _axes(cell, axes) | {
                "best_schedule": best.axes["schedule"],
                "schedule": cell.axes["schedule"],
            }
            _spread(row, "difference", difference)
            real = is_real(difference)
            row |= {"pairs": difference.n, "real": "one pair" if real is None else "yes" if real else "no"}
            rows.append(row)
    columns = ["form", *axes, "best_schedule", "schedule", *_ends("difference"), "pairs", "real"]
    return pd.DataFrame(rows, columns=columns)


def largest_batch(
    cells: Sequence[Cell], margin: float = 0.01, metric: str = "final_test_accuracy"
) -> pd.DataFrame:
    """Per form, optimizer and schedule: the largest batch whose mean is within `margin` of the smallest batch's.

    Only series with at least two batch sizes; a batch size of which a run diverged or is missing does not hold.
    ``difference`` is that batch's accuracy less the smallest one's, paired by seed with its t interval; ``sure`` says
    whether the whole interval is within the margin ("one pair" has none), and is empty where the smallest holds alone.
    """
    series: dict[str, list[Cell]] = {}
    for cell in cells:
        others = {axis: value for axis, value in cell.axes.items() if axis not in ("batch_size", "lr")}
        series.setdefault(json.dumps([cell.form, others], sort_keys=True), []).append(cell)
    rows = []
    for members in series.values():
        sizes = sorted({cell.axes["batch_size"] for cell in members})
        if len(sizes) < 2 or len(sizes) != len(members):
            continue
        by_size = {cell.axes["batch_size"]: cell for cell in members}
        first = mean_interval(list(by_size[sizes[0]].values(metric).values())).mean
        if first is None:
            continue
        held = sizes[0]
        for size in sizes[1:]:
            mean = mean_interval(list(by_size[size].values(metric).values())).mean
            whole = len(by_size[size].completed()) == len(by_size[size].expected)
            if mean is not None and whole and mean >= first - margin:
                held = size
        row = {
            "form": members[0].form or "",
            "optimizer": members[0].axes["optimizer"],
            "schedule": members[0].axes["schedule"],
        }
        row |= {"baseline_batch": sizes[0], "baseline": first, "largest_batch": held}
        nothing = Interval(0, None, None, None)
        pairs = (by_size[size].values(metric) for size in (held, sizes[0]))
        difference = nothing if held == sizes[0] else paired_difference(*pairs)
        _spread(row, "difference", difference)
        if difference.mean is None:
            row["sure"] = ""
        else:
            row["sure"] = (
                "one pair" if difference.low is None else "yes" if difference.low >= -margin else "no"
            )
        rows.append(row | {"of": sizes[-1]})
    columns = ["form", "optimizer", "schedule", "baseline_batch", "baseline", "largest_batch"]
    return pd.DataFrame(rows, columns=[*columns, *_ends("difference"), "sure", "of"])


def lr_ranges(ranges: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """One row per range test: status and LR range with factors."""
    ends = ("lr_min", "suggested_lr", "lr_max")
    rows = []
    for entry in ranges:
        row: dict[str, Any] = {
            "range_test": entry["range_test"],
            "optimizer": entry["optimizer"],
            "batch_size": entry["batch_size"],
            "steps_per_decade": entry["steps_per_decade"],
            "seeds": len(entry["seeds"]),
            "status": entry["status"],
        }
        for name in ends:
            value = entry[name] or {}
            row |= {
                name: value.get("value"),
                f"{name}_low": value.get("low"),
                f"{name}_high": value.get("high"),
            }
        rows.append(row)
    columns = ["range_test", "optimizer", "batch_size", "steps_per_decade", "seeds", "status"]
    return pd.DataFrame(rows, columns=[*columns, *_ends(*ends)])


def finders(ranges: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """One row per range test and rule: what the well-known finders answer on the same sweeps."""
    rows = []
    for entry in ranges:
        ours = entry["suggested_lr"] or {}
        rows.append(
            {"range_test": entry["range_test"], "rule": "rangefinder", "value": ours.get("value"), "note": ""}
        )
        for name, rule in entry["rules"].items():
            rows.append(
                {
                    "range_test": entry["range_test"],
                    "rule": name,
                    "value": rule.get("value"),
                    "note": rule.get("note") or "",
                }
            )
    return pd.DataFrame(rows, columns=["range_test", "rule", "value", "note"])


def runs(study: Mapping[str, Any], records: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """One row per planned run: status and results; a run without a record says "missing"."""
    known = {record["run"]["run"]: record for record in records}
    rows = []
    for entry in study["runs"]:
        name = entry["run"]
        record = known.get(name)
        row: dict[str, Any] = {"run": name, "form": entry["form"] or "", "seed": entry["seed"]}
        row["status"] = record["run"]["status"] if record else "missing"
        row["diverged_at_step"] = (record["run"]["divergence"] or {}).get("step") if record else None
        row["learning_rate"] = record["run"]["lr"]["value"] if record else None
        for metric in (*METRICS, "final_test_loss", "best_validation_epoch"):
            row[metric] = record["run"]["results"][metric] if record else None
        rows.append(row)
    frame = pd.DataFrame(rows)
    for column in ("diverged_at_step", "best_validation_epoch"):
        frame[column] = frame[column].astype("Int64")
    return frame


def csv(frame: pd.DataFrame) -> str:
    """A table as CSV text: ten digits, empty where there is no number."""
    # The format of floats reaches no column that also holds words.
    mixed = [name for name in frame if frame[name].dtype == object]
    frame = frame.assign(**{name: frame[name].map(_ten_digits) for name in mixed})
    return frame.to_csv(index=False, lineterminator="\n", float_format="%.10g")


def _ten_digits(value: Any) -> Any:
    return f"{value:.10g}" if isinstance(value, float) and not math.isnan(value) else value
