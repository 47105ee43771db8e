"""A validated study into its run table: grids, sharing, trials, and learning rates resolved to numbers."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from . import expressions, names, schedules, user_code, validation
from .errors import InputError

RUN_DEFAULTS: dict[str, Any] = {
    "lr": "suggested",
    "batch_size": 64,
    "reference_batch_size": None,
    "micro_batch": None,
    "epochs": 10,
    "initialisation": "default",
    "precision": "fp32",
    "channels_last": False,
    "compile": False,
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
# What the prepared files depend on; everything else about a data set is applied when it is loaded.
PREPARED = ("name", "path", "arguments", "resize", "source_digest")
PREFIXES = {"as-published": "published", "put-right": "right"}
MERGED = ("dataset", "model")


@dataclass(frozen=True)
class Run:
    """One training with every parameter resolved, but for the numbers that come from the LR range."""

    study: str
    id: str
    form: str | None
    sweeps: tuple[str, ...]
    axes: dict[str, Any]
    seed: int
    parameters: dict[str, Any]
    dataset: str
    range_test: str | None

    @property
    def spec(self) -> dict[str, Any]:
        """What a training job is given: all that can change its result, and nothing else."""
        return {
            "study": self.study,
            "run": self.id,
            "seed": self.seed,
            "parameters": self.parameters,
            "range_test": self.range_test,
        }


@dataclass(frozen=True)
class RangeTest:
    """One LR range test; a job runs it for one seed."""

    study: str
    name: str
    optimizer: str
    seeds: tuple[int, ...]
    parameters: dict[str, Any]
    dataset: str

    def spec(self, seed: int) -> dict[str, Any]:
        """What the job of one seed is given."""
        return {"study": self.study, "range_test": self.name, "seed": seed, "parameters": self.parameters}


@dataclass
class Study:
    """A study with its run table.

    Attributes:
        name: of the study's file.
        content: the validated file with defaults.
        trial: how it was shrunk, or None.
        runs, range_tests, datasets: by id, name and key.
    """

    name: str
    file: str
    content: dict[str, Any]
    trial: dict[str, int] | None
    runs: dict[str, Run] = field(default_factory=dict)
    range_tests: dict[str, RangeTest] = field(default_factory=dict)
    datasets: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def title(self) -> str:
        return self.content["title"]

    @property
    def folder(self) -> str:
        return folder(self.name, self.trial)

    def record(self) -> dict[str, Any]:
        """The content of study.json: what reports need to know of the study, in the order of its file."""
        keys = ("title", "description", "notes", "published")
        return {
            "name": self.name,
            "folder": self.folder,
            "trial": self.trial,
            **{key: self.content[key] for key in keys},
            "optimizers": list(self.content["optimizers"]),
            "schedules": list(self.content["schedules"]),
            "sweeps": [
                {"name": name, "title": sweep.get("title", ""), "form": sweep.get("form")}
                for name, sweep in self.content["sweeps"].items()
            ],
            "runs": [
                {
                    "run": run.id,
                    "form": run.form,
                    "sweeps": list(run.sweeps),
                    "axes": [[axis, value] for axis, value in run.axes.items()],
                    "seed": run.seed,
                    "range_test": run.range_test,
                    "epochs": run.parameters["epochs"],
                    "spec_digest": digest(run.spec),
                }
                for run in self.runs.values()
            ],
        }

    @cached_property
    def digest(self) -> str:
        """Digest of `record`."""
        return digest(self.record())


def digest(value: Any) -> str:
    """sha256 of a plain value's canonical JSON: sorted keys, no spaces."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def folder(name: str, trial: Mapping | None) -> str:
    """The folder of a study's results; a trial's are kept apart."""
    return f"{name}-trial" if trial else name


# --- configuration and files ---------------------------------------------------------------------------


