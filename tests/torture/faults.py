"""What can happen to a run or a workflow: each fault is done to a place, and says what the user saw."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from places import FIRST_STEP, RUN, STEPS, Attempt, Job, Place, Workflow

GIB = 2**30
WHERE = r"(after step \d+ of 600|while a training was set up|before the job (began|was done))"


class CannotBeDone(Exception):
    """This machine does not allow the fault; the message says why."""


@dataclass(frozen=True)
class Fault:
    """One kind of fault.

    Attributes:
        name: what happens.
        inflict: does it to a place whose command was not run, and returns what the user saw.
        expected: a pattern that the line the user saw must match.
        remedy: what the user does before the same command is run again.
        places: the kinds of place it can be done to.
        ends_in: "same" records as without the fault, or a "divergence", which is a result.
    """

    name: str
    inflict: Callable[[Place, random.Random], str]
    expected: str
    remedy: str
    places: tuple[type[Place], ...]
    ends_in: str


FAULTS: dict[str, Fault] = {}


def fault(
    name: str,
    expected: str,
    remedy: str = "nothing",
    places: tuple[type[Place], ...] = (Job, Workflow),
    ends_in: str = "same",
):
    """Register a function as a fault."""

    def register(function):
        FAULTS[function.__name__] = Fault(name, function, expected, remedy, places, ends_in)
        return function

    return register


def seen(attempt: Attempt) -> str:
    """The line that tells the user what happened, without the folder's name."""
    lines = [re.sub(r"\s+", " ", line).strip() for line in attempt.output().splitlines()]
    wanted = (
        "error: ",
        "cannot be written",
        "is damaged",
        "diverged at",
        "Error: Directory cannot be locked",
        "ahead of this clock",
        "Will exit after finishing",
        "Terminating processes on user request",
    )
    for pattern in wanted:
        if told := [line for line in lines if pattern in line]:
            return told[-1]
    if attempt.code is not None and attempt.code < 0:
        return f"({signal.Signals(-attempt.code).name})"
    return lines[-1] if lines else "(nothing)"


def moment(place: Place, rng: random.Random) -> float:
    """Seconds after the start, anywhere in the command's life but for its last moments."""
    return rng.uniform(0, 0.8 * place.seconds)


def latest(place: Place) -> list[Path]:
    """The newest checkpoint of every run that has one."""
    return sorted(place.results.glob("torture/checkpoints/*/latest.ckpt"))


def under_way(place: Place, rng: random.Random) -> Attempt:
    """The command, started, at a random moment of a run that has a checkpoint."""
    attempt = place.start()
    while attempt.running and not latest(place):
        time.sleep(0.01)
    attempt.until(rng.uniform(0, 0.5) * (place.seconds if isinstance(place, Job) else 1))
    return attempt


# --- processes that end ------------------------------------------------------------------------------------


@fault("`kill -9` at a random moment, up to five times", r"^\(SIGKILL\)$|finished first")
def killed(place: Place, rng: random.Random) -> str:
    saw = "(finished first)"
    for _ in range(rng.randint(1, 5)):
        attempt = place.start()
        if attempt.until(moment(place, rng)):
            attempt.send(signal.SIGKILL)
        if attempt.wait() == 0:
            break
        saw = seen(attempt)
    return saw


@fault(
    "`kill` (SIGTERM) at a random moment",
    rf"error: stopped by SIGTERM {WHERE}|^\(SIGTERM\)$|^\(finished first\)$"
    "|Will exit after finishing",
)
def terminated(place: Place, rng: random.Random) -> str:
    attempt = place.start()
    if attempt.until(moment(place, rng)):
        attempt.send(signal.SIGTERM)
    return "(finished first)" if attempt.wait() == 0 else seen(attempt)


@fault(
    "Ctrl-C (SIGINT to Snakemake and its jobs) at a random moment",
    rf"error: stopped by SIGINT {WHERE}|^\(finished first\)$|^\(SIGINT\)$"
    "|Terminating processes on user request",
    places=(Workflow,),
)
def interrupted(place: Place, rng: random.Random) -> str:
    attempt = place.start()
    if attempt.until(moment(place, rng)):
        os.killpg(attempt.process.pid, signal.SIGINT)
    return "(finished first)" if attempt.wait() == 0 else seen(attempt)


# --- memory and numbers ------------------------------------------------------------------------------------


@contextmanager
def happening(place: Place, **request: object) -> Iterator[None]:
    """Ask the study's model for something, for the length of the block."""
    path = place.folder / "happens.json"
    path.write_text(json.dumps(request))
    try:
        yield
    finally:
        path.unlink()


