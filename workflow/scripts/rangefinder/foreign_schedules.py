"""Schedules that are not closed forms of ours: torch's own schedulers run ahead, and the user's functions."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from . import user_code
from .errors import InputError


def run_torch(
    name: str, arguments: Mapping[str, Any], *, base_lr: float, changes: int, momentum: float | None
) -> tuple[np.ndarray, np.ndarray | None]:
    """What ``torch.optim.lr_scheduler.<name>`` sets at each of its steps, found by running it on one weight.

    Args:
        arguments: its keyword arguments; those that are None are left to torch.
        base_lr: LR of the optimizer; CyclicLR's own ``base_lr`` too.
        changes: how many LRs are wanted.
        momentum: the optimizer's momentum or beta1; None if it has none.

    Returns:
        LR and momentum, float64 [changes]; None for a momentum that is left alone.

    Raises:
        InputError: torch refuses the arguments.
    """
    import torch

    given = {key: value for key, value in arguments.items() if value is not None}
    cycles = False
    if name == "CyclicLR":
        cycles = given.setdefault("cycle_momentum", bool(momentum))
        given["base_lr"] = base_lr
        if cycles and momentum is None:
            raise InputError(
                "the optimizer has no momentum to cycle", key="schedule.cycle_momentum", value=True
            )
    weight = torch.nn.Parameter(torch.zeros(()))
    optimizer = torch.optim.SGD([weight], lr=base_lr, momentum=momentum or 0.0)
    lr, momenta = np.empty(changes), np.empty(changes)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # no optimizer step precedes the scheduler's: there is no training
            scheduler = getattr(torch.optim.lr_scheduler, name)(optimizer, **given)
            for change in range(changes):
                group = optimizer.param_groups[0]
                lr[change], momenta[change] = group["lr"], group["momentum"]
                scheduler.step()
    except (TypeError, ValueError, ArithmeticError) as error:
        raise InputError(
            f"{name} refuses its arguments ({error})", key="schedule", value=dict(given)
        ) from error
    return lr, momenta if cycles else None


def run_own(
    reference: str, arguments: Mapping[str, Any], *, base_lr: float, steps: int, steps_per_epoch: int
) -> np.ndarray:
    """The LRs that the user's ``function(base_lr, steps, steps_per_epoch, **arguments)`` returns.

    Returns:
        float64 [steps].

    Raises:
        InputError: the function is missing or fails, or gives something else than `steps` finite numbers from 0.
    """
    function = user_code.load_function(reference, key="schedule.name")
    file = Path(reference.rpartition(":")[0])
    try:
        result = function(base_lr, steps, steps_per_epoch, **arguments)
    except Exception as error:
        raise InputError(
            f"{type(error).__name__}: {error}", file=file, key="schedule.name", value=reference
        ) from error
    allowed = f"one number from 0 for each of the {steps} steps"
    try:
        lr = np.asarray(result, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(
            "returns no numbers", file=file, key="schedule.name", value=reference, allowed=allowed
        ) from error
    if lr.shape != (steps,):
        raise InputError(
            "returns LRs of a wrong shape", file=file, key="schedule.name", value=lr.shape, allowed=allowed
        )
    if not np.isfinite(lr).all() or (lr < 0).any():
        wrong = int(np.flatnonzero(~(np.isfinite(lr) & (lr >= 0)))[0])
        raise InputError(
            f"returns {lr[wrong]} for step {wrong}",
            file=file,
            key="schedule.name",
            value=reference,
            allowed=allowed,
        )
    return lr