def load_config(given: Mapping[str, Any], file: str = "config/config.yaml") -> dict[str, Any]:
    """The workflow's configuration, checked, with defaults.

    Values from the command line arrive as text where YAML made them so; `studies` may be one name there.
    """
    given = dict(given)
    if isinstance(given.get("studies"), str):
        given["studies"] = [given["studies"]]
    for key, entry in validation.schema("config")["properties"].items():
        # Snakemake hands over `true` and `{epochs: 2}` of the command line as text.
        if isinstance(given.get(key), str) and "string" not in entry.get("type", "null"):
            given[key] = validation.parse_yaml(given[key], file)
        elif isinstance(given.get(key), Mapping):
            given[key] = {
                name: validation.parse_yaml(value, file) if isinstance(value, str) else value
                for name, value in given[key].items()
            }
    validation.check(given, "config", file)
    config = validation.defaults("config") | given
    for key in ("results", "studies_dir", "data_dir"):
        if config[key] == "":
            raise InputError("is empty", file=file, key=key, allowed="a folder")
    if config["data_dir"] is not None and not Path(config["data_dir"]).is_dir():
        raise InputError(
            "no such folder",
            file=file,
            key="data_dir",
            value=config["data_dir"],
            allowed="a folder in torchvision's layout",
        )
    return config


def find(directory: Path | str) -> dict[str, Path]:
    """The studies of a folder by name."""
    directory = Path(directory)
    if not directory.is_dir():
        raise InputError(
            "no such folder", key="studies_dir", value=str(directory), allowed="a folder of YAML files"
        )
    files = {}
    for path in sorted(directory.glob("*.yaml")):
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", path.stem) or path.stem.endswith("-trial"):
            raise InputError(
                "not usable as a study's name",
                file=path,
                value=path.stem,
                allowed="letters, digits, '.', '_' and '-', not ending in -trial",
            )
        files[path.stem] = path
    return files


def load(path: Path | str, trial: Mapping[str, int] | None = None) -> Study:
    """Read, check and expand a study.

    Args:
        path: the study's YAML file; its stem is the study's name.
        trial: how to shrink it (the configuration's `trial`).

    Raises:
        InputError: the first thing that is wrong with it.
    """
    path = Path(path)
    content = validation.read_yaml(path)
    validation.check(content, "study", path)
    content = validation.defaults("study") | content
    study = Study(path.stem, str(path), content, dict(trial) if trial else None)
    _Expansion(study, path).fill()
    return study


# --- expansion -----------------------------------------------------------------------------------------


