"""A study's plan as a page: what is to come, how long it takes and what it needs."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from tabulate import tabulate

from . import progress
from .durations import wall_seconds
from .plan import CHECKPOINTS, disk_bytes
from .runs import Study


def text(
    study: Study,
    rows: list[Mapping[str, Any]],
    timing: Mapping[str, Any],
    *,
    places: Collection[int],
    light_s: float,
    between_s: float | None,
    ranges_left: int,
) -> str:
    """plan.md.

    Args:
        places: numbers of jobs at once to say the duration for.
        between_s: as in `rows`; None where it could not be measured.
        ranges_left: LR ranges to extract.
    """
    kinds = {"range_test": "range test", "confirm_lr_range": "confirmation", "train": "training"}
    table = [
        [
            kinds[row["kind"]],
            row["optimizer"],
            row["batch_size"],
            row["epochs"],
            row["jobs"],
            row["done"],
            f"{row['steps_left']:,}",
            f"{1000 * row['step_s']:.3g}",
            f"{row['evaluation_s']:.3g}",
            f"{row['start_s']:.3g}",
            progress.clock(row["left_s"]),
            row["timed"],
        ]
        for row in rows
    ]
    headers = ["", "optimizer", "batch", "epochs", "jobs", "done", "steps left", "step, ms"]
    headers += ["evaluation, s", "beside, s", "time left", "from"]
    left, whole = (sum(row[name] for row in rows) / 3600 for name in ("left_s", "total_s"))
    jobs, done = (sum(row[name] for row in rows) for name in ("jobs", "done"))
    state = max(entry["state_bytes"] for entry in timing["subjects"].values())
    ways = [
        f"{progress.clock(wall_seconds(rows, count, light_s, ranges_left, timing['crowded']))} with {count} at once"
        for count in sorted(places)
    ]
    beside = "the interpreter's start, the data, the model"
    if between_s is None:
        beside += "; not a cluster's queue, nor what Snakemake does between two jobs"
    else:
        beside += f", and {between_s:.2g} s between two jobs"
    lines = [
        f"# Plan of {study.folder}: {study.title}",
        "",
        f"{jobs} computing jobs, {done} of them done. Left: {left:.3g} of {whole:.3g} device hours "
        f"(device: {timing['device']}).",
        "",
        f"- Duration: {', '.join(ways)}." if done < jobs else "- Nothing is left to compute.",
        f"- Disk: {_size(disk_bytes(rows))} of records, and while runs are in progress up to "
        f"{_size(CHECKPOINTS * state * max(places))} of checkpoints.",
        "",
        *tabulate(table, headers, tablefmt="pipe", disable_numparse=True).splitlines(),
        "",
        f"Beside its steps and evaluations a job takes {beside}. A sweep or run that stops early takes less.",
    ]
    slower = [
        f"{timing['crowded'][str(count)]:.2f} times with {count}"
        for count in sorted(places)
        if str(count) in timing["crowded"]
    ]
    if slower:
        lines.append(f"Jobs at once slow each other on this machine: {', '.join(slower)}.")
    if any(row["kind"] == "confirm_lr_range" for row in rows):
        lines.append(
            "A confirmation is counted with as many trainings as there are rules; equal LRs are trained once."
        )
    return "\n".join(lines) + "\n"


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"
