"""Checks of a run's LR expressions and schedule, as far as they go before its LR range is known."""

from __future__ import annotations

from collections.abc import Mapping
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
        batch = settings["batch_size"]
        size = training_size(settings["dataset"]) or 10 * batch
        steps = size // batch if settings["drop_last"] else -(-size // batch)
        if settings["epochs"] * steps > MOST_STEPS:
            raise self.wrong(
                "more steps than a run can have",
                place("epochs"),
                settings["epochs"],
                f"1 to {MOST_STEPS // steps} (epochs of {steps} steps)",
            )
        if not self.trial:  # first, for a warm-up is an array of its length
            self._check_lengths(settings["epochs"], steps, spec, schedule)
        if not schedules.runs_foreign_code(spec["name"]):  # those are run by `part_checks`, in a job
            self._try_schedule(settings, spec, schedule, steps)
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

    def _check_lengths(self, epochs: int, steps: int, spec: Mapping[str, Any], schedule: str) -> None:
        """Refuse milestones and a warm-up that training ends before; what a trial cuts off is meant to be."""
        total = epochs * (steps if spec.get("per") == "step" else 1)
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
        if warmup.get("epochs", 0) >= epochs or warmup.get("steps", 0) >= epochs * steps:
            raise self.wrong(
                "warm-up is not shorter than training",
                f"schedules.{schedule}.warmup",
                warmup,
                f"less than {epochs} epochs",
            )