@fault(
    "no memory left (`RLIMIT_AS`, a real refusal)",
    r"error: out of memory with 2 samples at once; set run\.micro_batch to 1 or less",
    "get more memory, or take the advice",
)
def out_of_memory(place: Place, rng: random.Random) -> str:
    with happening(place, what="memory", step=rng.randrange(FIRST_STEP, STEPS), bytes=6 * GIB):
        return seen(place.run(RLIMIT_AS=6 * GIB))


@fault(
    "no GPU memory left (`torch.cuda.OutOfMemoryError`, simulated)",
    r"error: out of memory with 2 samples at once; set run\.micro_batch to 1 or less",
    "free the GPU, or take the advice",
)
def out_of_cuda_memory(place: Place, rng: random.Random) -> str:
    with happening(place, what="cuda memory", step=rng.randrange(FIRST_STEP, STEPS)):
        return seen(place.run())


@fault("NaN in the loss at a random step", r"diverged at step \d+ \(epoch \d\)", ends_in="divergence")
def not_finite(place: Place, rng: random.Random) -> str:
    step = rng.randrange(FIRST_STEP, STEPS)
    with happening(place, what="nan", step=step):
        attempt = place.start()
        if rng.random() < 0.5 and attempt.until(moment(place, rng)):
            attempt.send(signal.SIGKILL)
        if attempt.wait() != 0:
            attempt = place.run()
    place.diverges_at = step
    return seen(attempt)


# --- the disk ----------------------------------------------------------------------------------------------


@contextmanager
def small_disk(place: Place, mebibytes: int) -> Iterator[Callable[[str], None]]:
    """A file system of its own for the results; yields a function that remounts it with other options."""
    if os.geteuid() != 0:
        raise CannotBeDone("needs root, to mount a file system")
    content = place.folder / "results-before"
    place.results.mkdir(exist_ok=True)
    place.results.rename(content)
    place.results.mkdir()

    def mount(*arguments: str) -> None:
        for _ in range(100):  # what was just killed may still hold a file open
            done = subprocess.run(
                ["mount", *arguments, str(place.results)], capture_output=True, text=True, check=False
            )
            if "busy" not in done.stderr:
                break
            time.sleep(0.1)
        if done.returncode:
            raise CannotBeDone(f"cannot mount: {done.stderr.strip()}")

    try:
        mount("-t", "tmpfs", "-o", f"size={mebibytes}m", "tmpfs")
        try:
            shutil.copytree(content, place.results, dirs_exist_ok=True)
            yield lambda options: mount("-o", f"remount,{options}")
            shutil.rmtree(content)
            shutil.copytree(place.results, content)
        finally:
            subprocess.run(["umount", "-l", str(place.results)], check=True)
    finally:
        place.results.rmdir()
        content.rename(place.results)


def fill(path: Path) -> None:
    """Write into a file until the disk is full."""
    with open(path, "wb", buffering=0) as file:
        for size in (2**20, 2**12, 1):
            try:
                while True:
                    file.write(b"\0" * size)
            except OSError:
                continue


@fault(
    "disk full from a random moment on", r"error: .*No space left on device|\(finished first\)", "free space"
)
def disk_full(place: Place, rng: random.Random) -> str:
    with small_disk(place, 4):
        filler = place.results / "filler"
        attempt = place.start()
        attempt.until(moment(place, rng) * 0.9)
        fill(filler)
        code = attempt.wait()
        filler.unlink()
        return "(finished first)" if code == 0 else seen(attempt)


@fault(
    "results on a read-only disk",
    r"(error|warning): .*Read-only file system|finished first",
    "make it writable",
)
def read_only(place: Place, rng: random.Random) -> str:
    with small_disk(place, 4) as remount:
        if rng.random() < 0.5:  # with something there already
            attempt = place.start()
            if attempt.until(moment(place, rng)):
                attempt.send(signal.SIGKILL)
            if attempt.wait() == 0:  # then there is nothing to do, and nothing to write
                return "(finished first)"
        remount("ro")
        saw = seen(place.run())
        remount("rw")
        return saw


# --- bytes that change -------------------------------------------------------------------------------------


def damage(path: Path, rng: random.Random) -> None:
    """Cut a file at a random place, or flip a bit of it."""
    data = bytearray(path.read_bytes())
    position = rng.randrange(len(data))
    if rng.random() < 0.5:
        data[position] ^= 1 << rng.randrange(8)
    else:
        del data[position:]
    path.write_bytes(data)


@fault(
    "a checkpoint with flipped or missing bytes", r"(latest|previous)\.ckpt is damaged|no checkpoint was left"
)
def damaged_checkpoint(place: Place, rng: random.Random) -> str:
    attempt = under_way(place, rng)
    attempt.send(signal.SIGKILL)
    attempt.wait()
    both = rng.random() < 0.3
    newest = latest(place)
    for path in newest:
        damage(path, rng)
        if both and path.with_name("previous.ckpt").exists():
            damage(path.with_name("previous.ckpt"), rng)
    attempt = place.run()
    return seen(attempt) if newest else "(no checkpoint was left)"


