"""Published numbers as data: read, matched to a study's cells, compared with our runs."""

from __future__ import annotations

import csv
import difflib
import io
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from .cells import Cell
from .errors import InputError
from .statistics import mean_interval, sampling_tolerance, verdict

DIRECTORY = Path(__file__).resolve().parents[3] / "config" / "published"
FORM = "as-published"
AXES = ("optimizer", "schedule", "batch_size", "lr")
COLUMNS = (*AXES, "metric", "value", "train_seconds", "source", "revision", "footnote")

BATCH_MEAN = "batch_mean_test_accuracy"  # not in records older than it
METRICS = {
    "final_test_accuracy": "after the last epoch, on the test set",
    BATCH_MEAN: "after the last epoch, the mean over test batches of each one's accuracy",
    "best_test_accuracy": "highest on the test set over all epochs",
    "closest_to_baseline": "that of the epoch nearest to the best accuracy of SGD on the test set",
    "final_test_loss": "after the last epoch, on the test set",
    "lowest_test_loss": "lowest on the test set over all epochs",
}
LOSSES = tuple(name for name in METRICS if name.endswith("_loss"))

# Two standard errors of a mean over 10,000 images of a loss whose standard deviation is 0.25, a trained LeNet's.
LOSS_TOLERANCE = 0.005

# The best accuracy of SGD by form and schedule (`sgd_baselines`).
Baselines = dict[tuple[str | None, str], float | None]


# --- reading -------------------------------------------------------------------------------------------


def file(name: str, directory: Path | str = DIRECTORY) -> Path:
    """The file of published numbers of this name.

    Raises:
        InputError: there is none.
    """
    directory = Path(directory)
    path = directory / f"{name}.csv"
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name) or not path.is_file():
        known = sorted(found.stem for found in directory.glob("*.csv"))
        raise InputError("no such file of published numbers", key="published", value=name, allowed=known)
    return path


