"""Memory that runs out: one typed error with its advice, and the smaller micro-batch of the next try."""

from __future__ import annotations

import errno
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from .errors import RunError

log = logging.getLogger(__name__)


class OutOfMemory(RunError):
    """The run does not fit into the device's memory.

    Args:
        where: in what it ran out ("with 64 samples at once").
        advice: what to do.
    """

    status = "out_of_memory"

    def __init__(self, where: str, advice: str) -> None:
        super().__init__(f"out of memory {where}; {advice}")
        self.advice = advice


MORE = "give the job more memory or a larger device"


# What allocators of the CPU, CUDA, cuDNN and cuBLAS say where they do not raise an error of their own type.
_NO_MEMORY = ("can't allocate memory", "out of memory", "STATUS_ALLOC_FAILED")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, in whatever words."""
    if isinstance(error, OSError):  # a file that is not mapped; its name may say anything
        return error.errno == errno.ENOMEM
    own = isinstance(error, MemoryError | torch.OutOfMemoryError)
    return own or any(text in str(error) for text in _NO_MEMORY)


@contextmanager
def watched(parameters: Mapping[str, Any], progress: dict[str, Any], processes: int = 1) -> Iterator[None]:
    """Turn every way in which memory can run out into `OutOfMemory` with its advice, noted in `progress`."""
    try:
        yield
    except OutOfMemory as error:  # where a step takes its samples needs no less
        progress |= {"advice": error.advice, "halve": False}
        raise
    except (MemoryError, RuntimeError, OSError) as error:
        if not is_out_of_memory(error):
            raise
        at_once = parameters.get("micro_batch") or -(-parameters["batch_size"] // processes)
        found = _too_many(at_once, "", "micro_batch")
        progress |= {"micro_batch": at_once, "advice": found.advice, "halve": at_once > 1}
        raise found from error


@contextmanager
def loading() -> Iterator[None]:
    """Say that it was the data for which memory did not suffice."""
    try:
        yield
    except (MemoryError, RuntimeError, OSError) as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemory("while the data were loaded", MORE) from error


@contextmanager
def evaluating(at_once: int) -> Iterator[None]:
    """Say that it was an evaluation, of so many samples at once, for which memory did not suffice."""
    try:
        yield
    except (MemoryError, RuntimeError, OSError) as error:
        if not is_out_of_memory(error):
            raise
        raise _too_many(at_once, "in an evaluation ", "eval_batch_size") from error


def _too_many(at_once: int, where: str, setting: str) -> OutOfMemory:
    if at_once == 1:
        return OutOfMemory(f"{where}with 1 sample at once", f"run.{setting} cannot be smaller: {MORE}")
    advice = f"set run.{setting} to {at_once // 2} or less"
    return OutOfMemory(f"{where}with {at_once} samples at once", advice)


def halved(parameters: Mapping[str, Any], note: Mapping[str, Any] | None) -> int | None:
    """The micro-batch of a run that ran out of memory before: the next divisor of its batch at half as many.

    A try that ended otherwise since, or of which no smaller one is of use, is continued with its own.
    """
    if note is None or note["micro_batch"] is None:
        return parameters.get("micro_batch")
    if note["status"] != "out_of_memory" or not note.get("halve", note["micro_batch"] > 1):
        return note["micro_batch"]
    most = note["micro_batch"] // 2
    micro = next(size for size in range(most, 0, -1) if parameters["batch_size"] % size == 0)
    log.warning(
        "memory ran out with %d samples at once; now with %d, as the study asks", note["micro_batch"], micro
    )
    return micro
