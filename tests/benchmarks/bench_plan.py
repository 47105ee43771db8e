"""What the plan says of a study's time, against the time that the study then takes, in a fresh folder.

    RANGEFINDER_DATA_DIR=/path/to/data python tests/benchmarks/bench_plan.py [--record]

`digits` whole, and `lenet5-mnist` as a trial. Where the time goes, by rule, is what Snakemake noted of its jobs. The
machine ought to be quiet: other work that comes or goes between plan and run counts as an error of the plan.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

import harness

TRIAL = "trial={epochs: 2, seeds: 1, train_samples: 12000, test_samples: 2000}"
# Name: the study, and how it is shrunk.
CASES = {"digits": ("digits", None), "lenet5-mnist, a trial": ("lenet5-mnist", TRIAL)}
PAGE = harness.ROOT / "docs" / "planning.md"
BEGIN, END = "<!-- measured: written by tests/benchmarks/bench_plan.py -->", "<!-- end of measured -->"


def snakemake(place: Path, cores: int, *arguments: str) -> float:
    """Run the workflow in a folder on the CPU; seconds of the whole command."""
    command = [
        sys.executable,
        "-m",
        "snakemake",
        "-s",
        str(harness.ROOT / "Snakefile"),
        "--cores",
        str(cores),
    ]
    command += ["--resources", "gpu=0", "--workflow-profile", str(harness.ROOT / "profiles/default")]
    start = time.perf_counter()
    with open(place / "snakemake.log", "a") as log:
        subprocess.run([*command, *arguments], cwd=place, stdout=log, stderr=log, check=True)
    return time.perf_counter() - start


def seconds(clock: str) -> int:
    """Of a duration as plans write it: 1:02:03."""
    total = 0
    for part in clock.split(":"):
        total = 60 * total + int(part)
    return total


def estimates(plan: str) -> dict[int, int]:
    """Seconds that a plan tells, by the number of jobs at once."""
    return {int(count): seconds(clock) for clock, count in re.findall(r"([\d:]+) with (\d+) at once", plan)}


def by_rule(place: Path) -> dict[str, dict[str, float]]:
    """Jobs of every rule and the seconds that Snakemake noted of them, those of the plan left out."""
    found: dict[str, dict[str, float]] = {}
    for path in (place / ".snakemake/metadata").rglob("*"):
        if path.is_file():  # one for every output
            entry = json.loads(path.read_text())
            jobs = found.setdefault(entry["rule"], {})
            [log] = entry["log"]
            jobs[log] = max(jobs.get(log, 0.0), entry["endtime"] - entry["starttime"])
    return {
        rule: {"jobs": len(jobs), "seconds": round(sum(jobs.values()), 1)}
        for rule, jobs in sorted(found.items())
        if rule not in ("time_start", "time_steps", "write_plan", "prepare_data")
    }


def measure(name: str, cores: int, data: str | None, keep: Path | None) -> dict[str, object]:
    """Plan one case in a fresh folder, then run it there."""
    study, trial = CASES[name]
    config = [*([f"data_dir={data}", "download=false"] if data else []), *([trial] if trial else [])]
    options = ["--config", *config] if config else []
    before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as made:
        place = keep / study if keep else Path(made)
        shutil.copytree(harness.ROOT / "config", place / "config")
        planning = snakemake(place, cores, f"{study}-plan", *options)
        [page] = place.glob("results/*/plan.md")
        with open(page.with_suffix(".csv")) as file:
            planned = [{key: row[key] for key in ("kind", "jobs", "total_s")} for row in csv.DictReader(file)]
        estimate = estimates(page.read_text())[cores]
        real = snakemake(place, cores, study, *options)
        rules = by_rule(place)
    kinds: dict[str, float] = {}
    for row in planned:
        kinds[row["kind"]] = kinds.get(row["kind"], 0) + float(row["total_s"])
    return {
        "settings": {"cores": cores, "trial": trial or "none"},
        "estimate_s": estimate,
        "real_s": round(real, 1),
        "ratio": round(estimate / real, 3),
        "planning_s": round(planning, 1),
        "load": [round(before, 1), round(os.getloadavg()[0], 1)],
        "versions": {"python": platform.python_version(), **{p: version(p) for p in ("torch", "snakemake")}},
        "planned_s": {kind: round(total, 1) for kind, total in kinds.items()},
        "jobs": rules,
    }


def lines(record: Mapping) -> list[str]:
    """The measured cases of one machine, as Markdown."""
    rows = [
        f"| {name} | {entry['settings']['cores']} | {entry['estimate_s']:.0f} s | {entry['real_s']:.0f} s "
        f"| {entry['ratio']:.2f} | {entry['load'][0]:g} to {entry['load'][1]:g} |"
        for name, entry in record["plan"].items()
    ]
    head = [
        "| study | jobs at once | plan | run | plan over run | load |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    return [f"On a {record['hardware']}:", "", *head, *rows, ""]


def write() -> None:
    """Put the figures of every machine into docs/planning.md."""
    records = [json.loads(path.read_text()) for path in sorted(harness.RECORDS.glob("*.json"))]
    text = [line for record in records if "plan" in record for line in lines(record)]
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    _, found, after = rest.partition(END)
    if not found:
        raise SystemExit(f"{PAGE.name} has no place for the figures, between {BEGIN!r} and {END!r}")
    PAGE.write_text(before + "\n".join([BEGIN, "", *text, END]) + after, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES), metavar="CASE")
    parser.add_argument("--cores", type=int, default=os.cpu_count())
    parser.add_argument("--data-dir", default=os.environ.get("RANGEFINDER_DATA_DIR"))
    parser.add_argument(
        "--keep", type=Path, help="folder in which the studies stay; it must not have them yet"
    )
    parser.add_argument(
        "--record", action="store_true", help="write the figures into docs/benchmarks and the page"
    )
    options = parser.parse_args()
    for name in options.cases:
        entry = measure(name, options.cores, options.data_dir, options.keep)
        print(
            f"{name}: plan {entry['estimate_s']} s, run {entry['real_s']} s, plan over run {entry['ratio']} "
            f"(load {entry['load'][0]} to {entry['load'][1]})"
        )
        print(f"  planned, device seconds: {entry['planned_s']}\n  jobs: {entry['jobs']}", flush=True)
        if options.record:
            harness.keep(name, entry, "cpu", part="plan")
    if options.record:
        write()


if __name__ == "__main__":
    main()