def read(
    name: str, study: Mapping[str, Any] | None = None, *, directory: Path | str = DIRECTORY
) -> list[dict[str, Any]]:
    """The rows of one file of published numbers.

    Args:
        name: the file's stem.
        study: content of study.json; every row must then name one of its cells in the form as-published.
        directory: where the file is.

    Returns:
        One mapping per row with the keys `COLUMNS`: ``batch_size`` whole, ``lr`` as the study writes it (number or
        expression), ``value`` a fraction (losses: nats) or None where none was published, ``train_seconds`` a number
        or None, the rest text.

    Raises:
        InputError: a wrong column, a value that cannot be, a duplicate row, or an unknown cell.
    """
    path = file(name, directory)
    try:
        # Spreadsheets begin a file with a byte-order mark.
        table = list(csv.reader(io.StringIO(path.read_text(encoding="utf-8-sig")), strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"is not a CSV file: {error}", file=path) from error
    header = table[0] if table else []
    for column in header:
        if column not in COLUMNS:
            raise InputError("unknown column", file=path, key="line 1", value=column, allowed=COLUMNS)
    for column in COLUMNS:
        if header.count(column) != 1:
            message = f"the column {column!r} " + ("is missing" if column not in header else "stands twice")
            raise InputError(message, file=path, key="line 1", allowed=COLUMNS)
    known = None if study is None else planned(study)
    rows: list[dict[str, Any]] = []
    seen: dict[tuple, int] = {}
    for number, line in enumerate(table[1:], start=2):
        if len(line) != len(header):
            raise InputError(
                f"{len(line)} values under {len(header)} columns",
                file=path,
                key=f"line {number}",
                value=",".join(line),
                allowed="one value for each column; text with a comma in it stands in quotes",
            )
        row = _typed(dict(zip(header, line, strict=True)), path, number)
        key = (*_key(row), row["metric"], row["revision"])
        if key in seen:
            raise InputError(
                f"the same cell, metric and revision as line {seen[key]}",
                file=path,
                key=f"line {number}",
                value=",".join(line[header.index(column)] for column in (*AXES, "metric", "revision")),
                allowed="one value of a metric for each cell and revision",
            )
        seen[key] = number
        if known is not None and _key(row) not in known:
            name = ",".join(line[header.index(axis)] for axis in AXES)
            raise unknown_cell(study, known, name, path, f"line {number}")
        rows.append(row)
    return rows


def _typed(row: dict[str, str], path: Path, number: int) -> dict[str, Any]:
    def wrong(column: str, allowed: Any) -> InputError:
        key = f"line {number}, {column}"
        return InputError("not usable", file=path, key=key, value=row[column], allowed=allowed)

    typed: dict[str, Any] = dict(row)
    for column in ("optimizer", "schedule", "lr", "source", "revision"):
        if not row[column].strip():
            raise wrong(column, "some text")
    if row["metric"] not in METRICS:
        raise wrong("metric", METRICS)
    if not re.fullmatch(r"[1-9][0-9]*", row["batch_size"]):
        raise wrong("batch_size", "a whole number from 1")
    typed["batch_size"] = int(row["batch_size"])
    typed["lr"] = _number_or_text(row["lr"])
    highest = math.inf if row["metric"] in LOSSES else 1.0
    allowed = "a loss from 0" if row["metric"] in LOSSES else "a fraction from 0 to 1"
    typed["value"] = _number(row["value"], 0.0, highest, lambda: wrong("value", f"{allowed}, or nothing"))
    typed["train_seconds"] = _number(
        row["train_seconds"], 0.0, math.inf, lambda: wrong("train_seconds", "seconds from 0, or nothing")
    )
    return typed


def _number(text: str, low: float, high: float, wrong: Any) -> float | None:
    if text == "":
        return None
    # Python also reads nan, inf, 1_000 and the digits of every script.
    if not re.fullmatch(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?", text):
        raise wrong()
    value = float(text)
    if not (low <= value <= high and math.isfinite(value)):
        raise wrong()
    return value


def _number_or_text(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _key(axes: Mapping[str, Any]) -> tuple:
    """A cell by its axes; numbers compare as numbers however they are written."""
    return tuple(float(axes[axis]) if isinstance(axes[axis], int) else axes[axis] for axis in AXES)


def planned(study: Mapping[str, Any]) -> dict[tuple, str]:
    """The cells that can be compared, by key, each as a line of the file would name it."""
    cells = [dict(run["axes"]) for run in study["runs"] if run["form"] == FORM]
    return {_key(axes): written(axes) for axes in cells}


def written(axes: Mapping[str, Any]) -> str:
    """A cell as a line of the file would name it."""
    return ",".join(str(axes[axis]) for axis in AXES)


def is_planned(axes: Mapping[str, Any], known: Mapping[tuple, str]) -> bool:
    """Whether a cell is one of `planned`."""
    return _key(axes) in known


def unknown_cell(
    study: Mapping[str, Any], known: Mapping[tuple, str], name: str, path: Path, key: str
) -> InputError:
    """The error for a cell that the study does not have, with those that are most like it.

    Args:
        study: content of study.json.
        known: its cells (`planned`).
        name: the cell, as `written`.
        path, key: where it stands.
    """
    allowed = sorted(known.values(), key=lambda cell: -_likeness(cell, name))
    return InputError(
        f"unknown cell: study {study['name']!r} has none in the form {FORM}",
        file=path,
        key=key,
        value=name,
        allowed=[*allowed[:3], *([f"and {len(allowed) - 3} more"] if len(allowed) > 3 else [])],
    )


def _likeness(one: str, other: str) -> float:
    return difflib.SequenceMatcher(None, one, other).ratio()


# --- comparing -----------------------------------------------------------------------------------------


def compare(
    study: Mapping[str, Any], cells: Sequence[Cell], *, directory: Path | str = DIRECTORY
) -> list[dict[str, Any]]:
    """Every published number against our runs of the same cell, in the order of the published file.

    Args:
        study: content of study.json; ``published`` names the file.
        cells: of the study (`cells.group`), whether run or not.

    Returns:
        Mappings with the cell's labels (`AXES`), ``revision``, ``metric``, ``published`` (fraction, or nats; None where
        none was published), ``ours`` (`statistics.Interval` over the seeds that completed), ``difference`` (ours less
        published, or None), ``verdict`` (reproduced, better, worse, diverged, not run, not measured in records older
        than the metric, or not published),
        ``train_seconds``, ``source``, ``footnote``. Nothing for a study without published numbers, nor for a trial,
        whose shrunk runs are not the published ones.

    Raises:
        InputError: the file cannot be used (`read`).
    """
    if not study["published"] or study["trial"]:
        return []
    rows = read(study["published"], study, directory=directory)
    by_key = {_key(cell.axes): cell for cell in cells if cell.form == FORM}
    baselines = sgd_baselines(cells)
    compared = []
    for row in rows:
        cell = by_key[_key(row)]
        values = list(metric_values(baselines, cell, row["metric"]).values())
        ours = mean_interval(values)
        known = ours.mean is not None and row["value"] is not None
        compared.append(
            {
                **{axis: cell.axes[axis] for axis in AXES},
                "revision": row["revision"],
                "metric": row["metric"],
                "published": row["value"],
                "ours": ours,
                "difference": ours.mean - row["value"] if known else None,
                "verdict": _verdict(cell, values, row),
                **{key: row[key] for key in ("train_seconds", "source", "footnote")},
            }
        )
    return compared


def _verdict(cell: Cell, values: Sequence[float], row: Mapping[str, Any]) -> str:
    if row["value"] is None and (values or cell.completed()):
        return "not published"
    if not values:
        if row["metric"] == BATCH_MEAN and cell.completed():
            return "not measured"
        return "diverged" if cell.diverged() else "not run"
    if row["metric"] not in LOSSES:
        ours = mean_interval(values).mean
        return verdict(values, row["value"], tolerance=sampling_tolerance(ours, cell.test_images()))
    found = verdict(values, row["value"], tolerance=LOSS_TOLERANCE)
    return {"better": "worse", "worse": "better"}.get(found, found)  # the lower loss is the better one


def metric_values(baselines: Baselines, cell: Cell, metric: str) -> dict[int, float]:
    """A metric of `METRICS` by seed, over the cell's completed runs; `baselines` are those of its study."""
    if metric == "lowest_test_loss":
        return {seed: float(np.nanmin(run["epochs"]["test_loss"])) for seed, run in cell.completed().items()}
    if metric == "closest_to_baseline":
        baseline = baselines.get((cell.form, cell.axes["schedule"]))
        if baseline is None:
            return {}
        return {
            seed: closest(run["epochs"]["test_accuracy"], baseline) for seed, run in cell.completed().items()
        }
    return cell.values(metric)


def sgd_baselines(cells: Sequence[Cell]) -> Baselines:
    """The base lines of the LARS write-up: the best accuracy on the test set of any SGD run, over batch sizes.

    Taken over the cells of a form and schedule, as a mean over seeds; None while no such run is complete. A form and
    schedule that SGD has alone, or not at all, is left out: nothing is held against it there.
    """
    optimizers: dict[tuple[str | None, str], set[str]] = {}
    for cell in cells:
        optimizers.setdefault((cell.form, cell.axes["schedule"]), set()).add(cell.axes["optimizer"])
    best: Baselines = {}
    for cell in cells:
        place = cell.form, cell.axes["schedule"]
        if len(optimizers[place]) > 1 and any(
            run["run"]["parameters"]["optimizer"]["name"] == "SGD" for run in cell.runs.values()
        ):
            mean = mean_interval(list(cell.values("best_test_accuracy").values())).mean
            known = [value for value in (mean, best.get(place)) if value is not None]
            best[place] = max(known, default=None)
    return best


def closest(accuracies: np.ndarray, target: float) -> float:
    """Of the accuracies by epoch, the one nearest to `target`; the earlier of two equally near."""
    measured = np.asarray(accuracies, dtype=np.float64)
    measured = measured[np.isfinite(measured)]
    return float(measured[np.argmin(np.abs(measured - target))])


def table(comparisons: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """`compare` as a data frame: one row per published number, ours as mean, low and high."""
    rows = []
    for entry in comparisons:
        ours = entry["ours"]
        rows.append(
            {
                **{key: entry[key] for key in ("revision", *AXES, "metric", "published")},
                "ours": ours.mean,
                "ours_low": ours.low,
                "ours_high": ours.high,
                "runs": ours.n,
                **{key: entry[key] for key in ("difference", "verdict", "footnote", "source")},
            }
        )
    columns = ("revision", *AXES, "metric", "published", "ours", "ours_low", "ours_high", "runs")
    return pd.DataFrame(rows, columns=[*columns, "difference", "verdict", "footnote", "source"])
