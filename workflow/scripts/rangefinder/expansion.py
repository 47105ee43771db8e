"""A validated study's grids into its runs: defaults, sharing, trials, and every check made before a job."""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from . import answers, expressions, resolution, schedules, validation
from .errors import InputError
from .parts import Parts, has_momentum, training_size
from .runs import Confirmation, RangeTest, Run, Study, digest

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
# What the prepared files depend on; everything else about a data set is applied when it is loaded.
PREPARED = ("name", "path", "arguments", "resize", "source_digest")
# A step is a row of steps.csv, and an entry of arrays that are computed before the first one.
MOST_STEPS = 10_000_000
# A run's name is that of files and folders, with up to 40 characters of ours around it; theirs may have 255.
MOST_NAME = 200
PREFIXES = {"as-published": "published", "put-right": "right"}
MERGED = ("dataset", "model")


# Where a run setting's value stands in the file, as a dotted key.
Place = Callable[[str], str]


def _placed(*written: tuple[str, Mapping[str, Any]]) -> Place:
    """The first of these that has the setting, for messages; else the study's own `run`."""

    def place(name: str) -> str:
        return next((f"{key}.{name}" for key, mapping in written if name in mapping), f"run.{name}")

    return place


class Expansion:
    """Fills a study's tables, checking as it goes."""

    def __init__(self, study: Study, path: Path) -> None:
        self.study, self.content = study, study.content
        self.trial = study.trial or {}
        self.parts = Parts(path, self.trial)
        self.wrong = self.parts.wrong
        self.checked: set[str] = set()
        self.optimizers: dict[str, dict] = {}
        self.schedules: dict[str, dict] = {}

    def fill(self) -> None:
        content = self.content
        for name, spec in content["optimizers"].items():
            self.optimizers[name] = self.parts.optimizer(spec, f"optimizers.{name}")
        for name, spec in content["schedules"].items():
            self.schedules[name] = self.parts.schedule(spec, f"schedules.{name}")
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

    def _settings(self, settings: dict[str, Any], place: Place) -> dict[str, Any]:
        """Run settings with their parts checked; the same part is checked once."""
        for part, check in (("dataset", self.parts.dataset), ("model", self.parts.model)):
            mark = f"{part}{digest(settings[part])}"
            if mark not in self._checked_parts:
                self._checked_parts[mark] = check(settings[part], part)
            settings[part] = self._checked_parts[mark]
        self.parts.check_fit(settings["dataset"], settings["model"])
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
                    place("batch_size"),
                    batch,
                    f"1 to {size} (training samples)",
                )
            settings["batch_size"] = batch = size
            micro = settings["micro_batch"] = None if micro is None else min(micro, size)
        if micro is not None and batch % micro:
            raise self.wrong(
                "does not divide the batch size", place("micro_batch"), micro, f"a divisor of {batch}"
            )
        return settings

    @cached_property
    def _checked_parts(self) -> dict[str, dict]:
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
        place = _placed((key, test), (f"{key}.set", test.get("set", {})))
        settings = self._settings(settings, place)
        for unused in (
            "lr",
            "epochs",
            "eval_every",
            "reference_batch_size",
            "schedule",
            "optimizer",
            "range_test",
            "on_out_of_memory",
        ):
            settings.pop(unused, None)
        settings["optimizer"] = self.optimizers[test["optimizer"]]
        confirm = self._confirmation(settings, test["confirm"], test, key) if "confirm" in test else None
        settings |= {
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
        length = "epochs" if "epochs" in test else "steps_per_decade"
        if settings[length] > MOST_STEPS // 100:
            raise self.wrong(
                "longer than a sweep can be",
                f"{key}.{length}",
                settings[length],
                f"at most {MOST_STEPS // 100}",
            )
        seeds = tuple(self._seeds(test.get("seeds", self.content["seeds"])))
        return RangeTest(
            self.study.folder,
            name,
            test["optimizer"],
            seeds,
            settings,
            self._dataset_key(settings["dataset"]),
            confirm,
        )

    def _confirmation(
        self, settings: Mapping[str, Any], confirm: Mapping[str, Any], test: Mapping[str, Any], key: str
    ) -> Confirmation:
        """The short runs after a range test: its own settings, with a length instead of a sweep."""
        key = f"{key}.confirm"
        if len(confirm.keys() & {"epochs", "steps"}) != 1:
            given = {name: confirm[name] for name in ("epochs", "steps") if name in confirm}
            raise self.wrong("needs its length", key, given or None, "epochs or steps, one of the two")
        for name in confirm.get("lrs", {}):
            if name in answers.RESERVED:
                raise self.wrong(
                    "a rule has this name",
                    f"{key}.lrs",
                    name,
                    f"a name other than {', '.join(answers.RESERVED)}",
                )
        size = training_size(settings["dataset"]) or 10 * settings["batch_size"]
        most = {"epochs": MOST_STEPS // -(-size // settings["batch_size"]), "steps": MOST_STEPS}
        for length in confirm.keys() & most.keys():
            if confirm[length] > most[length]:
                allowed = f"1 to {most[length]}"
                raise self.wrong(
                    "more steps than a run can have", f"{key}.{length}", confirm[length], allowed
                )
        lengths = [length for length in (confirm.get("epochs"), self.trial.get("epochs")) if length]
        parameters = {"epochs": min(lengths, default=None), "steps": confirm.get("steps")}
        seeds = confirm.get("seeds") or test.get("seeds", self.content["seeds"])
        lrs = {name: float(lr) for name, lr in confirm.get("lrs", {}).items()}
        return Confirmation(tuple(self._seeds(seeds)), lrs, {**settings, **parameters})

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
        axes, cells = list(grid), sweep.get("cells", [{}])
        # A cell that leaves a setting to its default is told apart from those that set it.
        named = list(dict.fromkeys(axis for cell in cells for axis in cell))
        for number, cell in enumerate(cells):
            for axis in [axis for axis in cell if axis in grid]:
                raise self.wrong(
                    "stands in the grid too", f"{key}.cells.{number}.{axis}", cell[axis], "one of the two"
                )
            for values in itertools.product(*(grid[axis] for axis in axes)):
                given = dict(cell)
                for axis, value in zip(axes, values, strict=True):
                    given = _merge(given, _nested(axis, value))
                place = _placed(
                    (f"{key}.grid", grid), (f"{key}.cells", cell), (f"{key}.set", sweep.get("set", {}))
                )
                yield from self._cell(_merge(base, given), [*cell, *axes], named, form, prefix, seeds, place)

    def _axis(self, axis: str, values: list, key: str) -> None:
        top, _, sub = axis.partition(".")
        schema = validation.schema("study")["$defs"]
        known = schema["run"]["properties"]
        if top not in known or (sub and top not in MERGED):
            raise self.wrong("unknown run setting", f"{key}.grid", axis, sorted(known))
        for value in values:
            probe = {"run": _nested(axis, value)}
            validation.check_part(probe["run"], "study", "run", self.parts.path, f"{key}.grid.{axis}")
        if len({digest(value) for value in values}) != len(values):
            raise self.wrong("a value stands twice", f"{key}.grid.{axis}", values, "each value once")

    def _cell(
        self,
        settings: dict[str, Any],
        varied: list[str],
        named: list[str],
        form: str | None,
        prefix: str | None,
        seeds: list[int],
        place: Place,
    ) -> Iterator[Run]:
        labels = {axis: settings.get(axis) for axis in ("optimizer", "schedule", "batch_size", "lr")}
        for kind in ("optimizer", "schedule"):
            known = self.content[f"{kind}s"]
            if settings.get(kind) is None:
                raise self.wrong(f"no {kind} is named", place(kind), None, list(known))
            if settings[kind] not in known:
                raise self.wrong(f"unknown {kind}", place(kind), settings[kind], list(known))
        full_epochs = settings["epochs"]
        extra = {}  # as written, before a trial shrinks it
        for axis in dict.fromkeys([*named, *varied]):
            if axis not in labels:
                top, _, sub = axis.partition(".")
                extra[axis] = settings[top][sub] if sub else settings[top]
        settings = self._settings(settings, place)
        optimizer, schedule = settings["optimizer"], settings["schedule"]
        spec = self._shrunk(self.schedules[schedule], full_epochs, settings["epochs"])
        names_used = self._check_lr(settings, spec, place, schedule)
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
                        place("range_test"),
                        allowed=list(self.study.range_tests) or "a range test of this optimizer",
                    )
                range_test = candidates[0]
            if range_test not in self.study.range_tests:
                raise self.wrong(
                    "unknown range test", place("range_test"), range_test, list(self.study.range_tests)
                )
        else:
            range_test = None
        parts = [prefix] if prefix else []
        parts += [optimizer, schedule, f"bs{labels['batch_size']}"]
        if "lr" in varied:
            parts.append(f"lr{_slug(settings['lr'])}")
        parts += [f"{_slug(axis)}{_slug(value)}" for axis, value in extra.items() if axis in varied]
        cell = "-".join(parts)
        parameters = settings | {"optimizer": self.optimizers[optimizer], "schedule": spec}
        if self.trial and range_test is not None:  # a sweep as short as a trial's may find no LR
            swept = self.study.range_tests[range_test].parameters
            parameters["stand_in_lr"] = math.sqrt(swept["start_lr"] * swept["end_lr"])
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

    def _check_lr(
        self, settings: Mapping[str, Any], spec: Mapping[str, Any], place: Place, schedule: str
    ) -> set[str]:
        """Check the LR and the schedule as far as it goes before the range is known; the names they refer to."""
        mark = digest(
            [
                settings["lr"],
                settings["reference_batch_size"],
                settings["epochs"],
                spec,
                settings["optimizer"],
                settings["batch_size"],
                settings["drop_last"],
                training_size(settings["dataset"]),
            ]
        )
        known = [*expressions.RANGE_NAMES, *expressions.SCALE_NAMES]
        used = self._names_in(settings["lr"], known, place("lr"))
        for name in resolution.EXPRESSIONS:
            if isinstance(spec.get(name), str):
                used |= self._names_in(spec[name], [*known, "lr"], f"schedules.{schedule}.{name}") - {"lr"}
        if used & set(expressions.SCALE_NAMES) and settings["reference_batch_size"] is None:
            raise self.wrong("is needed where k is used", place("reference_batch_size"), None, "a batch size")
        if mark in self.checked:
            return used
        self.checked.add(mark)
        size, batch = (
            training_size(settings["dataset"]) or 10 * settings["batch_size"],
            settings["batch_size"],
        )
        steps = size // batch if settings["drop_last"] else -(-size // batch)
        if settings["epochs"] * steps > MOST_STEPS:
            raise self.wrong(
                "more steps than a run can have",
                place("epochs"),
                settings["epochs"],
                f"1 to {MOST_STEPS // steps} (epochs of {steps} steps)",
            )
        if not schedules.runs_foreign_code(spec["name"]):  # those are run by `part_checks`, in a job
            self._try_schedule(settings, spec, schedule, steps)
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

    def _names_in(self, text: str | float, known: list[str], key: str) -> set[str]:
        """The names an LR expression of the study refers to."""
        try:
            return expressions.names_in(text, known)
        except InputError as error:
            raise self.wrong(error.message, key, text, str(error).partition("allowed: ")[2]) from None

    def _try_schedule(
        self, settings: Mapping[str, Any], spec: Mapping[str, Any], schedule: str, steps: int
    ) -> None:
        """Compute a schedule with a stand-in for the LR range, so that its own settings are checked."""
        try:
            resolved = resolution.resolve({**settings, "schedule": dict(spec)}, resolution.STAND_IN)
            schedules.build(
                resolved["schedule"],
                base_lr=resolved["lr"],
                epochs=settings["epochs"],
                steps_per_epoch=steps,
                momentum=0.9 if has_momentum(self.optimizers[settings["optimizer"]]) else None,  # a stand-in
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

    def _add(self, run: Run, sweep: str) -> None:
        if len(run.id) > MOST_NAME:
            raise self.wrong(
                "names a run too long for a file's name",
                f"sweeps.{sweep}",
                run.id,
                f"{MOST_NAME} characters; shorter names of optimizers, schedules or the sweep's prefix",
            )
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
