"""A signal that asks a job to end: a flag that its loop reads, and at once where nothing would be cut in two."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

from .errors import RunError


class Interrupted(RunError):
    """The run was told to stop (SIGTERM or SIGINT) and has written its checkpoint."""

    status = "interrupted"


class Told(KeyboardInterrupt):
    """A job was told to end (SIGTERM or SIGINT) where it is, for all that is done anew from its start."""

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name} before the job was done")
        self.code = 128 + number  # the exit status that a shell gives it


class Stopped(BaseException):
    """Raised by a signal inside `Stop.at_once`; whoever opened the block sees to it that nothing is lost.

    No `Exception`, for what runs in such a block (a compiler, code of the user's own) may catch those.
    """


class Stop:
    """Whether a signal asked the run to stop.

    Attributes:
        signal: its number; None as long as there was none.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._raises = False

    def note(self, number: int) -> None:
        """Take notice of a signal.

        Raises:
            Stopped: inside `at_once`.
        """
        self.signal = number
        if self._raises:
            self._raises = False
            raise Stopped

    def look(self) -> None:
        """Go on if no signal has come.

        Raises:
            Stopped: one has.
        """
        if self.signal is not None:
            raise Stopped

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Let a signal end the block wherever it is, for blocks that take long and can be done again from their start.

        Raises:
            Stopped: a signal has come, before the block or in it.
        """
        self._raises = True
        try:
            self.look()
            yield
        finally:
            self._raises = False


@contextmanager
def stop_on_signal() -> Iterator[Stop]:
    """Turn SIGTERM and SIGINT into a flag that the loop reads, so that a step is never cut in two.

    Raises:
        Interrupted: a block of `Stop.at_once` was ended outside of a training, which takes care of its own.
    """
    stop = Stop()

    def note(number: int, _frame: object) -> None:
        stop.note(number)

    previous = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    except Stopped:
        name = signal.Signals(stop.signal).name
        raise Interrupted(f"stopped by {name} while a training was set up") from None
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
