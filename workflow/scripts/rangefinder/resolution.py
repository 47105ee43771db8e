"""A run's learning rates as numbers, once its LR range is known."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import Any

from . import expressions
from .errors import InputError

log = logging.getLogger(__name__)

# A found LR range for checks that are made before there is one.
STAND_IN = {
    "status": "ok",
    **{name: {"value": 0.1} for name in ("lr_min", "suggested_lr", "lr_max")},
}
EXPRESSIONS = ("max_lr", "eta_min", "end_lr", "warmup_multiplier")


def of_job(spec: Mapping[str, Any], lr_range: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """The LR range that a job is given, if it is the one that its specification names.

    Raises:
        InputError: it is of another study or range test.
    """
    for key in ("study", "range_test") if lr_range is not None else ():
        if lr_range[key] != spec[key]:
            raise InputError(
                "is given the LR range of another " + key.replace("_", " "),
                key=key,
                value=lr_range[key],
                allowed=str(spec[key]),
            )
    return lr_range


def resolve(parameters: Mapping[str, Any], lr_range: Mapping[str, Any] | None) -> dict[str, Any]:
    """A run's parameters with every LR expression evaluated.

    In a trial, whose sweeps are short, ``stand_in_lr`` takes the place of what a range test did not find, so that the
    whole chain is tried.

    Args:
        parameters: of a `Run`.
        lr_range: the content of range.json, where the run refers to it.

    Returns:
        The same parameters with ``lr`` and the schedule's LRs as numbers.

    Raises:
        InputError: the range test found no usable number, or an expression is wrong.
    """
    values: dict[str, float] = {}
    used = expressions.names_in(parameters["lr"], [*expressions.RANGE_NAMES, *expressions.SCALE_NAMES])
    for name in EXPRESSIONS:
        if isinstance(parameters["schedule"].get(name), str):
            used |= expressions.names_in(
                parameters["schedule"][name], [*expressions.RANGE_NAMES, *expressions.SCALE_NAMES, "lr"]
            )
    for name, entry in (("lr_min", "lr_min"), ("suggested", "suggested_lr"), ("lr_max", "lr_max")):
        if lr_range is not None and lr_range.get(entry):
            values[name] = lr_range[entry]["value"]
        elif name in used:
            test, status = (lr_range or {}).get("range_test"), (lr_range or {}).get("status")
            if lr_range is not None and "stand_in_lr" in parameters:
                values[name] = parameters["stand_in_lr"]
                log.warning(
                    "range test %r ended as %r and gives no %s; this trial takes %.3g, the middle of the sweep",
                    *(test, status, name, values[name]),
                )
                continue
            raise InputError(
                f"range test {test!r} ended as {status!r} and gives no {name}; widen its range or set a number",
                key="lr",
                value=parameters["lr"],
            )
    if parameters.get("reference_batch_size"):
        values["k"] = parameters["batch_size"] / parameters["reference_batch_size"]
        values["sqrt_k"] = math.sqrt(values["k"])
    resolved = dict(parameters)
    resolved["lr"] = values["lr"] = expressions.evaluate(parameters["lr"], values)
    schedule = dict(parameters["schedule"])
    for name in EXPRESSIONS:
        if isinstance(schedule.get(name), str):
            schedule[name] = expressions.evaluate(schedule[name], values)
    resolved["schedule"] = schedule
    return resolved
