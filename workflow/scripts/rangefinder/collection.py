"""A study's records gathered from disk, for tables, figures and the report."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from . import (
    captions,
    cells,
    findings,
    lr_range,
    published,
    published_curves,
    records,
    shown_findings,
    tables,
    unfinished,
    verdicts,
)
from .errors import InputError


@dataclass
class Collection:
    """A study with the records that exist of it."""

    study: dict[str, Any]
    ranges: list[dict[str, Any]]
    sweeps: dict[str, list[dict[str, Any]]]
    runs: list[dict[str, Any]]
    published_folder: Path | None = None
    confirmations: list[dict[str, Any]] = field(default_factory=list)
    unfinished: dict[str, str] = field(default_factory=dict)  # why a run that was begun has no record

    @cached_property
    def comparisons(self) -> list[dict[str, Any]]:
        """Every published number against our runs of the same cell."""
        if self.published_folder is None:
            return []
        return published.compare(self.study, self.cells, directory=self.published_folder)

    @cached_property
    def published_curves(self) -> list[published_curves.Curve]:
        """Published loss curves; none for a trial, whose shrunk runs are not the published ones."""
        if self.published_folder is None or not self.study["published"] or self.study["trial"]:
            return []
        return published_curves.read(self.study["published"], self.study, directory=self.published_folder)

    @cached_property
    def findings(self) -> list[findings.Finding]:
        """The write-up's claims about the study, answered by our runs."""
        if self.published_folder is None:
            return []
        return findings.findings(self.study, self.cells, self.ranges, directory=self.published_folder)

    @cached_property
    def cells(self) -> list[cells.Cell]:
        """The runs by cell."""
        return cells.group(self.study, self.runs)

    @cached_property
    def frames(self) -> dict[str, pd.DataFrame]:
        """Every table by name."""
        return {
            "accuracy": tables.accuracy(self.cells),
            "time": tables.time(self.cells),
            "differences": tables.differences(self.cells),
            "largest_batch": tables.largest_batch(self.cells),
            "lr_ranges": tables.lr_ranges(self.ranges),
            "finders": tables.finders(self.ranges),
            "confirmation": verdicts.table(self.confirmations),
            "runs": tables.runs(self.study, self.runs),
            "published": published.table(self.comparisons),
            "findings": shown_findings.table(self.findings),
        }

    def tables(self) -> dict[str, str]:
        """CSV text of every table by name."""
        return {name: tables.csv(frame) for name, frame in self.frames.items()}

    def figures(self) -> dict[str, str]:
        """SVG text of every figure that there is something to draw for, by file name.

        Many panels are several figures: ``loss.svg``, ``loss-2.svg`` and so on.
        """
        from . import batch_figures, curve_figures, range_figures, replay_figures

        drawn = {
            f"range-{entry['range_test']}": range_figures.range_test(
                entry, self.sweeps[entry["range_test"]], lr_range.smooth
            )
            for entry in self.ranges
        }
        drawn |= {
            "schedules": curve_figures.lr_schedules(self.cells),
            "loss": curve_figures.loss_curves(self.cells),
            "accuracy": curve_figures.accuracy_curves(self.cells),
            "batch-size": batch_figures.batch_size(self.cells, self.comparisons),
            "replay": replay_figures.replay(self.cells, self.published_curves),
        }
        return {
            captions.part_name(f"{stem}.svg", part): text
            for stem, texts in drawn.items()
            for part, text in enumerate(texts, start=1)
        }

    def report(self, figures: Path, templates: Path) -> dict[str, str]:
        """The Markdown (``md``) and HTML (``html``) report.

        Args:
            figures: folder of the figures.
            templates: folder of the templates.
        """
        from . import report

        texts = {path.name: path.read_text() for path in sorted(figures.glob("*.svg"))}
        described = captions.describe(self.ranges, texts)
        context = report.context(
            self.study,
            self.cells,
            self.runs,
            self.ranges,
            described,
            self.comparisons,
            self.confirmations,
            frames=self.frames,
            findings=self.findings,
            unfinished=self.unfinished,
        )
        return {
            "md": report.render_markdown(context, templates),
            "html": report.render_html(context, texts, templates),
        }


