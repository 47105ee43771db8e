"""How far a study is, from its results alone: any machine that sees the folder may ask, at any time."""

from __future__ import annotations

import re
import socket
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tabulate import tabulate

from . import finished, formats, progress, records, unfinished
from .errors import InputError

# Without a sign for so long a job on another machine is not called running. Twice what the slowest writer
# (`progress.LONGEST_S`) and a network file system's cached directory (60 s by default on NFS) may add up to.
SILENT_AFTER_S = 2 * (progress.LONGEST_S + 60)
KINDS = {"range_test": "range tests", "confirm_lr_range": "confirmations", "train": "runs"}
RUNNING = ("training", "starting", "waiting for a device")
STATES = (
    "done",
    "diverged",
    *RUNNING,
    "no sign",
    "killed",
    *unfinished.WORDS.values(),
    "damaged",
    "not begun",
)


@dataclass(frozen=True)
class Job:
    """One job and how far it is.

    Attributes:
        state: one of `STATES`.
        detail: what else is known, in a few words.
        now: content of its progress file, where there is one that counts.
    """

    kind: str
    name: str
    state: str
    detail: str = ""
    now: Mapping[str, Any] | None = None


def studies(results: Path | str) -> list[Path]:
    """The folders of the studies that were begun in this folder of results, by name."""
    return sorted(path.parents[1] for path in Path(results).glob(f"*/{progress.FOLDER}/{progress.JOBS}"))


def read(folder: Path | str, now: float | None = None) -> tuple[str, list[Job]]:
    """Title and jobs of a study.

    Args:
        folder: the study's results.
        now: the time in seconds since 1970; the clock's by default.

    Raises:
        InputError: the study's list of jobs is missing or damaged.
    """
    folder = Path(folder)
    now = time.time() if now is None else now
    listed = records.read_json(folder / progress.FOLDER / progress.JOBS, "jobs")
    checkpoints = folder / "checkpoints"
    begun = {
        re.sub(r"-[0-9a-f]{16}$", "", path.name)
        for path in (checkpoints.iterdir() if checkpoints.is_dir() else ())
    }
    return listed["title"], [_job(folder, entry, now, begun) for entry in listed["jobs"]]


def _job(folder: Path, entry: Mapping[str, str], now: float, begun: set[str]) -> Job:
    kind, name = entry["kind"], entry["name"]
    path = folder / progress.FOLDER / kind / f"{name}.json"
    sign = _sign(path)
    kept = "; a checkpoint is kept" if kind == "train" and name in begun else ""
    if sign is not None:
        silent = max(0.0, now - sign["time"])
        if sign["host"] == socket.gethostname() and sign["process_start"] is not None:
            alive = progress.process_start(sign["pid"]) == sign["process_start"]
        else:
            alive = silent < SILENT_AFTER_S
        if alive:
            state = {"waiting": "waiting for a device"}.get(sign["phase"], sign["phase"])
            quiet = "" if silent < SILENT_AFTER_S else f", no sign for {progress.clock(silent)}"
            return Job(kind, name, state, f"{sign['host']}, process {sign['pid']}{quiet}", sign)
    record = folder / entry["record"]
    other = ""
    if record.exists():
        try:
            content = records.read_json(record, record.stem)
        except InputError as error:
            return Job(kind, name, "damaged", str(error))
        if content["spec_digest"] == entry["spec_digest"]:
            return _recorded(kind, name, content)
        other = "; the record on disk is of other parameters"
    if kind == "train":
        kept_record = finished.read(folder, name, entry["spec_digest"])
        if kept_record is not None:
            job = _recorded(kind, name, kept_record)
            detail = "; ".join(filter(None, (job.detail, "kept until the other runs of its job are done")))
            return Job(kind, name, job.state, detail)
        try:
            note = unfinished.read(folder / unfinished.FOLDER, name, entry["spec_digest"])
        except InputError as error:
            return Job(kind, name, "damaged", str(error))
        if note is not None:
            return Job(kind, name, unfinished.WORDS[note["status"]], note["cause"] + kept + other)
    if sign is not None and sign["spec_digest"] == entry["spec_digest"]:
        if sign["host"] == socket.gethostname():
            return Job(kind, name, "killed", f"last sign {progress.clock(silent)} ago{kept}{other}", sign)
        return Job(
            kind, name, "no sign", f"of {sign['host']} for {progress.clock(silent)}{kept}{other}", sign
        )
    if kept:
        return Job(kind, name, "killed", (kept + other).removeprefix("; "))
    return Job(kind, name, "not begun", other.removeprefix("; "))


def _sign(path: Path) -> dict[str, Any] | None:
    """The content of a progress file; None if there is none, or what a power cut left of one."""
    try:
        return records.read_json(path, "progress")
    except InputError:
        return None


def _recorded(kind: str, name: str, content: Mapping[str, Any]) -> Job:
    if kind == "train" and content["status"] == "diverged":
        found = content["divergence"]
        cause = found["cause"].replace("_", " ")
        return Job(kind, name, "diverged", f"{cause} at step {found['step']}, epoch {found['epoch']}")
    return Job(kind, name, "done")


# --- shown ---------------------------------------------------------------------------------------------


def text(folder: Path | str, title: str, jobs: list[Job], *, every: bool = False) -> str:
    """A study's status for a terminal: how many jobs are in which state, and each that needs a look.

    Args:
        every: list the done jobs and those not begun as well.
    """
    lines = [f"{folder}: {title}"]
    for kind, words in KINDS.items():
        of_kind = [job.state for job in jobs if job.kind == kind]
        if of_kind:
            counts = Counter(of_kind)
            ended = f"{counts['done'] + counts['diverged']} of {len(of_kind)} done"
            rest = [f"{counts[state]} {state}" for state in STATES[1:] if counts[state]]
            lines.append(f"  {words + ':':15}{', '.join([ended, *rest])}")
    shown = [job for job in jobs if every or job.state not in ("done", "not begun")]
    if shown:
        rows = [_row(job) for job in sorted(shown, key=lambda job: STATES.index(job.state))]
        headers = ("job", "state", "epoch", "step", "loss", "left", "note")
        table = tabulate(rows, headers, tablefmt="simple", disable_numparse=True)
        lines += ["", *(line.rstrip() for line in table.splitlines())]
    return "\n".join(lines)


def _row(job: Job) -> tuple[str, ...]:
    prefix = {"range_test": "range test ", "confirm_lr_range": "confirmation "}.get(job.kind, "")
    now = job.now
    if now is None or now["step"] is None:
        return (prefix + job.name, job.state, "", "", "", "", job.detail)
    epoch, per_epoch = "", now["steps_per_epoch"]
    if per_epoch:
        epochs = -(-now["steps"] // per_epoch)
        epoch = f"{min(now['step'] // per_epoch + 1, epochs)}/{epochs}"
    left = progress.seconds_left(now) if job.state == "training" else None
    return (
        f"{prefix}{job.name}" + (f", training {now['part']}" if now["part"] else ""),
        job.state,
        epoch,
        f"{now['step']}/{now['steps']}",
        formats.loss(now["loss"]) if now["loss"] is not None else "",
        "" if left is None else progress.clock(left),
        job.detail,
    )
