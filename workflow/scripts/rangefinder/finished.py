"""Records of finished runs kept aside while the job that declares them as its outputs is not done.

Snakemake deletes a job's outputs before it starts and when it fails. Where one job trains several runs (`chunks`),
or what a run was made from is made again, that must not cost the runs that are finished: they are kept in
``finished/``, and taken up by the next job that is to train them, if they are still what it would make: same
parameters, same numbers from the LR range, same data.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from . import prepared, records, resolution, runs
from .errors import InputError

log = logging.getLogger(__name__)

FOLDER = "finished"
# run.json comes last, both ways: it vouches for the others.
FILES = ("epochs.csv", "steps.csv", "machine.json", "run.json")
LOG = "run.log"


def keep(study_folder: Path | str, run: str) -> None:
    """Keep a finished run's record and log: as second names of the files, where the file system has such."""
    record, kept = _folders(study_folder, run)
    shutil.rmtree(kept, ignore_errors=True)
    try:
        kept.mkdir(parents=True)
        if log_file(study_folder, run).exists():
            _link(log_file(study_folder, run), kept / LOG)
        for name in FILES:
            _link(record / name, kept / name)
        records.settle(kept)
    except OSError as error:  # a full disk must not end a job that could still finish
        log.warning("%s is not kept for a further attempt of its job: %s", run, error.strerror)
        shutil.rmtree(kept, ignore_errors=True)


def take(
    study_folder: Path | str,
    spec: Mapping[str, Any],
    lr_range: Mapping[str, Any] | None,
    data_folder: Path | str,
) -> bool:
    """Put a kept record in its place, if it is what training would make; what is kept stays until `forget`.

    Args:
        spec: of the run, as its job is given it now.
        lr_range: the content of range.json, for runs whose LR refers to it.
        data_folder: the prepared data set.

    Returns:
        Whether the run's record is there now.

    Raises:
        InputError: the record cannot be written, or the data set's description cannot be read.
    """
    record, kept = _folders(study_folder, spec["run"])
    found = read(study_folder, spec["run"], runs.digest(spec))
    if found is None:
        return False
    try:
        parameters = resolution.resolve(spec["parameters"], resolution.of_job(spec, lr_range))
    except InputError:  # training says so, and leaves a note
        return False
    if (
        parameters.get("on_out_of_memory") == "halve"
    ):  # found by the run itself, and no part of what was asked
        parameters["micro_batch"] = found["parameters"]["micro_batch"]
    data = prepared.read_description(Path(data_folder))["digest"]
    status = lr_range["status"] if lr_range else None
    kept_of = found["digest"], found["provenance"]["data_digest"], found["lr"]["range_status"]
    if kept_of != (runs.digest(parameters), data, status):
        return False
    try:
        record.mkdir(parents=True, exist_ok=True)
        if (kept / LOG).exists():  # a log that is open already goes on behind it
            with open(log_file(study_folder, spec["run"]), "ab") as file:
                file.write((kept / LOG).read_bytes())
        for name in FILES:
            (record / name).unlink(missing_ok=True)
            _link(kept / name, record / name)
    except OSError as error:
        raise InputError(f"cannot be written: {error.strerror}", file=record) from error
    return True


def read(study_folder: Path | str, run: str, spec_digest: str) -> dict[str, Any] | None:
    """The content of a kept run.json; None if there is none, or one that is damaged or of other parameters."""
    _, kept = _folders(study_folder, run)
    if not (kept / "run.json").exists():
        return None
    try:
        found = records.read_run(kept)["run"]
    except InputError as error:
        log.warning("%s", error)
        return None
    return found if (found["run"], found["spec_digest"]) == (run, spec_digest) else None


def exists(study_folder: Path | str, run: str) -> bool:
    """Whether a run has a record, be it in its place or kept; what that says is not looked at."""
    return any((folder / "run.json").exists() for folder in _folders(study_folder, run))


def forget(study_folder: Path | str, names: Iterable[str]) -> None:
    """Delete what is kept of these runs."""
    for run in names:
        shutil.rmtree(_folders(study_folder, run)[1], ignore_errors=True)
    with suppress(OSError):  # never made; or it holds other runs' records
        (Path(study_folder) / FOLDER).rmdir()


def log_file(study_folder: Path | str, run: str) -> Path:
    """The log of a run's training."""
    return Path(study_folder) / "logs" / "train" / f"{run}.log"


def _folders(study_folder: Path | str, run: str) -> tuple[Path, Path]:
    return Path(study_folder) / "runs" / run, Path(study_folder) / FOLDER / run


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except FileNotFoundError:
        raise
    except OSError:  # a file system without hard links
        shutil.copyfile(source, target)
