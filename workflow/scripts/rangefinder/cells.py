"""A study's runs grouped into cells: what differs only in the seed belongs together."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

FORMS = ("put-right", None, "as-published")  # the order in which forms are told


@dataclass
class Cell:
    """One combination of settings with its runs by seed.

    Attributes:
        form: as-published, put-right, or None.
        axes: optimizer, schedule, batch_size, lr and what else the study varies.
        expected: seeds the study plans.
        runs: records that exist, by seed (`records.read_run`).
        sweeps: the sweeps it belongs to.
    """

    form: str | None
    axes: dict[str, Any]
    sweeps: list[str]
    expected: list[int] = field(default_factory=list)
    ids: dict[int, str] = field(default_factory=dict)
    runs: dict[int, dict[str, Any]] = field(default_factory=dict)

    def completed(self) -> dict[int, dict[str, Any]]:
        """Records of completed runs by seed."""
        return {seed: run for seed, run in self.runs.items() if run["run"]["status"] == "completed"}

    def diverged(self) -> dict[int, dict[str, Any]]:
        """Records of diverged runs by seed."""
        return {seed: run for seed, run in self.runs.items() if run["run"]["status"] == "diverged"}

    def missing(self) -> list[int]:
        """Seeds without a record."""
        return [seed for seed in self.expected if seed not in self.runs]

    def values(self, metric: str) -> dict[int, float]:
        """A result of the completed runs by seed, where they have it."""
        results = {seed: run["run"]["results"].get(metric) for seed, run in self.completed().items()}
        return {seed: value for seed, value in results.items() if value is not None}

    def learning_rate(self) -> float | None:
        """The number that the cell's LR came to."""
        return next((run["run"]["lr"]["value"] for run in self.runs.values()), None)

    def test_images(self) -> int:
        """How many images of the test set its runs were measured on; 0 without a run."""
        return next((run["run"]["samples"]["test"] for run in self.runs.values()), 0)

    def status(self) -> str:
        """In words: how many runs completed, diverged (and where), are missing."""
        parts = []
        if self.diverged():
            steps = ", ".join(str(run["run"]["divergence"]["step"]) for run in self.diverged().values())
            parts.append(f"{len(self.diverged())}/{len(self.expected)} diverged at step {steps}")
        if self.missing():
            parts.append(f"{len(self.missing())}/{len(self.expected)} missing")
        return "; ".join(parts) or "completed"


def group(study: Mapping[str, Any], runs: Iterable[Mapping[str, Any]]) -> list[Cell]:
    """The study's cells in the order of its file, forms apart.

    Args:
        study: content of study.json.
        runs: records that exist.
    """
    records = {run["run"]["run"]: run for run in runs}
    cells: dict[str, Cell] = {}
    for entry in study["runs"]:
        name = entry["run"]
        key = json.dumps([entry["form"], entry["axes"]], sort_keys=True)
        if key not in cells:
            cells[key] = Cell(entry["form"], dict(entry["axes"]), entry["sweeps"])
        cell = cells[key]
        cell.expected.append(entry["seed"])
        cell.ids[entry["seed"]] = name
        if name in records:
            cell.runs[entry["seed"]] = records[name]
    order = {json.dumps(FORMS[i]): i for i in range(len(FORMS))}
    names = {kind: study[f"{kind}s"] for kind in ("optimizer", "schedule")}
    positions = {key: position for position, key in enumerate(cells)}
    return [
        cells[key]
        for key in sorted(
            cells,
            key=lambda key: (
                order[json.dumps(cells[key].form)],
                names["optimizer"].index(cells[key].axes["optimizer"]),
                names["schedule"].index(cells[key].axes["schedule"]),
                cells[key].axes["batch_size"],
                positions[key],
            ),
        )
    ]


def varying(cells: Iterable[Cell]) -> list[str]:
    """The axes in which cells differ, or that only some have; optimizer and schedule always among them."""
    cells = list(cells)
    seen: dict[str, list[str]] = {}
    for cell in cells:
        for axis, value in cell.axes.items():
            seen.setdefault(axis, []).append(json.dumps(value, sort_keys=True))
    return [
        axis
        for axis, values in seen.items()
        if len(set(values)) > 1 or len(values) < len(cells) or axis in ("optimizer", "schedule")
    ]
