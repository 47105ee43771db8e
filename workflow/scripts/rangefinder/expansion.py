"""A validated study's range tests and grids walked into its runs, each checked before any job."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from . import answers, expressions, identifiers, trial
from .lr_checks import LRChecks
from .parts import Parts, training_size
from .run_settings import Place, RunSettings, merge, nested, placed, study_settings
from .runs import Confirmation, RangeTest, Run, Study
from .schedules import MOST_STEPS

# What the prepared files depend on; everything else about a data set is applied when it is loaded.
PREPARED = ("name", "path", "arguments", "resize", "source_digest")


class Expansion:
    """Fills a study's tables, checking as it goes."""

    def __init__(self, study: Study, path: Path) -> None:
        self.study, self.content = study, study.content
        self.trial = study.trial or {}
        self.parts = Parts(path, self.trial)
        self.wrong = self.parts.wrong
        self.run_settings = RunSettings(self.parts)
        self.optimizers: dict[str, dict] = {}
        self.schedules: dict[str, dict] = {}
        self.lr_checks = LRChecks(self.parts, self.optimizers)

    def fill(self) -> None:
        content = self.content
        for name, spec in content["optimizers"].items():
            self.optimizers[name] = self.parts.optimizer(spec, f"optimizers.{name}")
        for name, spec in content["schedules"].items():
            self.schedules[name] = self.parts.schedule(spec, f"schedules.{name}")
        self.base = study_settings(content)
        for name, test in content["range_tests"].items():
            self.study.range_tests[name] = self._range_test(name, test)
        for name, sweep in content["sweeps"].items():
            for run in self._sweep(name, sweep):
                self._add(run, name)

    def _dataset(self, spec: Mapping[str, Any]) -> str:
        """The key of what is prepared; specs that differ only when loaded share it."""
        prepared = {key: spec[key] for key in PREPARED if spec.get(key) is not None}
        key = identifiers.dataset_key(prepared)
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
        settings = merge(self.base, test.get("set", {}))
        if "batch_size" in test:
            settings["batch_size"] = test["batch_size"]
        place = placed((key, test), (f"{key}.set", test.get("set", {})))
        settings = self.run_settings.complete(settings, place)
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
        del settings["cuda_graph"]  # a confirmation trains as runs do; Python launches each step of a sweep
        settings |= {
            "start_lr": test["start_lr"],
            "end_lr": test["end_lr"],
        }
        if "epochs" in test:
            settings["epochs"] = test["epochs"]  # the length of a sweep says how fast it is: a trial keeps it
        else:
            per_decade = test.get("steps_per_decade", 50)
            settings["steps_per_decade"] = trial.at_most(per_decade, "steps_per_decade", self.trial)
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
        seeds = trial.seeds(test.get("seeds", self.content["seeds"]), self.trial)
        return RangeTest(
            self.study.folder,
            name,
            test["optimizer"],
            seeds,
            settings,
            self._dataset(settings["dataset"]),
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
        return Confirmation(trial.seeds(seeds, self.trial), lrs, {**settings, **parameters})

    # --- sweeps ---

    def _sweep(self, name: str, sweep: Mapping[str, Any]) -> Iterator[Run]:
        key = f"sweeps.{name}"
        base = merge(self.base, sweep.get("set", {}))
        grid = sweep.get("grid", {})
        for axis in grid:
            self.run_settings.check_axis(axis, grid[axis], key)
        form = sweep.get("form")
        prefix = sweep.get("prefix") or identifiers.PREFIXES.get(form)
        seeds = trial.seeds(sweep.get("seeds", self.content["seeds"]), self.trial)
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
                    given = merge(given, nested(axis, value))
                place = placed(
                    (f"{key}.grid", grid), (f"{key}.cells", cell), (f"{key}.set", sweep.get("set", {}))
                )
                yield from self._cell(merge(base, given), [*cell, *axes], named, form, prefix, seeds, place)

    def _cell(
        self,
        settings: dict[str, Any],
        varied: list[str],
        named: list[str],
        form: str | None,
        prefix: str | None,
        seeds: tuple[int, ...],
        place: Place,
    ) -> Iterator[Run]:
        labels = {axis: settings.get(axis) for axis in identifiers.AXES}
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
        settings = self.run_settings.complete(settings, place)
        optimizer, schedule = settings["optimizer"], settings["schedule"]
        spec = trial.schedule(self.schedules[schedule], full_epochs, settings["epochs"])
        names_used = self.lr_checks.check(settings, spec, place, schedule)
        range_test = settings.pop("range_test", None)
        refers = names_used & set(expressions.RANGE_NAMES)
        range_test = self._referred(range_test, settings, place) if refers else None
        parameters = settings | {"optimizer": self.optimizers[optimizer], "schedule": spec}
        if self.trial and range_test is not None:
            parameters["stand_in_lr"] = trial.stand_in_lr(self.study.range_tests[range_test].parameters)
        axes = labels | extra  # a trial keeps the names of the study's cells, whatever it shrinks inside them
        cell = identifiers.cell(prefix, axes, varied)
        dataset = self._dataset(settings["dataset"])
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

    def _referred(self, name: str | None, settings: Mapping[str, Any], place: Place) -> str:
        """The range test that a cell's LRs refer to: the one it names, or the only one of its optimizer."""
        tests, optimizer = self.study.range_tests, settings["optimizer"]
        if name is None:
            candidates = [name for name, test in tests.items() if test.optimizer == optimizer]
            if len(candidates) != 1:
                found = "no range test" if not candidates else "more than one range test"
                raise self.wrong(
                    f"lr {settings['lr']!r} of {optimizer} refers to an LR range, but it has {found}",
                    place("range_test"),
                    allowed=list(tests) or "a range test of this optimizer",
                )
            return candidates[0]
        if name not in tests:
            raise self.wrong("unknown range test", place("range_test"), name, list(tests))
        return name

    def _add(self, run: Run, sweep: str) -> None:
        if len(run.id) > identifiers.MOST_NAME:
            raise self.wrong(
                "names a run too long for a file's name",
                f"sweeps.{sweep}",
                run.id,
                f"{identifiers.MOST_NAME} characters; shorter names of optimizers, schedules or the sweep's prefix",
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
