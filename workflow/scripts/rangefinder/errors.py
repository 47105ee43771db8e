"""The one error type for bad input, and the one for a run that could not be finished."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


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
        value: the offending value.
        allowed: the allowed values (an iterable of names), or a sentence that says what is allowed.
            With names and a string value, the closest name is proposed ("did you mean ...").
    """

    def __init__(
        self,
        message: str,
        *,
        file: object = None,
        key: str | None = None,
        value: object = None,
        allowed: str | Iterable[object] | None = None,
    ) -> None:
        self.message, self.file, self.key, self.value = message, file, key, value
        parts = []
        if file is not None:
            parts.append(f"{file}: ")
        if key is not None:
            parts.append(f"{key}: ")
        parts.append(message)
        if value is not None:
            shown = repr(value)
            parts.append(f" (got {shown if len(shown) <= 200 else shown[:197] + '...'})")
        if allowed is not None:
            if isinstance(allowed, str):
                parts.append(f"; allowed: {allowed}")
            else:
                names = [str(name) for name in allowed]
                close = difflib.get_close_matches(str(value), names, n=1) if value is not None else []
                if close:
                    parts.append(f"; did you mean {close[0]!r}?")
                parts.append(f"; allowed: {', '.join(names)}")
        super().__init__(" ".join("".join(parts).split("\n")))


class InUse(InputError):
    """Another process works on the same thing now; what it does is no concern of this one's record."""