def with_data(place: Place, rng: random.Random) -> Path:
    """The folder of the prepared data; a workflow is interrupted somewhere after it made them."""
    folder = place.results / "data/digits"
    if not folder.exists():
        attempt = place.start()
        while attempt.running and not (folder / "dataset.json").exists():
            time.sleep(0.01)
        attempt.until(rng.random() * place.seconds / 2)
        attempt.send(signal.SIGKILL)
        attempt.wait()
    return folder


@fault(
    "a file of the prepared data gone",
    r"error: .*\w+\.npy: missing; delete the folder and prepare again|^\(made anew\)$",
    "delete the folder it names (a workflow makes it anew by itself)",
)
def vanished_data(place: Place, rng: random.Random) -> str:
    folder = with_data(place, rng)
    rng.choice(sorted(folder.glob("*.npy"))).unlink()
    attempt = place.run()
    if attempt.code == 0:
        return "(made anew)"
    shutil.rmtree(folder)
    place.prepare()
    return seen(attempt)


@fault(
    "prepared data with a flipped bit",
    r"error: .*\w+\.npy: (contents changed|not a NumPy array|is ).*; delete the folder and prepare again"
    r"|error: .*dataset\.json: .*; delete it and run again",
    "delete the folder, or the description that it names",
)
def damaged_data(place: Place, rng: random.Random) -> str:
    folder = with_data(place, rng)
    path = rng.choice(sorted(folder.glob("*.*")))  # its description too
    data = bytearray(path.read_bytes())
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    with open(path, "r+b") as file:
        file.write(data)
    attempt = place.run()
    shutil.rmtree(folder)
    place.prepare()
    return seen(attempt)


@fault(
    "a record or table with flipped or missing bytes",
    r"error: .*/(\w+\.json|\w+\.csv): .*; delete (it|its folder) and run again",
    "delete what it says: the file it names, or its folder",
    places=(Workflow,),
)
def damaged_record(place: Place, rng: random.Random) -> str:
    assert place.run().code == 0
    patterns = (
        "runs/*/*",
        "lr_range/*/range.json",
        "lr_range/*/*/*/confirmation.json",
        "lr_range/*/*/sweep.csv",
    )
    chosen = rng.choice([*patterns, "study.json"])  # each kind as often, though there are more of runs
    path = rng.choice(sorted(place.results.glob(f"torture/{chosen}")))
    whole = path.read_bytes()
    while path.read_bytes().lower() == whole.lower():  # 1e-5 and 1E-5 are the same number
        path.write_bytes(whole)
        damage(path, rng)
    shutil.rmtree(place.results / "torture/tables")
    for page in place.results.glob("torture/report.*"):
        page.unlink()
    saw = seen(place.run())
    if "delete its folder" in saw:
        shutil.rmtree(path.parent)
    else:
        path.unlink()
    return saw


# --- clocks and company ------------------------------------------------------------------------------------


@fault(
    "the system's clock set back by an hour, in mid-run (simulated: file times, and `time.time` replaced)",
    r"^\(nothing\)$|former copy .* ended without a word|ahead of this clock|Nothing to be done",
)
def clock_set_back(place: Place, rng: random.Random) -> str:
    attempt = place.start()
    if attempt.until(moment(place, rng)):
        attempt.send(signal.SIGKILL)
    attempt.wait()
    ahead = time.time() + 3600  # what was written so far was written when the clock was an hour ahead
    for path in [place.folder, *place.folder.rglob("*")]:
        os.utime(path, (ahead, ahead), follow_symlinks=False)
    with happening(place, what="clock", seconds=3600, step=rng.randrange(FIRST_STEP, STEPS)):
        return seen(place.run())


@fault(
    "the same command twice at once",
    rf"error: .*{RUN}.*another process is training this run now \(.*\); wait for it or end it first|cannot be locked",
    "wait for the first, or end it",
)
def two_at_once(place: Place, rng: random.Random) -> str:
    first = place.start()
    if isinstance(place, Job):
        while first.running and not list(place.results.glob("torture/checkpoints/*.lock")):
            time.sleep(0.005)
        first.send(signal.SIGSTOP)
    else:
        while first.running and not list(place.folder.glob(".snakemake/locks/*")):
            time.sleep(0.01)
        first.until(rng.uniform(0, 0.3) * place.seconds)
    second = place.run()
    first.send(signal.SIGCONT)
    first.wait()
    return seen(second)
