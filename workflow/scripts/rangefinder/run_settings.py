"""The settings of a run: their defaults, what a study changes of them, and checks with the parts that they name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from . import trial, validation
from .parts import Parts, training_size
from .runs import digest

RUN_DEFAULTS: dict[str, Any] = {
    "lr": "suggested",
    "batch_size": 64,
    "reference_batch_size": None,
    "micro_batch": None,
    "epochs": 10,
    "initialisation": "default",
    "precision": "fp32",
    "channels_last": "auto",
    "compile": False,
    "cuda_graph": "auto",
    "order": "counter",
    "drop_last": False,
    "eval_every": 1,
    "eval_batch_size": 1000,
}
DATASET_DEFAULTS: dict[str, Any] = {
    "normalise": "none",
    "augmentation": None,
    "validation": 0,
    "split_seed": 0,
    "train_samples": None,
    "test_samples": None,
}
MERGED = ("dataset", "model")

# Where a run setting's value stands in the file, as a dotted key.
Place = Callable[[str], str]


def placed(*written: tuple[str, Mapping[str, Any]]) -> Place:
    """The first of these that has the setting, for messages; else the study's own `run`."""

    def place(name: str) -> str:
        return next((f"{key}.{name}" for key, mapping in written if name in mapping), f"run.{name}")

    return place


def study_settings(content: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that a study's runs and range tests begin from."""
    base = RUN_DEFAULTS | {
        "dataset": DATASET_DEFAULTS | content["dataset"],
        "model": content["model"],
    }
    return merge(base, content["run"])


def merge(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with changes; a data set's and a model's own keys are merged one by one."""
    merged = {**base, **changes}
    for part in MERGED:
        if part in base and part in changes:
            merged[part] = {**base[part], **changes[part]}
    return merged


def nested(axis: str, value: Any) -> dict[str, Any]:
    """A setting by its dotted name, as settings to merge."""
    top, _, sub = axis.partition(".")
    return {top: {sub: value}} if sub else {top: value}


class RunSettings:
    """Checks run settings; the same part is checked once."""

    def __init__(self, parts: Parts) -> None:
        self.parts, self.wrong = parts, parts.wrong
        self._checked: dict[str, dict[str, Any]] = {}

    def complete(self, settings: dict[str, Any], place: Place) -> dict[str, Any]:
        """Run settings with their parts checked and completed, shrunk in a trial."""
        for part, check in (("dataset", self.parts.dataset), ("model", self.parts.model)):
            mark = f"{part}{digest(settings[part])}"
            if mark not in self._checked:
                self._checked[mark] = check(settings[part], part)
            settings[part] = self._checked[mark]
        self.parts.check_fit(settings["dataset"], settings["model"])
        batch, micro = settings["batch_size"], settings["micro_batch"]
        if micro is not None and batch % micro:
            raise self.wrong(
                "does not divide the batch size", place("micro_batch"), micro, f"a divisor of {batch}"
            )
        size = training_size(settings["dataset"])
        if self.parts.trial:
            return trial.run_settings(settings, size, self.parts.trial)
        if size is not None and batch > size:
            raise self.wrong(
                "batch larger than the training set",
                place("batch_size"),
                batch,
                f"1 to {size} (training samples)",
            )
        return settings

    def check_axis(self, axis: str, values: list, key: str) -> None:
        """Check one axis of a grid: a setting that runs have, each of its values usable and there once."""
        top, _, sub = axis.partition(".")
        schema = validation.schema("study")["$defs"]
        known = schema["run"]["properties"]
        if top not in known or (sub and top not in MERGED):
            raise self.wrong("unknown run setting", f"{key}.grid", axis, sorted(known))
        for value in values:
            validation.check_part(nested(axis, value), "study", "run", self.parts.path, f"{key}.grid.{axis}")
        if len({digest(value) for value in values}) != len(values):
            raise self.wrong("a value stands twice", f"{key}.grid.{axis}", values, "each value once")
