"""One small check of the parts that a study takes from elsewhere, before any job that uses them is queued.

What is ours is checked when the study is read; the user's functions, torchvision's classifiers and torch's own
schedulers can only be tried, which needs torch and the shape of the data, and so a job of its own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from . import names, resolution, schedules, user_code
from .errors import InputError
from .runs import Study, digest

_STAND_IN_LR = 0.1


def needs_check(parameters: Mapping[str, Any]) -> bool:
    """Whether a run or range test uses a part that can only be tried."""
    return (
        parameters["model"]["name"] not in names.MODELS
        or user_code.is_reference(parameters["optimizer"]["name"])
        or schedules.runs_foreign_code(parameters.get("schedule", {}).get("name"))
    )


def combination(parameters: Mapping[str, Any], data: str) -> dict[str, Any]:
    """What the check of a run or range test is given: only what it has to try, so that many jobs share one.

    Args:
        parameters: of the run or range test.
        data: key of its prepared data set.
    """
    entry = {key: parameters[key] for key in ("model", "optimizer", "initialisation")} | {"data": data}
    if schedules.runs_foreign_code(parameters.get("schedule", {}).get("name")):
        keys = ("schedule", "batch_size", "reference_batch_size", "epochs", "drop_last")
        entry |= {key: parameters[key] for key in keys}
        entry["dataset"] = {key: parameters["dataset"][key] for key in ("validation", "train_samples")}
    return entry


def key(entry: Mapping[str, Any]) -> str:
    """The name of a combination's check: another part is another check, so that none is ever made twice."""
    return digest(entry)[:16]


def combinations(study: Study) -> dict[str, dict[str, Any]]:
    """Every combination of a study that needs a check, by its key."""
    jobs = (*study.range_tests.values(), *study.runs.values())
    entries = [combination(job.parameters, job.dataset) for job in jobs if needs_check(job.parameters)]
    return {key(entry): entry for entry in entries}


def check(entry: Mapping[str, Any], data: Path | str, file: Path | str) -> None:
    """Try one combination: one step forward and back on two samples, every LR of its schedule.

    Args:
        entry: of `combinations`.
        data: folder of the prepared data set.
        file: the study's, for messages.

    Raises:
        InputError: the first part that cannot be used, and why.
    """
    from .prepared import read_description

    description = read_description(Path(data))
    try:
        momentum = _try_network(entry, description)
        if "schedule" in entry:
            _try_schedule(entry, description, momentum)
    except InputError as error:
        raise InputError(str(error), file=file) from error


def _try_network(entry: Mapping[str, Any], description: Mapping[str, Any]) -> float | None:
    """Build a model and its optimizer, make one step; the optimizer's momentum."""
    from . import models, optimizers

    shape, classes = tuple(description["shape"]), len(description["classes"])
    model, _ = models.seeded_build(
        entry["model"], shape, classes, initialisation=entry["initialisation"], seed=0
    )
    optimizer = optimizers.build(entry["optimizer"], list(model.named_parameters()), lr=_STAND_IN_LR)
    optimizers.check_step(optimizer, model, shape, classes, name=entry["optimizer"]["name"])
    return optimizers.momentum(optimizer)


def _try_schedule(entry: Mapping[str, Any], description: Mapping[str, Any], momentum: float | None) -> None:
    """Compute every LR of a run with stand-ins for the run's LR and its LR range."""
    left = description["counts"]["train"] - entry["dataset"]["validation"]
    samples = min(left, entry["dataset"]["train_samples"] or left)
    round_off = math.floor if entry["drop_last"] else math.ceil
    steps = max(1, round_off(samples / entry["batch_size"]))
    resolved = resolution.resolve({**entry, "lr": _STAND_IN_LR}, resolution.STAND_IN)
    schedules.build(
        resolved["schedule"],
        base_lr=resolved["lr"],
        epochs=entry["epochs"],
        steps_per_epoch=steps,
        momentum=momentum,
    )
