"""A signal that asks a job to end, as a flag that its loop reads."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

from .errors import RunError


class Interrupted(RunError):
    """The run was told to stop (SIGTERM or SIGINT) and has written its checkpoint."""

    status = "interrupted"


class Stop:
    """Whether a signal asked the run to stop."""

    signal: int | None = None


@contextmanager
def stop_on_signal() -> Iterator[Stop]:
    """Turn SIGTERM and SIGINT into a flag that the loop reads, so that a step is never cut in two."""
    stop = Stop()

    def note(number: int, _frame: object) -> None:
        stop.signal = number

    previous = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
