"""Separate clocks for what a job spends its time on."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

NAMES = ("wait", "startup", "data", "train", "evaluate", "checkpoint", "compile")


class Clocks:
    """Seconds per activity; one runs at a time, so that they add up to the total.

    Monotonic time, so that a system clock set back cannot make a duration negative.
    """

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(NAMES, 0.0)
        self._paused = 0.0  # seconds that blocks within the running one have counted

    @contextmanager
    def running(self, name: str) -> Iterator[None]:
        """Count the time spent inside the block under `name`, but for what a block within it counts as its own."""
        start, outside = time.perf_counter(), self._paused
        self._paused = 0.0
        try:
            yield
        finally:
            took = time.perf_counter() - start
            self.seconds[name] += took - self._paused
            self._paused = outside + took

    def record(self) -> dict[str, float]:
        """The ``clocks`` entry of machine.json, in seconds rounded to microseconds."""
        entry = {f"{name}_s": round(value, 6) for name, value in self.seconds.items()}
        entry["total_s"] = round(sum(self.seconds.values()), 6)
        return entry
