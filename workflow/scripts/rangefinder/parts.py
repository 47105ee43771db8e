"""The named parts of a study (optimizer, data set, model), each checked against what there is."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from . import names, trial, user_code
from .errors import NO_VALUE, InputError


class Parts:
    """Checks the parts that a study's file names, and completes what identifies them.

    Args:
        path: the study's file: references are relative to it, and messages name it.
        trial: how the study is shrunk.
    """

    def __init__(self, path: Path, trial: Mapping[str, int]) -> None:
        self.path, self.trial = path, trial

    def wrong(self, message: str, key: str, value: Any = None, allowed: Any = None) -> InputError:
        """The error for a key of the study's file; None is no value, for none of these may be null."""
        value = NO_VALUE if value is None else value
        return InputError(message, file=self.path, key=key, value=value, allowed=allowed)

    def optimizer(self, spec: Mapping[str, Any], key: str) -> dict[str, Any]:
        """An optimizer by name with its arguments."""
        name = spec["name"]
        if user_code.is_reference(name):
            return self._user(dict(spec), f"{key}.name")
        if name not in names.OPTIMIZERS:
            raise self.wrong(
                "unknown optimizer", f"{key}.name", name, [*names.OPTIMIZERS, "path/file.py:function"]
            )
        for argument in spec:
            if argument != "name" and argument not in names.OPTIMIZERS[name]:
                raise self.wrong(f"{name} has no such argument", key, argument, names.OPTIMIZERS[name])
        if (
            name == "SGD"
            and spec.get("nesterov")
            and not (spec.get("momentum") and not spec.get("dampening"))
        ):
            raise self.wrong(
                "needs momentum, and no dampening", f"{key}.nesterov", True, "a momentum above 0"
            )
        if spec.get("fused") and spec.get("foreach"):
            raise self.wrong("stands beside fused", f"{key}.foreach", True, "one of the two")
        return dict(spec)

    def schedule(self, spec: Mapping[str, Any], key: str) -> dict[str, Any]:
        """A schedule by name; the values of the closed forms are checked where they are first computed."""
        name = spec["name"]
        if user_code.is_reference(name):
            known = ("arguments", "warmup")
            spec = self._user(dict(spec), f"{key}.name")
        elif name in names.TORCH_SCHEDULES:
            known = ("per", "warmup", *names.TORCH_SCHEDULES[name])
        else:
            return dict(spec)
        for argument in spec:
            if argument not in ("name", "source_digest", *known):
                raise self.wrong("unknown key", key, argument, known)
        return dict(spec)

    def _user(self, spec: dict[str, Any], key: str) -> dict[str, Any]:
        """A user's own function: found relative to the study, its source part of the run's identity."""
        file, _, function = spec["name"].rpartition(":")
        path = Path(file) if Path(file).is_absolute() else self.path.parent / file
        if not os.path.isfile(path):
            raise self.wrong(
                "no such file", key, spec["name"], "path/file.py:function, relative to the study"
            )
        return spec | {
            "name": f"{path.as_posix()}:{function}",
            "source_digest": hashlib.sha256(path.read_bytes()).hexdigest(),
        }

    def dataset(self, spec: dict[str, Any], key: str) -> dict[str, Any]:
        """A data set by name, with its sizes checked and a trial's limits applied."""
        name = spec["name"]
        if user_code.is_reference(name):
            spec = self._user(spec, f"{key}.name")
        elif name not in names.DATASETS:
            raise self.wrong(
                "unknown data set", f"{key}.name", name, [*names.DATASETS, "path/file.py:function"]
            )
        elif name in ("npz", "imagefolder"):
            place = self.path.parent / spec.get("path", "")
            if "path" not in spec or not os.path.exists(place):
                raise self.wrong(
                    "no such file or folder", f"{key}.path", spec.get("path"), "a path relative to the study"
                )
            spec = spec | {"path": place.as_posix()}
        spec = trial.samples(spec, self.trial)
        facts = names.DATASETS.get(name)
        if facts:
            for sample, most in (
                ("train_samples", facts.train - spec["validation"]),
                ("test_samples", facts.test),
            ):
                if sample in self.trial and spec[sample] is not None:
                    spec = spec | {sample: min(spec[sample], most)}  # a trial's limit is an upper one
            try:
                check_counts(spec, facts.train, facts.test)
            except InputError as error:
                allowed = str(error).partition("allowed: ")[2]
                raise self.wrong(error.message, error.key, error.value, allowed) from None
        return spec

    def model(self, spec: dict[str, Any], key: str) -> dict[str, Any]:
        """A model by name with its arguments."""
        name = spec["name"]
        if user_code.is_reference(name):
            return self._user(spec, f"{key}.name")
        if name in names.MODELS:
            for argument in spec:
                if argument not in ("name", "classes", *names.MODELS[name]):
                    raise self.wrong(
                        f"{name} has no such argument", key, argument, ["classes", *names.MODELS[name]]
                    )
        elif not re.fullmatch(r"[a-z0-9_]+", name) or not names.is_torchvision_classifier(name):
            allowed = [*names.MODELS, "a torchvision classifier", "path/file.py:function"]
            raise self.wrong("unknown model", f"{key}.name", name, allowed)
        return spec

    def check_fit(self, dataset: Mapping[str, Any], model: Mapping[str, Any]) -> None:
        """Whether model and normalisation fit the images and classes, where these are known before they are read."""
        facts = names.DATASETS.get(dataset["name"])
        if facts is None:
            return
        side, (channels, *size) = dataset.get("resize"), facts.shape
        try:
            check_image_size(model["name"], (channels, *([side, side] if side else size)))
        except InputError as error:
            allowed = str(error).partition("allowed: ")[2]
            raise self.wrong(error.message, error.key, error.value, allowed) from None
        if (model.get("classes") or facts.classes) < facts.classes:
            allowed = f"{facts.classes} (the data set's classes) or more"
            raise self.wrong("too few outputs", "model.classes", model["classes"], allowed)
        normalise = dataset["normalise"]
        for key, values in normalise.items() if isinstance(normalise, Mapping) else ():
            if len(values) != channels:
                allowed = f"{channels}, one for each channel"
                raise self.wrong("wrong number of values", f"dataset.normalise.{key}", values, allowed)


