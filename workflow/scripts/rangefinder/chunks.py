"""Which runs of a study one job trains, one after another in one process (`runs_per_job`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from . import part_checks, user_code
from .runs import Run, Study


def chunks(study: Study, most: int) -> list[list[Run]]:
    """Runs that share a job, in lists of 2 to `most`; a run in none of them has a job of its own.

    What shares a job needs the same files to start: data, LR range, check. Code of the user's own may leave
    anything behind in a process, and so may torch's compiler: such a run has one to itself. Runs stand in the order of
    their seeds, then of the study, so that a new seed leaves full lists as they are.
    """
    if most == 1:
        return []
    order = {seed: place for place, seed in enumerate(dict.fromkeys(run.seed for run in study.runs.values()))}
    alike: dict[tuple, list[Run]] = {}
    for run in sorted(study.runs.values(), key=lambda run: order[run.seed]):
        if not _stays_alone(run.parameters):
            alike.setdefault(_needs(run), []).append(run)
    lists = [runs[first : first + most] for runs in alike.values() for first in range(0, len(runs), most)]
    return [runs for runs in lists if len(runs) > 1]


def _needs(run: Run) -> tuple:
    entry = part_checks.combination(run)
    check = part_checks.key(entry) if part_checks.needs_check(run.parameters) else None
    return run.dataset, run.range_test, check


def _stays_alone(parameters: Mapping[str, Any]) -> bool:
    """Whether training compiles, or calls a function of the user's own."""
    return bool(parameters.get("compile")) or any(
        user_code.is_reference(parameters[part]["name"]) for part in ("model", "optimizer", "schedule")
    )
