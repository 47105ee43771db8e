"""The LRs that a confirmation tries: the range's own, the other finders', the user's; equal ones are trained once."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from .finder_rules import RULES

# The range's own entries; twice lr_max ought to fail if lr_max is where stable training ends.
RANGE = ("lr_min", "suggested_lr", "lr_max", "twice_lr_max")
RESERVED = (*RANGE, *RULES)
SAME = 1e-6  # relative: some finders answer in single precision


def collect(lr_range: Mapping[str, Any], own: Mapping[str, float]) -> dict[str, float | None]:
    """What every rule answered, in the order in which it is told.

    Args:
        lr_range: the content of range.json.
        own: LRs of the study's own, by name.

    Returns:
        The LR by rule; None where the rule has none (for the range's own, unless its status is ``ok``).
    """
    found: dict[str, float | None] = {
        name: lr_range[name]["value"] if lr_range[name] else None for name in RANGE[:3]
    }
    found["twice_lr_max"] = None if found["lr_max"] is None else 2 * found["lr_max"]
    found |= {name: lr_range["rules"].get(name, {}).get("value") for name in RULES}
    return found | dict(own)


def distinct(answers: Mapping[str, float | None]) -> tuple[list[float], dict[str, int | None]]:
    """The LRs to train, and which of them is each rule's.

    Args:
        answers: of `collect`.

    Returns:
        LRs in ascending order, those within a millionth of each other once; and by rule the index of its LR, or None.
    """
    rates: list[float] = []
    for lr in sorted(lr for lr in answers.values() if lr is not None):
        if not rates or not math.isclose(lr, rates[-1], rel_tol=SAME):
            rates.append(lr)
    return rates, {name: None if lr is None else _place(lr, rates) for name, lr in answers.items()}


def _place(lr: float, rates: Sequence[float]) -> int:
    return min(range(len(rates)), key=lambda index: abs(math.log(rates[index] / lr)))
