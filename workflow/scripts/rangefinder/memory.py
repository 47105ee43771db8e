"""Memory that runs out: one typed error with its advice, and the smaller micro-batch of the next try."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from .errors import RunError

log = logging.getLogger(__name__)


class OutOfMemory(RunError):
    """The run does not fit into the device's memory."""

    status = "out_of_memory"


# What allocators of the CPU, CUDA, cuDNN and cuBLAS say where they do not raise an error of their own type.
_NO_MEMORY = ("can't allocate memory", "out of memory", "STATUS_ALLOC_FAILED")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, in whatever words."""
    own = isinstance(error, MemoryError | torch.OutOfMemoryError)
    return own or any(text in str(error) for text in _NO_MEMORY)


@contextmanager
def watched(parameters: Mapping[str, Any], progress: dict[str, Any], processes: int = 1) -> Iterator[None]:
    """Turn every way in which memory can run out into `OutOfMemory` with its advice, noted in `progress`."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        at_once = parameters.get("micro_batch") or -(-parameters["batch_size"] // processes)
        advice = f"set run.micro_batch to {max(1, at_once // 2)} or less"
        progress |= {"micro_batch": at_once, "advice": advice}
        raise OutOfMemory(f"out of memory with {at_once} samples at once; {advice}") from error


def halved(parameters: Mapping[str, Any], note: Mapping[str, Any] | None) -> int | None:
    """The micro-batch of a run that ran out of memory before: the next divisor of its batch at half as many.

    A try that ended otherwise since is continued with its own.
    """
    if note is None or note["micro_batch"] is None:
        return parameters.get("micro_batch")
    if note["status"] != "out_of_memory":
        return note["micro_batch"]
    most = max(1, note["micro_batch"] // 2)
    micro = next(size for size in range(most, 0, -1) if parameters["batch_size"] % size == 0)
    log.warning(
        "memory ran out with %d samples at once; now with %d, as the study asks", note["micro_batch"], micro
    )
    return micro