class _Expansion:
    """Fills a study's tables, checking as it goes."""

    def __init__(self, study: Study, path: Path) -> None:
        self.study, self.content, self.path = study, study.content, path
        self.trial = study.trial or {}
        self.checked: set[str] = set()
        self.optimizers: dict[str, dict] = {}

    def wrong(self, message: str, key: str, value: Any = None, allowed: Any = None) -> InputError:
        return InputError(message, file=self.path, key=key, value=value, allowed=allowed)

    def fill(self) -> None:
        content = self.content
        for name, spec in content["optimizers"].items():
            self.optimizers[name] = self._optimizer(spec, f"optimizers.{name}")
        self.base = RUN_DEFAULTS | {
            "dataset": DATASET_DEFAULTS | content["dataset"],
            "model": content["model"],
        }
        self.base = _merge(self.base, content["run"])
        for name, test in content["range_tests"].items():
            self.study.range_tests[name] = self._range_test(name, test)
        for name, sweep in content["sweeps"].items():
            for run in self._sweep(name, sweep):
                self._add(run, name)

    # --- parts ---

    def _optimizer(self, spec: Mapping[str, Any], key: str) -> dict[str, Any]:
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
        return dict(spec)

    def _user(self, spec: dict[str, Any], key: str) -> dict[str, Any]:
        """A user's own function: found relative to the study, its source part of the run's identity."""
        file, _, function = spec["name"].rpartition(":")
        path = Path(file) if Path(file).is_absolute() else self.path.parent / file
        if not path.is_file():
            raise self.wrong(
                "no such file", key, spec["name"], "path/file.py:function, relative to the study"
            )
        return spec | {
            "name": f"{path.as_posix()}:{function}",
            "source_digest": hashlib.sha256(path.read_bytes()).hexdigest(),
        }

    def _dataset(self, spec: dict[str, Any], key: str) -> dict[str, Any]:
        name = spec["name"]
        if user_code.is_reference(name):
            spec = self._user(spec, f"{key}.name")
        elif name not in names.DATASETS:
            raise self.wrong(
                "unknown data set", f"{key}.name", name, [*names.DATASETS, "path/file.py:function"]
            )
        elif name in ("npz", "imagefolder"):
            place = self.path.parent / spec.get("path", "")
            if "path" not in spec or not place.exists():
                raise self.wrong(
                    "no such file or folder", f"{key}.path", spec.get("path"), "a path relative to the study"
                )
            spec = spec | {"path": place.as_posix()}
        for limit, sample in (("train_samples", "train_samples"), ("test_samples", "test_samples")):
            if limit in self.trial:
                spec = spec | {sample: min(self.trial[limit], spec[sample] or self.trial[limit])}
        if "validation_samples" in self.trial:
            spec = spec | {"validation": min(self.trial["validation_samples"], spec["validation"])}
        sizes = names.DATASETS.get(name)
        if sizes:
            train, test = sizes
            if spec["validation"] >= train:
                raise self.wrong(
                    "no training samples are left",
                    f"{key}.validation",
                    spec["validation"],
                    f"0 to {train - 1}",
                )
            for sample, most in (("train_samples", train - spec["validation"]), ("test_samples", test)):
                if sample in self.trial and spec[sample] is not None:
                    spec = spec | {sample: min(spec[sample], most)}  # a trial's limit is an upper one
                if spec[sample] is not None and spec[sample] > most:
                    raise self.wrong("more than there are", f"{key}.{sample}", spec[sample], f"1 to {most}")
        return spec

    def _model(self, spec: dict[str, Any], key: str) -> dict[str, Any]:
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

    def _settings(self, settings: dict[str, Any], key: str) -> dict[str, Any]:
        """Run settings with their parts checked; the same part is checked once."""
        for part, check in (("dataset", self._dataset), ("model", self._model)):
            mark = f"{part}{digest(settings[part])}"
            if mark not in self._parts:
                self._parts[mark] = check(settings[part], key if part in key else part)
            settings[part] = self._parts[mark]
        divisor = self.trial.get("batch_divisor", 1)
        if divisor > 1:
            settings["reference_batch_size"] = _divide(settings["reference_batch_size"], divisor)
            settings["batch_size"] = _divide(settings["batch_size"], divisor)
            settings["micro_batch"] = _divide(settings["micro_batch"], divisor)
        if "epochs" in self.trial:
            settings["epochs"] = min(settings["epochs"], self.trial["epochs"])
        size, batch, micro = (
            training_size(settings["dataset"]),
            settings["batch_size"],
            settings["micro_batch"],
        )
        if size is not None and batch > size:
            if not self.trial:
                raise self.wrong(
                    "batch larger than the training set",
                    f"{key}.batch_size",
                    batch,
                    f"1 to {size} (training samples)",
                )
            settings["batch_size"] = batch = size
            micro = settings["micro_batch"] = None if micro is None else min(micro, size)
        if micro is not None and batch % micro:
            raise self.wrong(
                "does not divide the batch size", f"{key}.micro_batch", micro, f"a divisor of {batch}"
            )
        return settings

    @cached_property
    def _parts(self) -> dict[str, dict]:
        return {}

    def _seeds(self, seeds: list[int]) -> list[int]:
        return seeds[: self.trial.get("seeds", len(seeds))]

    def _dataset_key(self, spec: Mapping[str, Any]) -> str:
        """A readable key of what is prepared; specs that differ only when loaded share it."""
        prepared = {key: spec[key] for key in PREPARED if spec.get(key) is not None}
        name = prepared["name"]
        readable = re.sub(
            r"[^A-Za-z0-9]+",
            "-",
            Path(prepared.get("path") or name).stem if "." in name or "path" in prepared else name,
        )
        key = readable.strip("-") or "data"
        if prepared.get("resize"):
            key += f"-{prepared['resize']}x{prepared['resize']}"
        if set(prepared) - {"name", "resize"}:
            key += f"-{digest(prepared)[:8]}"
        self.study.datasets[key] = prepared
        return key

    # --- range tests ---

    def _range_test(self, name: str, test: Mapping[str, Any]) -> RangeTest:
        key = f"range_tests.{name}"
        if test["optimizer"] not in self.optimizers:
            raise self.wrong(
                "unknown optimizer", f"{key}.optimizer", test["optimizer"], list(self.optimizers)
            )
        if test["end_lr"] <= test["start_lr"]:
            raise self.wrong(
                "not above start_lr", f"{key}.end_lr", test["end_lr"], f"a number above {test['start_lr']}"
            )
        if "epochs" in test and "steps_per_decade" in test:
            raise self.wrong(
                "stands beside epochs", f"{key}.steps_per_decade", test["steps_per_decade"], "one of the two"
            )
        settings = _merge(self.base, test.get("set", {}))
        if "batch_size" in test:
            settings["batch_size"] = test["batch_size"]
        settings = self._settings(settings, key)
        for unused in (
            "lr",
            "epochs",
            "eval_every",
            "reference_batch_size",
            "schedule",
            "optimizer",
            "range_test",
        ):
            settings.pop(unused, None)
        settings |= {
            "optimizer": self.optimizers[test["optimizer"]],
            "start_lr": test["start_lr"],
            "end_lr": test["end_lr"],
        }
        if "epochs" in test:
            settings["epochs"] = test["epochs"]  # the length of a sweep says how fast it is: a trial keeps it
        else:
            per_decade = test.get("steps_per_decade", 50)
            settings["steps_per_decade"] = min(per_decade, self.trial.get("steps_per_decade", per_decade))
        settings["validation_every"] = test.get("validation_every", 0)
        settings["stop_factor"] = test.get("stop_factor", 4.0)
        seeds = tuple(self._seeds(test.get("seeds", self.content["seeds"])))
        return RangeTest(
            self.study.folder,
            name,
            test["optimizer"],
            seeds,
            settings,
            self._dataset_key(settings["dataset"]),
        )

    # --- sweeps ---

    def _sweep(self, name: str, sweep: Mapping[str, Any]) -> Iterator[Run]:
        key = f"sweeps.{name}"
        base = _merge(self.base, sweep.get("set", {}))
        grid = sweep.get("grid", {})
        for axis in grid:
            self._axis(axis, grid[axis], key)
        form = sweep.get("form")
        prefix = sweep.get("prefix") or PREFIXES.get(form)
        seeds = self._seeds(sweep.get("seeds", self.content["seeds"]))
        axes = list(grid)
        for cell in sweep.get("cells", [{}]):
            for values in itertools.product(*(grid[axis] for axis in axes)):
                given = dict(cell)
                for axis, value in zip(axes, values, strict=True):
                    given = _merge(given, _nested(axis, value))
                yield from self._cell(_merge(base, given), [*cell, *axes], form, prefix, seeds, key)

    def _axis(self, axis: str, values: list, key: str) -> None:
        top, _, sub = axis.partition(".")
        schema = validation.schema("study")["$defs"]
        known = schema["run"]["properties"]
        if top not in known or (sub and top not in MERGED):
            raise self.wrong("unknown run setting", f"{key}.grid", axis, sorted(known))
        for value in values:
            probe = {"run": _nested(axis, value)}
            validation.check_part(probe["run"], "study", "run", self.path, f"{key}.grid.{axis}")
        if len({digest(value) for value in values}) != len(values):
            raise self.wrong("a value stands twice", f"{key}.grid.{axis}", values)

    def _cell(
        self,
        settings: dict[str, Any],
        varied: list[str],
        form: str | None,
        prefix: str | None,
        seeds: list[int],
        key: str,
    ) -> Iterator[Run]:
        labels = {axis: settings.get(axis) for axis in ("optimizer", "schedule", "batch_size", "lr")}
        for kind in ("optimizer", "schedule"):
            known = self.content[f"{kind}s"]
            if settings.get(kind) is None:
                raise self.wrong(f"no {kind} is named", f"{key}.grid.{kind}", None, list(known))
            if settings[kind] not in known:
                raise self.wrong(f"unknown {kind}", f"{key}.grid.{kind}", settings[kind], list(known))
        full_epochs = settings["epochs"]
        settings = self._settings(settings, key)
        optimizer, schedule = settings["optimizer"], settings["schedule"]
        spec = self._shrunk(self.content["schedules"][schedule], full_epochs, settings["epochs"])
        names_used = self._check_lr(settings, spec, key, schedule)
        range_test = settings.pop("range_test", None)
        if names_used & set(expressions.RANGE_NAMES):
            if range_test is None:
                candidates = [
                    name for name, test in self.study.range_tests.items() if test.optimizer == optimizer
                ]
                if len(candidates) != 1:
                    found = "no range test" if not candidates else "more than one range test"
                    raise self.wrong(
                        f"lr {settings['lr']!r} of {optimizer} refers to an LR range, but it has {found}",
                        f"{key}.set.range_test",
                        allowed=list(self.study.range_tests) or "a range test of this optimizer",
                    )
                range_test = candidates[0]
            if range_test not in self.study.range_tests:
                raise self.wrong(
                    "unknown range test", f"{key}.set.range_test", range_test, list(self.study.range_tests)
                )
        else:
            range_test = None
        extra = {}
        for axis in varied:
            if axis not in labels:
                top, _, sub = axis.partition(".")
                extra[axis] = settings[top][sub] if sub else settings[top]
        parts = [prefix] if prefix else []
        parts += [optimizer, schedule, f"bs{labels['batch_size']}"]
        if "lr" in varied:
            parts.append(f"lr{_slug(settings['lr'])}")
        parts += [f"{_slug(axis)}{_slug(value)}" for axis, value in extra.items()]
        cell = "-".join(parts)
        parameters = settings | {"optimizer": self.optimizers[optimizer], "schedule": spec}
        axes = labels | extra  # a trial keeps the names of the study's cells, whatever it shrinks inside them
        dataset = self._dataset_key(settings["dataset"])
        for seed in seeds:
            yield Run(
                self.study.folder,
                f"{cell}-seed{seed}",
                form,
                (),
                axes,
                seed,
                parameters | {"seed": seed},
                dataset,
                range_test,
            )

    def _shrunk(self, schedule: Mapping[str, Any], full: int, epochs: int) -> dict[str, Any]:
        """A schedule in a trial: what is counted in epochs shrinks in proportion, what is in steps is cut off."""
        spec = dict(schedule)
        if epochs == full:
            return spec

        def scaled(value: int) -> int:
            return max(1, math.ceil(value * epochs / full))

        if spec.get("per", "epoch") == "epoch":
            if "step_size" in spec:
                spec["step_size"] = scaled(spec["step_size"])
            if "milestones" in spec:
                spec["milestones"] = sorted({scaled(value) for value in spec["milestones"]})
        if "warmup" in spec and "epochs" in spec["warmup"]:
            spec["warmup"] = spec["warmup"] | {"epochs": min(epochs - 1, scaled(spec["warmup"]["epochs"]))}
        if spec["name"] == "writeup2":
            spec["warmup_epochs"] = min(epochs - 1, scaled(spec.get("warmup_epochs", 5)))
        return spec

    def _check_lr(
        self, settings: Mapping[str, Any], spec: Mapping[str, Any], key: str, schedule: str
    ) -> set[str]:
        """Check the LR and the schedule as far as it goes before the range is known; the names they refer to."""
        mark = digest(
            [
                settings["lr"],
                settings["reference_batch_size"],
                settings["epochs"],
                spec,
                settings["batch_size"],
            ]
        )
        known = [*expressions.RANGE_NAMES, *expressions.SCALE_NAMES]
        try:
            used = expressions.names_in(settings["lr"], known)
        except InputError as error:
            raise self.wrong(
                error.message, f"{key}.lr", settings["lr"], str(error).partition("allowed: ")[2]
            ) from None
        for name in _EXPRESSIONS:
            if isinstance(spec.get(name), str):
                used |= expressions.names_in(spec[name], [*known, "lr"]) - {"lr"}
        if used & set(expressions.SCALE_NAMES) and settings["reference_batch_size"] is None:
            raise self.wrong(
                "is needed where k is used", f"{key}.set.reference_batch_size", None, "a batch size"
            )
        if mark in self.checked:
            return used
        self.checked.add(mark)
        stand_in = {name: {"value": 0.1} for name in ("lr_min", "suggested_lr", "lr_max")} | {"status": "ok"}
        size = training_size(settings["dataset"]) or 10 * settings["batch_size"]
        steps = -(-size // settings["batch_size"])
        try:
            resolved = resolve({**settings, "schedule": dict(spec)}, stand_in)
            schedules.build(
                resolved["schedule"], base_lr=resolved["lr"], epochs=settings["epochs"], steps_per_epoch=steps
            )
        except InputError as error:
            text = error.message + (f" (got {error.value!r})" if error.value is not None else "")
            allowed = str(error).partition("allowed: ")[2] or None
            raise self.wrong(
                text,
                f"schedules.{schedule}.{(error.key or '').removeprefix('schedule.')}".rstrip("."),
                None,
                allowed,
            ) from None
        if self.trial:
            return used
        total = settings["epochs"] * (steps if spec.get("per") == "step" else 1)
        unit = "steps" if spec.get("per") == "step" else "epochs"
        for milestone in spec.get("milestones", []):
            if milestone >= total:
                raise self.wrong(
                    "past the end of training",
                    f"schedules.{schedule}.milestones",
                    milestone,
                    f"1 to {total - 1} {unit}",
                )
        warmup = spec.get("warmup", {})
        if (
            warmup.get("epochs", 0) >= settings["epochs"]
            or warmup.get("steps", 0) >= settings["epochs"] * steps
        ):
            raise self.wrong(
                "warm-up is not shorter than training",
                f"schedules.{schedule}.warmup",
                warmup,
                f"less than {settings['epochs']} epochs",
            )
        return used

    def _add(self, run: Run, sweep: str) -> None:
        present = self.study.runs.get(run.id)
        if present is None:
            self.study.runs[run.id] = _with_sweep(run, (sweep,))
        elif present.parameters == run.parameters and present.form == run.form:
            self.study.runs[run.id] = _with_sweep(present, (*present.sweeps, sweep))
        else:
            raise self.wrong(
                f"names the run {run.id!r} with other parameters than sweep {present.sweeps[0]!r}",
                f"sweeps.{sweep}",
                allowed="a prefix that tells them apart, or the same settings",
            )


def _with_sweep(run: Run, sweeps: tuple[str, ...]) -> Run:
    return Run(
        run.study, run.id, run.form, sweeps, run.axes, run.seed, run.parameters, run.dataset, run.range_test
    )


def _merge(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with changes; a data set's and a model's own keys are merged one by one."""
    merged = {**base, **changes}
    for part in MERGED:
        if part in base and part in changes:
            merged[part] = {**base[part], **changes[part]}
    return merged


def _nested(axis: str, value: Any) -> dict[str, Any]:
    top, _, sub = axis.partition(".")
    return {top: {sub: value}} if sub else {top: value}


def _divide(value: int | None, divisor: int) -> int | None:
    return None if value is None else max(1, value // divisor)


def _slug(value: Any) -> str:
    """A value as part of a run's id."""
    if isinstance(value, float):
        value = f"{value:g}"
    text = json.dumps(value) if isinstance(value, dict | list) else str(value)
    text = (
        text.replace("*", "x")
        .replace("×", "x")
        .replace("/", "_over_")
        .replace("÷", "_over_")
        .replace(" ", "")
    )
    return re.sub(r"[^A-Za-z0-9._]+", "_", text).strip("_")


def training_size(dataset: Mapping[str, Any]) -> int | None:
    """Training samples of a data set as far as they are known before it is read."""
    sizes = names.DATASETS.get(dataset["name"])
    if not sizes:
        return dataset.get("train_samples")
    left = sizes[0] - dataset["validation"]
    return min(left, dataset["train_samples"] or left)


# --- resolving -----------------------------------------------------------------------------------------

_EXPRESSIONS = ("max_lr", "eta_min", "end_lr", "warmup_multiplier")


def resolve(parameters: Mapping[str, Any], lr_range: Mapping[str, Any] | None) -> dict[str, Any]:
    """A run's parameters with every LR expression evaluated.

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
    for name in _EXPRESSIONS:
        if isinstance(parameters["schedule"].get(name), str):
            used |= expressions.names_in(
                parameters["schedule"][name], [*expressions.RANGE_NAMES, *expressions.SCALE_NAMES, "lr"]
            )
    for name, entry in (("lr_min", "lr_min"), ("suggested", "suggested_lr"), ("lr_max", "lr_max")):
        if lr_range is not None and lr_range.get(entry):
            values[name] = lr_range[entry]["value"]
        elif name in used:
            test, status = (lr_range or {}).get("range_test"), (lr_range or {}).get("status")
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
    for name in _EXPRESSIONS:
        if isinstance(schedule.get(name), str):
            schedule[name] = expressions.evaluate(schedule[name], values)
    resolved["schedule"] = schedule
    return resolved


def run_table(record: Mapping[str, Any]) -> dict[str, list[Any]]:
    """The run table (runs.csv) of a study's `record`, as columns."""
    axes = list(dict.fromkeys(axis for run in record["runs"] for axis, _ in run["axes"]))
    columns: dict[str, list[Any]] = {name: [] for name in ("run", "form", "sweeps", *axes, "seed", "epochs")}
    for run in record["runs"]:
        values = dict(run["axes"]) | {key: run[key] for key in ("run", "form", "seed", "epochs")}
        for name, column in columns.items():
            column.append(" ".join(run["sweeps"]) if name == "sweeps" else values.get(name))
    return columns