def check_published(study: dict[str, Any], range_tests: Iterable[str], folder: Path | str) -> None:
    """Read what a study is compared with as the report will, without any record of a run.

    Args:
        study: content of study.json.
        range_tests: names of those that the study plans.
        folder: of the published numbers, curves and claims.

    Raises:
        InputError: one of the files cannot be used, or names a cell or a range test that the study does not have.
    """
    published.read(study["published"], study, directory=folder)
    published_curves.read(study["published"], study, directory=folder)
    findings.check(study, cells.group(study, []), range_tests, directory=folder)


def collect(
    study: Path | str,
    ranges: Iterable[Path | str],
    runs: Iterable[Path | str],
    *,
    curves: bool = False,
    published_folder: Path | str | None = None,
    confirmations: Iterable[Path | str] = (),
) -> Collection:
    """Read and check a study's records.

    Args:
        study: study.json.
        ranges: range.json files.
        runs: run.json files.
        published_folder: where published numbers are; None compares with none.
        confirmations: confirmation.json files.
        curves: whether steps.csv of the runs and the sweeps are wanted too (figures need them).

    Raises:
        InputError: a record is damaged, foreign, edited, or of other parameters than the study now has.
    """
    content = records.read_json(study, "study")
    entries = [records.read_range(file, content["folder"]) for file in ranges]
    sweeps = {}
    for file, entry in zip(ranges, entries, strict=True):
        folders = [Path(file).parent / f"seed{seed}" for seed in entry["seeds"]] if curves else []
        sweeps[entry["range_test"]] = [records.read_sweep(folder, content["folder"]) for folder in folders]
    planned = {entry["run"]: entry["spec_digest"] for entry in content["runs"]}
    found = []
    for file in runs:
        run = records.read_run(Path(file).parent, tables=("epochs",))
        # Checked whoever asks, for a report stands for whole records; longer than all else, and few are drawn.
        steps = records.StoredTable(Path(file).parent, "steps", run["run"])
        if curves:
            run["steps"] = steps
        name = run["run"]["run"]
        if name not in planned or name != Path(file).parent.name:
            raise InputError("record of a run that the study does not plan", file=file, key="run", value=name)
        if run["run"]["spec_digest"] != planned[name]:
            raise InputError(
                "record belongs to other parameters than the study now has; run the workflow again", file=file
            )
        found.append(run)
    folder = Path(published_folder) if published_folder else None
    confirmed = _confirmations(confirmations, content, entries)
    missing = sorted(planned.keys() - {run["run"]["run"] for run in found})
    reasons = unfinished.reasons(Path(study).parent, content, missing)
    return Collection(content, entries, sweeps, found, folder, confirmed, reasons)


def _confirmations(
    files: Iterable[Path | str], study: dict[str, Any], ranges: Sequence[dict[str, Any]]
) -> list[dict[str, Any]]:
    """The confirmations, each of the plan that the study has now and of the LR range that is there now."""
    planned = {(entry["range_test"], entry["seed"]): entry["spec_digest"] for entry in study["confirmations"]}
    checksums = {entry["range_test"]: entry["checksum"] for entry in ranges}
    found = []
    for file in files:
        entry = records.read_json(file, "confirmation")
        key = entry["range_test"], entry["seed"]
        test, seed = Path(file).parents[2].name, Path(file).parent.name
        if key not in planned or (test, seed) != (entry["range_test"], f"seed{entry['seed']}"):
            raise InputError(
                "record of a confirmation that the study does not plan", file=file, value=list(key)
            )
        if (entry["spec_digest"], entry["range"]["checksum"]) != (planned[key], checksums.get(key[0])):
            raise InputError(
                "record belongs to other parameters or another LR range than the study now has; run the workflow again",
                file=file,
            )
        found.append(entry)
    return found
