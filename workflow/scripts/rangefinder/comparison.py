"""Two folders of results held against each other, cell by cell: differences with intervals, and what they come from."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from . import collection, records, tables
from .cells import Cell
from .errors import InputError
from .report import provenance
from .statistics import Interval, mean_interval, paired_difference, welch_difference

METRIC = "final_test_accuracy"
SIDES = ("A", "B")
# Of a row of `cells`, after its axes.
COLUMNS = (
    *(f"{side}{end}" for side in SIDES for end in ("", "_low", "_high", "_status")),
    *("how", "difference", "difference_low", "difference_high", "identical", "parameters"),
    *("time_how", "time_ratio", "time_ratio_low", "time_ratio_high"),
)


def read(results: Path | str) -> dict[str, collection.Collection]:
    """Every study of a folder of results, by the name of its folder, with the records that exist.

    Raises:
        InputError: no such folder, no study in it, or a record that cannot be used.
    """
    results = Path(results)
    if not results.is_dir():
        raise InputError("no such folder of results", file=results)
    found = {}
    for file in sorted(results.glob("*/study.json")):
        folder = file.parent
        runs = sorted((folder / "runs").glob("*/run.json"))
        study = records.read_json(file, "study")
        planned = {entry["run"] for entry in study["runs"]}
        found[folder.name] = collection.collect(
            file,
            sorted((folder / "lr_range").glob("*/range.json")),
            # Runs of an earlier plan may lie beside those of the present one.
            [run for run in runs if run.parent.name in planned],
        )
    if not found:
        raise InputError("no study in this folder of results", file=results, allowed="<study>/study.json")
    return found


def common(left: Mapping[str, Any], right: Mapping[str, Any], folders: Sequence[Path | str]) -> list[str]:
    """The studies that both folders have.

    Raises:
        InputError: there is none.
    """
    both = [name for name in left if name in right]
    if not both:
        raise InputError("no study in common", file=folders[1], value=sorted(right), allowed=sorted(left))
    return both


def difference(ours: Mapping[int, float], theirs: Mapping[int, float]) -> tuple[Interval, str]:
    """Mean of A less mean of B with its 95 % interval, and how it was made.

    Paired over the seeds that both have where these are two or more, or all there are; otherwise Welch's.

    Args:
        ours, theirs: values by seed.
    """
    seeds = set(ours) & set(theirs)
    if not ours or not theirs:
        return Interval(0, None, None, None), "nothing to compare"
    if len(seeds) > 1 or set(ours) == set(theirs):
        return paired_difference(ours, theirs), f"paired, {len(seeds)} seed{'s' if len(seeds) > 1 else ''}"
    return welch_difference(list(ours.values()), list(theirs.values())), (
        f"unpaired, {len(ours)} and {len(theirs)} seeds"
    )


def ratio(ours: Mapping[int, float], theirs: Mapping[int, float]) -> tuple[Interval, str]:
    """Geometric mean of A over that of B with its interval, which is `difference` of the logarithms."""
    logs = [{seed: math.log(value) for seed, value in side.items() if value > 0} for side in (ours, theirs)]
    found, how = difference(*logs)
    ends = (None if value is None else math.exp(value) for value in (found.mean, found.low, found.high))
    return Interval(found.n, *ends), how


def _key(cell: Cell) -> str:
    return json.dumps([cell.form, cell.axes], sort_keys=True)


def _put(row: dict[str, Any], name: str, interval: Interval) -> None:
    row[name], row[f"{name}_low"], row[f"{name}_high"] = interval.mean, interval.low, interval.high


def _axes(cell: Cell) -> dict[str, Any]:
    texts = {
        axis: json.dumps(value) if isinstance(value, dict | list) else value
        for axis, value in cell.axes.items()
    }
    return {"form": cell.form or "", **texts}


def _agreement(left: Cell, right: Cell, of: Callable[[Mapping[str, Any]], Any]) -> str:
    """How many runs of a seed that both have agree in something: "2/2"; empty without such a seed."""
    seeds = sorted(set(left.runs) & set(right.runs))
    same = sum(of(left.runs[seed]["run"]) == of(right.runs[seed]["run"]) for seed in seeds)
    return f"{same}/{len(seeds)}" if seeds else ""


def cells(left: collection.Collection, right: collection.Collection) -> pd.DataFrame:
    """One row per cell that both have: the metric of both, their difference, whether bit-identical, times as a ratio.

    Accuracies are fractions, differences A − B; ``identical`` counts the runs of common seeds whose epochs.csv and
    steps.csv have the same digest, ``parameters`` those whose resolved parameters are the same; ``time_ratio`` is
    seconds of training of A over those of B.
    """
    others = {_key(cell): cell for cell in right.cells}
    rows = []
    for cell in left.cells:
        if _key(cell) not in others:
            continue
        other = others[_key(cell)]
        row = _axes(cell)
        for side, one in zip(SIDES, (cell, other), strict=True):
            _put(row, side, mean_interval(list(one.values(METRIC).values())))
            row[f"{side}_status"] = one.status()
        found, row["how"] = difference(cell.values(METRIC), other.values(METRIC))
        _put(row, "difference", found)
        row["identical"] = _agreement(cell, other, lambda run: run["files"])
        row["parameters"] = _agreement(cell, other, lambda run: run["digest"])
        times = [
            {seed: tables.train_seconds(run) for seed, run in one.completed().items()}
            for one in (cell, other)
        ]
        found, row["time_how"] = ratio(*times)
        _put(row, "time_ratio", found)
        rows.append(row)
    if not rows:  # a table without rows has its columns all the same
        axes = list(dict.fromkeys(axis for cell in left.cells for axis in _axes(cell)))
        return pd.DataFrame(columns=[*axes, *COLUMNS])
    return pd.DataFrame(rows)


def ranges(left: collection.Collection, right: collection.Collection) -> pd.DataFrame:
    """One row per range test that both have: the suggested LR of both, and their ratio over the seeds' own answers."""
    others = {entry["range_test"]: entry for entry in right.ranges}
    rows = []
    for entry in left.ranges:
        if entry["range_test"] not in others:
            continue
        pair = entry, others[entry["range_test"]]
        row: dict[str, Any] = {"range_test": entry["range_test"]}
        for side, one in zip(SIDES, pair, strict=True):
            row[f"{side}_status"] = one["status"]
            for name in ("lr_min", "suggested_lr", "lr_max"):
                row[f"{side}_{name}"] = (one[name] or {}).get("value")
        for name in ("lr_min", "suggested_lr", "lr_max"):
            values = [
                {answer["seed"]: answer[name] for answer in one["per_seed"] if answer["status"] == "ok"}
                if one["status"] == "ok"
                else {}
                for one in pair
            ]
            found, how = ratio(*values)
            _put(row, f"{name}_ratio", found)
            row[f"{name}_how"] = how
        rows.append(row)
    return pd.DataFrame(rows)