def check_counts(dataset: Mapping[str, Any], train: int, test: int) -> None:
    """Refuse a split that a data set of so many training and test samples does not have.

    Validation may take half of the training samples at most. What `train_samples` leaves of the rest is the study's to
    choose: how accuracy grows with the data is a question to ask with one validation set.

    Raises:
        InputError: the first count that cannot be.
    """
    validation = dataset["validation"]
    if validation > train - validation:
        what = (
            "no training samples are left" if validation >= train else "more validation than training samples"
        )
        raise InputError(what, key="dataset.validation", value=validation, allowed=f"0 to {train // 2}")
    for key, most in (("train_samples", train - validation), ("test_samples", test)):
        if dataset[key] is not None and dataset[key] > most:
            raise InputError(
                "more than there are", key=f"dataset.{key}", value=dataset[key], allowed=f"1 to {most}"
            )


def check_image_size(model: str, shape: tuple[int, int, int]) -> None:
    """Refuse images (C, H, W) of a size that a built-in model does not take.

    Raises:
        InputError: too small, or not of the one size that it takes.
    """
    least, most = names.IMAGE_SIZES.get(model, (1, None))
    if all(least <= side <= (most or side) for side in shape[1:]):
        return
    takes = f"{least}×{least} images" if most else f"images from {least}×{least}"
    allowed = f"dataset.resize: {least}" + ("" if most else " or more")
    raise InputError(f"{model} takes {takes}", key="model.name", value=tuple(shape), allowed=allowed)


def has_momentum(optimizer: Mapping[str, Any]) -> bool:
    """Whether an optimizer may have momentum, or beta1, for a schedule to change; the user's own may."""
    known = names.OPTIMIZERS.get(optimizer["name"])
    return known is None or bool({"momentum", "betas"} & set(known))


def source_files(dataset: Mapping[str, Any]) -> list[str]:
    """The user's own files and folders whose change makes a data set another one.

    An image folder counts by its class folders, which change with the names in them.
    """
    if dataset["name"] == "npz":
        return [dataset["path"]]
    if dataset["name"] == "imagefolder":
        return sorted(str(folder) for folder in Path(dataset["path"]).glob("*/*/"))
    return []


def is_fetched(dataset: Mapping[str, Any]) -> bool:
    """Whether a data set comes over the network where it is not in a folder of raw data."""
    name = dataset["name"]
    return name not in ("digits", "npz", "imagefolder") and not user_code.is_reference(name)


def training_size(dataset: Mapping[str, Any]) -> int | None:
    """Training samples of a data set as far as they are known before it is read."""
    facts = names.DATASETS.get(dataset["name"])
    if not facts:
        return dataset.get("train_samples")
    return left_for_training(dataset, facts.train)


def left_for_training(dataset: Mapping[str, Any], train: int) -> int:
    """Samples that are trained on, of so many in the training arrays."""
    left = train - dataset["validation"]
    return min(left, dataset["train_samples"] or left)


def is_sized(dataset: Mapping[str, Any]) -> bool:
    """Whether a data set's counts are known before it is read; else `part_checks` looks at them."""
    return names.DATASETS.get(dataset["name"]) is not None
