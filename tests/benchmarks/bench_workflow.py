"""What Snakemake has to do before a job, and the report afterwards, for studies of 100 and 1,000 runs, or more.

    python tests/benchmarks/bench_workflow.py
    python tests/benchmarks/bench_workflow.py --runs 1000 10000 --rounds 1

A dry run of all training jobs, and a run with nothing left to do, each against a bare workflow of as many jobs, one
file each; and the rules from records to report. The runs' records are made up; data, sweeps and LR range are real.
The first call writes them, which takes longer than to measure. A record with other numbers of runs stays beside these.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import harness
import made_study
import yaml
from rangefinder import study

FOLDER = Path(tempfile.gettempdir()) / "rangefinder-bench-workflow"
REPORT = Path(__file__).with_name("report_job.py")
RULES = ("resolve_study", "aggregate", "draw_figures", "write_report")


def folder(make: Callable[[Path, int], None], count: int) -> Path:
    """The folder of a study of `count` runs as `make` leaves it, made once for what the engine makes of the study."""
    path = FOLDER / f"{make.__name__}-{count}-{_study_digest(count)[:8]}"
    if not path.exists():
        half = path.with_suffix(".half")
        shutil.rmtree(half, ignore_errors=True)
        make(half, count)
        half.rename(path)
    return path


@cache
def _study_digest(count: int) -> str:
    """Digest of the study that is made: records of another one would be refused."""
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / f"{made_study.NAME}.yaml"
        path.write_text(yaml.safe_dump(made_study.content(count), sort_keys=False))
        return study.load(path).digest


def dry_run(
    count: int, bare: bool, sizes: dict[str, float], options: argparse.Namespace
) -> Callable[[], None]:
    """Snakemake's plan of all jobs; `sizes` is told the most memory of a round."""
    place = folder(made_study.planned, count)
    what = f"memory of the dry run, {count} {'bare jobs' if bare else 'runs'}, MiB"

    def work() -> None:
        note_most(sizes, what, made_study.snakemake(place, "--dry-run", bare=bare))

    return work


def nothing_to_do(
    count: int, bare: bool, sizes: dict[str, float], options: argparse.Namespace
) -> Callable[[], None]:
    """Snakemake's look at outputs that are all there; `sizes` is told the most memory of a round."""
    place = folder(made_study.done, count)
    what = f"memory with nothing to do, {count} {'bare jobs' if bare else 'runs'}, MiB"
    if not bare:
        made_study.snakemake(place)  # a template that has changed since makes the report once more

    def work() -> None:
        note_most(sizes, what, made_study.snakemake(place, bare=bare))

    return work


def note_most(sizes: dict[str, float], what: str, size: float) -> None:
    """Keep the largest size of all rounds, to a tenth."""
    sizes[what] = max(sizes.get(what, 0.0), round(size, 1))


def report(count: int, sizes: dict[str, float], options: argparse.Namespace) -> Callable[[], dict]:
    """The reporting rules one after another; `sizes` is told the most memory of each and the page's length."""
    whole = folder(made_study.done, count)
    # Apart: a report made anew is something to do for the other cases.
    place = whole.with_name(f"{whole.name}-reported")
    if not place.exists():
        shutil.copytree(whole, place, symlinks=True)

    def work() -> dict[str, tuple[float, float]]:
        parts = {}
        for rule in RULES:
            wall, cpu = time.perf_counter(), harness.cpu_seconds()
            command = [sys.executable, str(REPORT), str(place), rule]
            answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            parts[f"{rule}, {count} runs"] = (time.perf_counter() - wall, harness.cpu_seconds() - cpu)
            note_most(sizes, f"memory of {rule}, {count} runs, MiB", int(answer) / 1024)
        page = (place / "results" / made_study.NAME / "report.html").stat().st_size
        note_most(sizes, f"page of the report, {count} runs, MB", page / 1e6)
        return parts

    return work


def main() -> None:
    parser = harness.parser(__doc__, rounds=2, warm_up=0)
    parser.add_argument("--runs", type=int, nargs="+", default=[100, 1000])
    options = parser.parse_args()
    sizes: dict[str, float] = {}
    cases: dict[str, harness.Case] = {}
    ratios = []
    for count in options.runs:
        for name, case in (("dry run", dry_run), ("nothing to do", nothing_to_do)):
            cases[f"{name}, {count} runs"] = partial(case, count, False, sizes)
            cases[f"{name}, {count} bare jobs"] = partial(case, count, True, sizes)
            most = 2 if (name, count) == ("dry run", 1000) else None
            title = f"{name} of {count} runs over as many bare jobs"
            of, to = f"{name}, {count} runs", f"{name}, {count} bare jobs"
            ratios.append(harness.Ratio(title, of, to, most=most))
        cases[f"report, {count} runs"] = partial(report, count, sizes)
        if count == 1000:
            ratios.append(
                harness.Ratio("report of 1000 runs, seconds", f"report, {count} runs", None, most=60)
            )
    if {1000, 10000} <= set(options.runs):
        for name in ("dry run", "nothing to do", "report"):
            title, of, to = f"{name}, 10000 runs over 1000", f"{name}, 10000 runs", f"{name}, 1000 runs"
            ratios.append(harness.Ratio(title, of, to, most=12))
    harness.main(
        "workflow",
        "Snakemake's work before the first job, and the report",
        "call",
        cases,
        ratios,
        options,
        workers=False,
        settings={"runs": " and ".join(map(str, options.runs))},
        packages=["snakemake"],
        sizes=sizes,
    )


if __name__ == "__main__":
    main()
