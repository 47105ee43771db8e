"""How long a plan's jobs take with so many at once, from the first job to the report, and what lies between two."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from heapq import heapreplace
from itertools import pairwise
from types import MappingProxyType
from typing import Any

from .plan import TIMED_STEPS

# What the jobs without training take (`digits`), in starts of the one that loads what all of them load.
LIGHT = {
    "extract_lr_range": 0.5,
    "resolve_study": 0.15,
    "aggregate": 0.7,
    "draw_figures": 2.4,
    "write_report": 1.0,
}


def gaps(moments: Iterable[Mapping[str, Any]]) -> list[float]:
    """Seconds from the end of a job to the beginning of the next, by Snakemake and the system.

    Args:
        moments: ``began``, ``finished`` and ``parent`` of jobs that were started one after another. Only those that
            the same Snakemake started tell anything: on a cluster a queue lies between them.
    """
    pairs = pairwise(sorted(moments, key=lambda entry: entry["began"]))
    return [
        max(0.0, later["began"] - earlier["finished"])
        for earlier, later in pairs
        if later["parent"] == earlier["parent"]
    ]


def wall_seconds(
    rows: Iterable[Mapping[str, Any]],
    at_once: int,
    light_s: float,
    ranges: int,
    crowded: Mapping[str, float] = MappingProxyType({}),
) -> float:
    """Seconds from the first job to the report with so many jobs at once.

    Range tests, LR ranges, confirmations with training, and the jobs from the run table to the report follow each
    other; within each part a place takes the next job as soon as it is free. Figures are drawn while the tables are
    made, if there are two places.

    Args:
        light_s: of a job that loads what draws and reports, and then computes next to nothing.
        ranges: LR ranges to extract.
        crowded: how many times longer jobs take that run so many at once, by their number; those whose time
            finished runs tell were that slow already.
    """
    factor = crowded.get(str(at_once), 1.0)

    def fill(jobs: Iterable[float]) -> float:
        ends = [0.0] * at_once
        for seconds in jobs:
            heapreplace(ends, ends[0] + seconds)
        return max(ends)

    rows, total = list(rows), 0.0
    for kinds in (("range_test",), ("confirm_lr_range", "train")):
        jobs = []
        for row in rows:
            left = row["jobs"] - row["done"]
            if row["kind"] in kinds and left:
                slower = factor if row["timed"] == TIMED_STEPS else 1.0
                each, together = row["left_s"] / left * slower, row["together"]
                jobs += [each * min(together, left - first) for first in range(0, left, together)]
        total += fill(jobs)
        if "range_test" in kinds:
            total += fill([LIGHT["extract_lr_range"] * light_s] * ranges)
    made = fill(LIGHT[rule] * light_s for rule in ("draw_figures", "aggregate", "resolve_study"))
    return total + made + LIGHT["write_report"] * light_s