def only(left: collection.Collection, right: collection.Collection) -> list[dict[str, str]]:
    """The cells that one side alone has, each with the side and its axes in words."""
    keys = [{_key(cell) for cell in side.cells} for side in (left, right)]
    return [
        {"side": side, "cell": ", ".join(f"{axis} {value}" for axis, value in _axes(cell).items() if value)}
        for side, mine, missing_in in zip(SIDES, (left, right), reversed(keys), strict=True)
        for cell in mine.cells
        if _key(cell) not in missing_in
    ]


def origins(left: collection.Collection, right: collection.Collection) -> pd.DataFrame:
    """What both sides were computed by and on, one row per kind, with "yes" where it is the same."""
    found = [provenance(side.runs, side.ranges) for side in (left, right)]
    rows = []
    for kind in ("version", "engine", "data", "devices", "software"):
        texts = ["; ".join(side[kind]) for side in found]
        rows.append({"what": kind, **dict(zip(SIDES, texts, strict=True)), "same": texts[0] == texts[1]})
    return pd.DataFrame(rows)


def text(studies: Mapping[str, tuple[collection.Collection, collection.Collection]]) -> str:
    """`cells` of every study as CSV text, with the study in the first column."""
    frames = [cells(*pair) for pair in studies.values()]
    for name, frame in zip(studies, frames, strict=True):
        frame.insert(0, "study", name)
    return tables.csv(pd.concat(frames, ignore_index=True))
