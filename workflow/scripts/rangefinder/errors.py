"""The one error type for bad input, and the one for a run that could not be finished."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

# Where there is no value to show; null is a value, which a file may have where it is not allowed.
NO_VALUE = object()


class RunError(Exception):
    """A run that could not be finished; the message says why in one line, and what to do.

    Attributes:
        status: how the run ended (`unfinished` records it).
    """

    status = "failed"


class InputError(Exception):
    """Something a user gave cannot be used.

    The message is one line that names the file, the key, the value and what is allowed.

    Args:
        message: what is wrong, as a short clause ("unknown optimizer").
        file: the file it stands in.
        key: dotted path of the key inside the file (``sweeps.schedules.grid.optimizer``).
        value: the offending value, None being shown as null.
        allowed: the allowed values (an iterable of names), or a sentence that says what is allowed.
            With names and a string value, the closest name is proposed ("did you mean ...").
    """

    def __init__(
        self,
        message: str,
        *,
        file: object = None,
        key: str | None = None,
        value: object = NO_VALUE,
        allowed: str | Iterable[object] | None = None,
    ) -> None:
        if allowed is not None and not isinstance(allowed, str):
            allowed = [str(name) for name in allowed]
        self.message, self.file, self.key, self.value, self.allowed = message, file, key, value, allowed
        parts = []
        if file is not None:
            parts.append(f"{file}: ")
        if key is not None:
            parts.append(f"{key}: ")
        parts.append(message)
        if value is not NO_VALUE:
            shown = "null" if value is None else repr(value)
            parts.append(f" (got {shown if len(shown) <= 200 else shown[:197] + '...'})")
        if allowed is not None:
            if isinstance(allowed, str):
                parts.append(f"; allowed: {allowed}")
            else:
                close = difflib.get_close_matches(value, allowed, n=1) if isinstance(value, str) else []
                if close:
                    parts.append(f"; did you mean {close[0]!r}?")
                parts.append(f"; allowed: {', '.join(allowed)}")
        super().__init__(" ".join("".join(parts).split("\n")))

    def of_file(self, file: object) -> InputError:
        """The same, said of another file."""
        return type(self)(self.message, file=file, key=self.key, value=self.value, allowed=self.allowed)


class InUse(InputError):
    """Another process works on the same thing now; what it does is no concern of this one's record."""
