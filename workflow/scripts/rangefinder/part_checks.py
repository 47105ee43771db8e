"""One small check of the parts that a study takes from elsewhere, before any job that uses them is queued.

What is ours is checked when the study is read; the user's functions, torchvision's classifiers and torch's own
schedulers can only be tried, which needs torch and the shape of the data, and so a job of its own. Data whose size is
known only once they are prepared are held against the sizes that a study names there too.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from . import lr_checks, names, parts, resolution, schedules, user_code
from .errors import InputError
from .runs import RangeTest, Run, Study, digest

_STAND_IN_LR = 0.1


def needs_check(parameters: Mapping[str, Any]) -> bool:
    """Whether a run or range test uses a part that can only be tried, or data of a size not yet known."""
    return (
        parameters["model"]["name"] not in names.MODELS
        or user_code.is_reference(parameters["optimizer"]["name"])
        or schedules.runs_foreign_code(parameters.get("schedule", {}).get("name"))
        or not parts.is_sized(parameters["dataset"])
    )


def combination(job: Run | RangeTest) -> dict[str, Any]:
    """What the check of a run or range test is given: only what it has to try, so that many jobs share one."""
    parameters, data = job.parameters, job.dataset
    entry = {key: parameters[key] for key in ("model", "optimizer", "initialisation")} | {"data": data}
    if schedules.runs_foreign_code(parameters.get("schedule", {}).get("name")):
        keys = ("schedule", "batch_size", "reference_batch_size", "epochs", "drop_last")
        entry |= {key: parameters[key] for key in keys}
        entry["dataset"] = {key: parameters["dataset"][key] for key in ("validation", "train_samples")}
    if not parts.is_sized(parameters["dataset"]):
        entry["sizes"] = _sizes(parameters, job.study)
    return entry


def _sizes(parameters: Mapping[str, Any], folder: str) -> dict[str, Any]:
    """What has to fit the size of the data: the split, the batch, and lengths that are counted in steps."""
    counts = ("validation", "train_samples", "test_samples")
    sizes = {key: parameters["dataset"][key] for key in counts} | {"batch_size": parameters["batch_size"]}
    schedule = parameters.get("schedule", {})
    in_steps = (schedule.get("per") == "step" and "milestones" in schedule) or "steps" in schedule.get(
        "warmup", {}
    )
    if in_steps and not folder.endswith("-trial"):  # what a trial cuts off is meant to be
        lengths = {key: schedule[key] for key in ("name", "per", "milestones", "warmup") if key in schedule}
        sizes |= {"epochs": parameters["epochs"], "drop_last": parameters["drop_last"], "lengths": lengths}
    return sizes


def key(entry: Mapping[str, Any]) -> str:
    """The name of a combination's check: another part is another check, so that none is ever made twice."""
    return digest(entry)[:16]


def combinations(study: Study) -> dict[str, dict[str, Any]]:
    """Every combination of a study that needs a check, by its key."""
    jobs = (*study.range_tests.values(), *study.runs.values())
    entries = [combination(job) for job in jobs if needs_check(job.parameters)]
    return {key(entry): entry for entry in entries}


def check(entry: Mapping[str, Any], data: Path | str, file: Path | str) -> None:
    """Try one combination: sizes against the data's, a step forward and back on two samples, its schedule's LRs.

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
        if "sizes" in entry:
            _check_sizes(entry["sizes"], description["counts"])
        momentum = _try_network(entry, description)
        if "schedule" in entry:
            _try_schedule(entry, description, momentum)
    except InputError as error:
        raise InputError(str(error), file=file) from error


def _check_sizes(sizes: Mapping[str, Any], counts: Mapping[str, int]) -> None:
    """Hold what `_sizes` collects against the samples that there are."""
    parts.check_counts(sizes, counts["train"], counts["test"])
    samples, batch = parts.left_for_training(sizes, counts["train"]), sizes["batch_size"]
    if batch > samples:
        allowed = f"1 to {samples} (training samples)"
        raise InputError("batch larger than the training set", key="batch_size", value=batch, allowed=allowed)
    if "lengths" in sizes:
        steps = lr_checks.steps_of(samples, batch, sizes["drop_last"])
        lr_checks.check_lengths(sizes["lengths"], sizes["epochs"], steps)


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
    samples = parts.left_for_training(entry["dataset"], description["counts"]["train"])
    steps = max(1, lr_checks.steps_of(samples, entry["batch_size"], entry["drop_last"]))
    resolved = resolution.resolve({**entry, "lr": _STAND_IN_LR}, resolution.STAND_IN)
    schedules.build(
        resolved["schedule"],
        base_lr=resolved["lr"],
        epochs=entry["epochs"],
        steps_per_epoch=steps,
        momentum=momentum,
    )
