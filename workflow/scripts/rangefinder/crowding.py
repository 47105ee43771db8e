"""How much jobs that run at once on one machine's processors slow each other: steps timed beside companions."""

from __future__ import annotations

import json
import logging
import math
import os
import select
import statistics
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch

from . import data, timing

log = logging.getLogger(__name__)

ROUNDS = 3  # alone and beside companions in turn, so that a change of other load meets both
MOST = 16  # jobs at once that are tried; more are counted as these
CPU = torch.device("cpu")


def factors(subject: Mapping[str, Any], counts: Collection[int], data_root: Path | str) -> dict[str, float]:
    """How many times longer a step takes with so many jobs at once than alone, on the processors of this machine.

    Two jobs share caches, memory and often one core's units, whatever the number of processors that are told.

    Args:
        subject: of `plan.subjects`: what this process and its companions train.
        counts: of jobs at once, at most the processors that this process may use.
        data_root: folder of the prepared data sets.

    Returns:
        The median of `ROUNDS` ratios, at least 1, by the count.
    """
    tried = {count: min(count, MOST) for count in counts if 1 < count <= len(os.sched_getaffinity(0))}
    if not tried:
        return {}
    ratios: dict[int, list[float]] = {count: [] for count in tried.values()}
    train = _pass(subject, data.load(Path(data_root) / subject["data"]))
    try:
        with _companions(max(ratios) - 1, subject, Path(data_root)) as others:
            for _ in range(ROUNDS):
                for count, found in ratios.items():
                    alone = train()
                    with _busy(others[: count - 1]):
                        found.append(train() / alone)
    except OSError as error:  # one of them was killed, for its memory perhaps
        log.warning("how much jobs slow each other could not be measured: %s", error)
        return {}
    return {str(count): max(1.0, statistics.median(ratios[used])) for count, used in tried.items()}


def _pass(subject: Mapping[str, Any], arrays: data.Arrays) -> Callable[[], float]:
    """A function that trains for about `timing.PASS_S` when nothing disturbs it, and tells what it took."""
    _, _, took = timing.trained(subject, arrays, CPU, timing.FIRST_STEPS)
    count = max(timing.FIRST_STEPS, math.ceil(timing.PASS_S * timing.FIRST_STEPS / took["wall"]))
    count = min(count, timing.MOST_STEPS)
    return lambda: timing.trained(subject, arrays, CPU, count)[2]["wall"]


@contextmanager
def _companions(count: int, subject: Mapping[str, Any], data_root: Path) -> Iterator[list[subprocess.Popen]]:
    """Processes that train the same when they are told to, and end with this one: their input ends with it."""
    code = f"from {__package__} import crowding; crowding.keep_company()"
    path = os.pathsep.join([str(Path(__file__).resolve().parents[1]), os.environ.get("PYTHONPATH", "")])
    others = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONPATH": path},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
        )
        for _ in range(count)
    ]
    try:
        _tell(others, json.dumps([subject, str(data_root)]))
        yield others
    finally:
        for other in others:
            with suppress(OSError):
                other.stdin.close()
            other.wait()
            other.stdout.close()


@contextmanager
def _busy(others: Collection[subprocess.Popen]) -> Iterator[None]:
    """The companions train for the length of the block."""
    _tell(others, "train")
    yield
    _tell(others, "stop")


def _tell(others: Collection[subprocess.Popen], line: str) -> None:
    """Send every companion a line, and wait for the answers."""
    for other in others:
        other.stdin.write(line.encode() + b"\n")
    for other in others:
        if not other.stdout.readline():
            raise ChildProcessError(f"process {other.pid} has ended")


def keep_company() -> None:
    """A companion: reads what to train, then trains between the lines ``train`` and ``stop``, and answers each."""
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    subject, data_root = json.loads(_line())
    arrays = data.load(Path(data_root) / subject["data"])
    timing.trained(subject, arrays, CPU, timing.FIRST_STEPS)
    os.write(1, b"ready\n")
    while _line():
        os.write(1, b"training\n")
        while not select.select([0], [], [], 0)[0]:
            timing.trained(subject, arrays, CPU, timing.FIRST_STEPS)
        if not _line():
            return
        os.write(1, b"stopped\n")


def _line() -> bytes:
    """The next line of the input, empty at its end; nothing is read ahead, which would hide it from `select`."""
    found = b""
    while not found.endswith(b"\n"):
        byte = os.read(0, 1)
        if not byte:
            return b""
        found += byte
    return found
