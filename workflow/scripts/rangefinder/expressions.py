"""Learning rates written relative to something known only later: "suggested / 10", "0.05 * k", "lr * 3"."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping

from .errors import InputError

RANGE_NAMES = ("lr_min", "suggested", "lr_max")
SCALE_NAMES = ("k", "sqrt_k")
_TOKEN = re.compile(
    r"\s*(?:(?P<number>\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?)|(?P<name>[a-z_]+)|(?P<op>[*/×÷]))"
)


def parse(text: str | float, names: Iterable[str]) -> list[tuple[str, str | float]]:
    """Split a product of numbers and names into factors: ``[("*", 0.05), ("*", "k")]``.

    Only numbers, the given names and ``* / × ÷`` may stand in it: nothing is ever evaluated as code.

    Raises:
        InputError: anything else (with the expression as value, and what is allowed).
    """
    names = list(names)
    if isinstance(text, int | float) and not isinstance(text, bool):
        return [("*", float(text))]
    factors: list[tuple[str, str | float]] = []
    operator, position, source = "*", 0, str(text).strip()
    expects_factor = True
    while position < len(source):
        match = _TOKEN.match(source, position)
        kind = match.lastgroup if match else None
        if kind is None or (kind == "op") == expects_factor:
            raise _wrong(text, names)
        position = match.end()
        if kind == "op":
            operator, expects_factor = "*" if match["op"] in "*×" else "/", True
            continue
        if kind == "name" and match["name"] not in names:
            raise _wrong(text, names)
        factors.append((operator, match["name"] if kind == "name" else float(match["number"])))
        expects_factor = False
    if expects_factor:
        raise _wrong(text, names)
    return factors


def _wrong(text: object, names: list[str]) -> InputError:
    return InputError(
        "not a learning rate",
        value=text,
        allowed=f"a number above 0, or a product or quotient of numbers and {', '.join(names)}",
    )


def names_in(text: str | float, names: Iterable[str]) -> set[str]:
    """The names an expression refers to."""
    return {factor for _, factor in parse(text, names) if isinstance(factor, str)}


def evaluate(text: str | float, values: Mapping[str, float]) -> float:
    """The expression's value; a positive finite number.

    Raises:
        InputError: not an expression over these names, or the value is not positive and finite.
    """
    result = 1.0
    for operator, factor in parse(text, values):
        number = values[factor] if isinstance(factor, str) else factor
        if operator == "/" and number == 0:
            raise _wrong(text, list(values))
        result = result * number if operator == "*" else result / number
    if not (math.isfinite(result) and result > 0):
        raise _wrong(text, list(values))
    return result
