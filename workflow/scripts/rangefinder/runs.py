"""A study as plain data: its runs, its range tests, and the run table they make."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any


@dataclass(frozen=True)
class Run:
    """One training with every parameter resolved, but for the numbers that come from the LR range."""

    study: str
    id: str
    form: str | None
    sweeps: tuple[str, ...]
    axes: dict[str, Any]
    seed: int
    parameters: dict[str, Any]
    dataset: str
    range_test: str | None

    @property
    def spec(self) -> dict[str, Any]:
        """What a training job is given: all that can change its result, and nothing else."""
        return {
            "study": self.study,
            "run": self.id,
            "seed": self.seed,
            "parameters": self.parameters,
            "range_test": self.range_test,
        }


@dataclass(frozen=True)
class Confirmation:
    """Short runs at what was found in an LR range test; a job makes those of one seed.

    Attributes:
        lrs: LRs of the study's own, by name, beside those of the rules.
    """

    seeds: tuple[int, ...]
    lrs: dict[str, float]
    parameters: dict[str, Any]


@dataclass(frozen=True)
class RangeTest:
    """One LR range test; a job runs it for one seed."""

    study: str
    name: str
    optimizer: str
    seeds: tuple[int, ...]
    parameters: dict[str, Any]
    dataset: str
    confirm: Confirmation | None = None

    def spec(self, seed: int) -> dict[str, Any]:
        """What the job of one seed is given."""
        return {"study": self.study, "range_test": self.name, "seed": seed, "parameters": self.parameters}

    def confirmation_spec(self, seed: int) -> dict[str, Any]:
        """What the confirmation of one seed is given; the LR range comes to it from disk."""
        return {
            "study": self.study,
            "range_test": self.name,
            "seed": seed,
            "parameters": self.confirm.parameters,
            "lrs": self.confirm.lrs,
        }


@dataclass
class Study:
    """A study with its run table.

    Attributes:
        name: of the study's file.
        content: the validated file with defaults.
        trial: how it was shrunk, or None.
        runs, range_tests, datasets: by id, name and key.
    """

    name: str
    file: str
    content: dict[str, Any]
    trial: dict[str, int] | None
    runs: dict[str, Run] = field(default_factory=dict)
    range_tests: dict[str, RangeTest] = field(default_factory=dict)
    datasets: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def title(self) -> str:
        return self.content["title"]

    @property
    def folder(self) -> str:
        return folder(self.name, self.trial)

    def record(self) -> dict[str, Any]:
        """The content of study.json: what reports need to know of the study, in the order of its file."""
        keys = ("title", "description", "notes", "published")
        return {
            "name": self.name,
            "folder": self.folder,
            "trial": self.trial,
            **{key: self.content[key] for key in keys},
            "optimizers": list(self.content["optimizers"]),
            "schedules": list(self.content["schedules"]),
            "sweeps": [
                {"name": name, "title": sweep.get("title", ""), "form": sweep.get("form")}
                for name, sweep in self.content["sweeps"].items()
            ],
            "confirmations": [
                {
                    "range_test": test.name,
                    "seed": seed,
                    "spec_digest": digest(test.confirmation_spec(seed)),
                }
                for test in self.range_tests.values()
                for seed in (test.confirm.seeds if test.confirm else ())
            ],
            "runs": [
                {
                    "run": run.id,
                    "form": run.form,
                    "sweeps": list(run.sweeps),
                    "axes": [[axis, value] for axis, value in run.axes.items()],
                    "seed": run.seed,
                    "range_test": run.range_test,
                    "epochs": run.parameters["epochs"],
                    "spec_digest": digest(run.spec),
                }
                for run in self.runs.values()
            ],
        }

    def jobs(self) -> list[dict[str, str]]:
        """The jobs that compute: kind (its rule), name, digest of its specification, and the record it leaves."""
        jobs = []

        def add(kind: str, name: str, spec: dict[str, Any], record: str) -> None:
            jobs.append({"kind": kind, "name": name, "spec_digest": digest(spec), "record": record})

        for test in self.range_tests.values():
            for seed in test.seeds:
                record = f"lr_range/{test.name}/seed{seed}/sweep.json"
                add("range_test", f"{test.name}-seed{seed}", test.spec(seed), record)
        for test in self.range_tests.values():
            for seed in test.confirm.seeds if test.confirm else ():
                record = f"lr_range/{test.name}/confirmation/seed{seed}/confirmation.json"
                add("confirm_lr_range", f"{test.name}-seed{seed}", test.confirmation_spec(seed), record)
        for run in self.runs.values():
            add("train", run.id, run.spec, f"runs/{run.id}/run.json")
        return jobs

    @cached_property
    def digest(self) -> str:
        """Digest of `record`."""
        return digest(self.record())


def digest(value: Any) -> str:
    """sha256 of a plain value's canonical JSON: sorted keys, no spaces."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def folder(name: str, trial: Mapping | None) -> str:
    """The folder of a study's results; a trial's are kept apart."""
    return f"{name}-trial" if trial else name


def run_table(record: Mapping[str, Any]) -> dict[str, list[Any]]:
    """The run table (runs.csv) of a study's `record`, as columns."""
    axes = list(dict.fromkeys(axis for run in record["runs"] for axis, _ in run["axes"]))
    columns: dict[str, list[Any]] = {name: [] for name in ("run", "form", "sweeps", *axes, "seed", "epochs")}
    for run in record["runs"]:
        values = dict(run["axes"]) | {key: run[key] for key in ("run", "form", "seed", "epochs")}
        for name, column in columns.items():
            column.append(" ".join(run["sweeps"]) if name == "sweeps" else values.get(name))
    return columns
