"""What a job is doing now: one small file that lives as long as the job, and says how far it is.

The loop only sets numbers in memory; a thread of its own writes them, at most once a second and in long jobs every
15 seconds, so that a step costs nothing more and the file's age tells whether the job lives.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from . import records
from .errors import InputError
from .runs import Study

log = logging.getLogger(__name__)

FOLDER = "progress"
JOBS = "jobs.json"
# How often the file is written: a share of the job's age so far, between these two.
SHORTEST_S, LONGEST_S, SHARE = 1.0, 15.0, 0.02
LOG_EVERY_S = 60.0


class Progress:
    """How far a job is, as its loop tells it; without a file it only computes the time left.

    Attributes:
        now: content of the file; a dict that is replaced, never changed, so that a thread may read it any time.
    """

    def __init__(self, identity: Mapping[str, Any] | None = None) -> None:
        self.began = time.monotonic()
        self.training_began = self.look_next = self.began
        self.now: dict[str, Any] = {
            **(identity or {}),
            **dict.fromkeys(("part", "first_step", "step", "steps", "steps_per_epoch", "loss", "training_s")),
            "phase": "starting",
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "process_start": process_start(os.getpid()),
        }

    def phase(self, name: str) -> None:
        """The job is now ``starting``, ``waiting`` (for a device) or ``training``."""
        self.now = self.now | {"phase": name}

    def part(self, number: int, count: int) -> None:
        """The job is at training `number` of `count`."""
        self.now = self.now | {"part": f"{number} of {count}"}

    def begin(self, step: int, steps: int, steps_per_epoch: int | None = None) -> None:
        """Training begins after `step` of `steps` steps (0, or a checkpoint's)."""
        self.training_began = self.look_next = time.monotonic()
        self.now = self.now | {
            "phase": "training",
            "first_step": step,
            "step": step,
            "steps": steps,
            "steps_per_epoch": steps_per_epoch,
            "training_s": 0.0,
            "loss": None,
        }

    def made(self, step: int, loss: Callable[[], float]) -> None:
        """`step` steps are made; `loss` reads the latest loss, and is asked at most once a second."""
        moment = time.monotonic()
        if moment < self.look_next:
            return
        self.look_next = moment + SHORTEST_S
        self.now = self.now | {
            "step": step,
            "loss": _finite(loss()),
            "training_s": moment - self.training_began,
        }

    def left(self, step: int) -> str:
        """The time left after `step`, for a line of the log: ", 1:20 left"; empty at the end."""
        elapsed = time.monotonic() - self.training_began
        seconds = seconds_left(self.now | {"step": step, "training_s": elapsed})
        return "" if not seconds else f", {clock(seconds)} left"


def seconds_left(entry: Mapping[str, Any]) -> float | None:
    """Seconds until the last step at the rate since the job (again) began to train; None without a rate.

    The rate includes evaluations and checkpoints, as the elapsed time does.
    """
    if entry["step"] is None or entry["step"] <= entry["first_step"]:
        return None
    per_step = entry["training_s"] / (entry["step"] - entry["first_step"])
    return per_step * (entry["steps"] - entry["step"])


def clock(seconds: float) -> str:
    """A duration as a clock shows it: 0:07, 12:34, 1:02:03, 3 d 01:02:03."""
    whole = round(seconds)
    days, rest = divmod(whole, 86400)
    hours, minutes, seconds = rest // 3600, rest // 60 % 60, rest % 60
    if days:
        return f"{days} d {hours:02d}:{minutes:02d}:{seconds:02d}"
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


def _finite(value: float) -> float | None:
    return value if abs(value) < float("inf") else None


def process_start(pid: int) -> int | None:
    """When a process of this machine began, in clock ticks since boot; None if it is gone or cannot be asked.

    With it a process id that was given to another process is told from the job's own (proc(5), field 22).
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return int(text.rpartition(")")[2].split()[19])


def began() -> float:
    """When this process began, in seconds since boot."""
    return process_start(os.getpid()) / os.sysconf("SC_CLK_TCK")


def moments() -> dict[str, Any]:
    """When this process began, in seconds since boot, and now, which is its end; and what started it."""
    return {
        "began": began(),
        "finished": time.clock_gettime(time.CLOCK_BOOTTIME),
        "parent": [os.getppid(), process_start(os.getppid())],
    }


@contextmanager
def reporting(path: Path | str, identity: Mapping[str, Any]) -> Iterator[Progress]:
    """Keep a job's progress file up to date for the length of the block, and take it away at its end.

    Args:
        path: of the file, on the folder that status is read from.
        identity: ``study``, ``kind``, ``name`` and ``spec_digest`` of the job.
    """
    path = Path(path)
    progress = Progress(identity)
    done = threading.Event()
    writer = threading.Thread(target=_write_until, args=(done, path, progress), daemon=True)
    writer.start()
    try:
        yield progress
    finally:
        done.set()
        writer.join()
        with suppress(OSError):  # never written; or the folder holds other jobs' files
            path.unlink()
            path.parent.rmdir()


def write_jobs(folder: Path | str, study: Study) -> None:
    """Write down what a study's jobs are, for those who look at its results alone."""
    entry = {"study": study.folder, "title": study.title, "jobs": study.jobs()}
    try:
        records.write_json(Path(folder) / FOLDER / JOBS, entry)
    except InputError as error:  # somebody else's results, which are only read
        log.debug("%s", error)


def _write_until(done: threading.Event, path: Path, progress: Progress) -> None:
    pause, logged = 0.2, time.monotonic()
    while not done.wait(pause):
        entry = progress.now
        try:
            records.write_json(path, entry | {"time": time.time()}, lasting=False)
        except InputError as error:  # a full disk must not end a run that could still finish
            log.debug("%s", error)
        moment = time.monotonic()
        pause = min(LONGEST_S, max(SHORTEST_S, SHARE * (moment - progress.began)))
        if entry["phase"] == "training" and moment - logged >= LOG_EVERY_S:
            log.info("%s", brief(entry))
            logged = moment


def brief(entry: Mapping[str, Any]) -> str:
    """One line on a training: step, epoch, loss, time left."""
    words = [f"step {entry['step']}/{entry['steps']}"]
    if entry["part"]:
        words.insert(0, f"training {entry['part']}")
    if entry["loss"] is not None:
        words.append(f"loss {entry['loss']:.4g}")
    seconds = seconds_left(entry)
    if seconds is not None:
        words.append(f"{clock(seconds)} left")
    return ", ".join(words)
