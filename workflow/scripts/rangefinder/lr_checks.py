"""Checks of a run's LR expressions and schedule, as far as they go before its LR range is known."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from . import expressions, resolution, schedules
from .errors import InputError
from .parts import Parts, has_momentum, training_size
from .run_settings import Place
from .runs import digest
from .schedules import MOST_STEPS


class LRChecks:
    """Checks the LRs of a study's cells; the same LR and schedule are checked once.

    Args:
        parts: whose file messages name.
        optimizers: of the study, by name.
    """

    def __init__(self, parts: Parts, optimizers: Mapping[str, Mapping[str, Any]]) -> None:
        self.trial, self.wrong, self.optimizers = parts.trial, parts.wrong, optimizers
        self._checked: set[str] = set()

    def check(
        self, settings: Mapping[str, Any], spec: Mapping[str, Any], place: Place, schedule: str
    ) -> set[str]:
        """Check one cell.

        Args:
            settings: of its runs, completed.
            spec: its schedule.
            place: where a setting stands, for messages.
            schedule: the schedule's name in the study.

        Returns:
            The names that its LR expressions refer to.

        Raises:
            InputError: the first thing that is wrong.
        """
        used = self._names_used(settings, spec, place, schedule)
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
        if mark in self._checked:
            return used
        self._checked.add(mark)
        epochs, size = settings["epochs"], training_size(settings["dataset"])
        steps = None if size is None else steps_of(size, settings["batch_size"], settings["drop_last"])
        if epochs * (steps or 1) > MOST_STEPS:
            each = f" (epochs of {steps} steps)" if steps else ""
            raise self.wrong(
                "more steps than a run can have",
                place("epochs"),
                epochs,
                f"1 to {MOST_STEPS // (steps or 1)}{each}",
            )
        if (
            not self.trial
        ):  # what a trial cuts off is meant to be; first, for a warm-up is an array of its length
            with self._of_schedule(schedule):
                check_lengths(spec, epochs, steps)
        if not schedules.runs_foreign_code(spec["name"]):  # those are run by `part_checks`, in a job
            self._try_schedule(settings, spec, schedule, steps or min(10, MOST_STEPS // epochs))
        return used

    def _names_used(
        self, settings: Mapping[str, Any], spec: Mapping[str, Any], place: Place, schedule: str
    ) -> set[str]:
        known = [*expressions.RANGE_NAMES, *expressions.SCALE_NAMES]
        used = self._names_in(settings["lr"], known, place("lr"))
        for name in resolution.EXPRESSIONS:
            if isinstance(spec.get(name), str):
                used |= self._names_in(spec[name], [*known, "lr"], f"schedules.{schedule}.{name}") - {"lr"}
        if used & set(expressions.SCALE_NAMES) and settings["reference_batch_size"] is None:
            raise self.wrong("is needed where k is used", place("reference_batch_size"), None, "a batch size")
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
        with self._of_schedule(schedule):
            resolved = resolution.resolve({**settings, "schedule": dict(spec)}, resolution.STAND_IN)
            schedules.build(
                resolved["schedule"],
                base_lr=resolved["lr"],
                epochs=settings["epochs"],
                steps_per_epoch=steps,
                momentum=0.9 if has_momentum(self.optimizers[settings["optimizer"]]) else None,  # a stand-in
            )

    @contextmanager
    def _of_schedule(self, schedule: str) -> Iterator[None]:
        """Have what is wrong with a schedule named by its place in the study."""
        try:
            yield
        except InputError as error:
            key = f"schedules.{schedule}.{(error.key or '').removeprefix('schedule.')}".rstrip(".")
            raise self.wrong(error.message, key, error.value, error.allowed) from None


def steps_of(samples: int, batch: int, drop_last: bool) -> int:
    """Steps of an epoch."""
    return samples // batch if drop_last else -(-samples // batch)


def check_lengths(spec: Mapping[str, Any], epochs: int, steps: int | None) -> None:
    """Refuse milestones and a warm-up that training ends before.

    Args:
        spec: of the schedule.
        epochs: of the run.
        steps: of an epoch; None where the size of the data is not known, and what is counted in steps is not checked
            then but for what no run can have.

    Raises:
        InputError: the first length that is too long; its key begins with ``schedule``.
    """
    total = MOST_STEPS if steps is None else epochs * steps
    end, unit = (total, "steps") if spec.get("per") == "step" else (epochs, "epochs")
    for milestone in spec.get("milestones", []):
        if milestone >= end:
            raise InputError(
                "past the end of training",
                key="schedule.milestones",
                value=milestone,
                allowed=f"1 to {end - 1} {unit}",
            )
    warmup, long = spec.get("warmup", {}), "warm-up is not shorter than training"
    for length, most in (("epochs", epochs), ("steps", total)):
        if (warmup.get(length) or 0) >= most:
            raise InputError(long, key="schedule.warmup", value=warmup, allowed=f"less than {most} {length}")
    if spec["name"] == "writeup2":
        own = spec.get("warmup_epochs", schedules.SCHEDULES["writeup2"].parameters["warmup_epochs"][1])
        if own >= epochs:
            raise InputError(
                long, key="schedule.warmup_epochs", value=own, allowed=f"less than {epochs} epochs"
            )
