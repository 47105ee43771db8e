"""A trial: what of a study is shrunk to try it out, so that every part of it still takes its turn.

``limits`` is the configuration's `trial`; without limits nothing changes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


def at_most(value: int, name: str, limits: Mapping[str, int]) -> int:
    """A count, or the trial's limit of this name where that is lower."""
    return min(value, limits.get(name, value))


def seeds(written: list[int], limits: Mapping[str, int]) -> tuple[int, ...]:
    """The first seeds, as many as the trial has."""
    return tuple(written[: limits.get("seeds", len(written))])


def samples(dataset: Mapping[str, Any], limits: Mapping[str, int]) -> dict[str, Any]:
    """A data set with no more samples of each part than the trial has."""
    dataset = dict(dataset)
    for part in ("train_samples", "test_samples"):
        if part in limits:
            dataset[part] = at_most(dataset[part] or limits[part], part, limits)
    dataset["validation"] = at_most(dataset["validation"], "validation_samples", limits)
    return dataset


def run_settings(
    settings: Mapping[str, Any], training_samples: int | None, limits: Mapping[str, int]
) -> dict[str, Any]:
    """Run settings with fewer epochs, and with batches divided and no larger than the training set.

    A batch is a whole number from 1, so that k, the batch over its reference, would not be the study's if both were
    divided. The reference shrinks as the run's own batch did instead, to a number that need not be whole.

    Args:
        training_samples: the size of the training set, where it is known.
    """
    divisor = limits.get("batch_divisor", 1)
    written, reference = settings["batch_size"], settings["reference_batch_size"]
    batch, micro = _divided(written, divisor), _divided(settings["micro_batch"], divisor)
    if training_samples is not None:
        batch = min(batch, training_samples)
    if micro is not None:  # one that divides the written batch need not divide this one
        micro = next(size for size in range(min(micro, batch), 0, -1) if batch % size == 0)
    if reference is not None:
        whole, rest = divmod(reference * batch, written)
        reference = reference * batch / written if rest else whole  # 4 and 4.0 would be two runs
    return {
        **settings,
        "batch_size": batch,
        "reference_batch_size": reference,
        "micro_batch": micro,
        "epochs": at_most(settings["epochs"], "epochs", limits),
    }


def _divided(value: int | None, divisor: int) -> int | None:
    return None if value is None else max(1, value // divisor)


def schedule(written: Mapping[str, Any], full: int, epochs: int) -> dict[str, Any]:
    """A schedule over fewer epochs: what is counted in epochs shrinks in proportion, what is in steps is cut off.

    Args:
        full: the study's epochs.
        epochs: the trial's.
    """
    spec = dict(written)
    if epochs == full:
        return spec

    def scaled(value: int) -> int:
        return max(1, math.ceil(value * epochs / full))

    if spec.get("per", "epoch") == "epoch":
        for length in ("step_size", "total_iters", "T_0"):
            if isinstance(spec.get(length), int):
                spec[length] = scaled(spec[length])
        if "milestones" in spec:
            spec["milestones"] = sorted({scaled(value) for value in spec["milestones"]})
    if "warmup" in spec and "epochs" in spec["warmup"]:
        spec["warmup"] = spec["warmup"] | {"epochs": min(epochs - 1, scaled(spec["warmup"]["epochs"]))}
    if spec["name"] == "writeup2":
        spec["warmup_epochs"] = min(epochs - 1, scaled(spec.get("warmup_epochs", 5)))
    return spec


def stand_in_lr(sweep: Mapping[str, Any]) -> float:
    """The middle of a range test's sweep, for runs that refer to it: one as short as a trial's may find no LR."""
    return math.sqrt(sweep["start_lr"] * sweep["end_lr"])
