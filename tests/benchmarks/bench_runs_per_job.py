"""A study of 20 runs of about a second each: one run per job, and several in one job and process (`runs_per_job`).

    python tests/benchmarks/bench_runs_per_job.py --threads 1

A round is the study from prepared data to its last record, by Snakemake with as many cores as threads, its own start
included. The records of all rounds are compared, and have to be the same.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import harness

FOLDER = Path(tempfile.gettempdir()) / "rangefinder-bench-runs-per-job"
STUDY = """
title: Twenty runs of seconds
dataset: {name: digits, validation: 360}
model: {name: LeNetSmall}
run: {batch_size: 64, epochs: 20, lr: 0.01}
seeds: [0, 1, 2, 3, 4]
optimizers: {sgd: {name: SGD, momentum: 0.9}, adam: {name: Adam}}
schedules: {none: {name: none}, onecycle: {name: OneCycleLR}}
sweeps: {all: {grid: {optimizer: [sgd, adam], schedule: [none, onecycle]}}}
"""
RUNS = [
    f"{optimizer}-{schedule}-bs64-seed{seed}"
    for optimizer in ("sgd", "adam")
    for schedule in ("none", "onecycle")
    for seed in range(5)
]


def snakemake(folder: Path, cores: int, *arguments: str) -> None:
    command = [sys.executable, "-m", "snakemake", "-s", str(harness.ROOT / "Snakefile"), "--quiet", "all"]
    command += ["--workflow-profile", str(harness.ROOT / "profiles" / "default"), "--cores", str(cores)]
    subprocess.run(
        [*command, *arguments], cwd=folder, check=True, env={**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    )


def study(number: int, options: argparse.Namespace) -> harness.Prepared:
    folder = FOLDER / str(number)
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "config/studies").mkdir(parents=True)
    (folder / "config/config.yaml").write_text(f"studies: [short]\nruns_per_job: {number}\n")
    (folder / "config/studies/short.yaml").write_text(STUDY)
    results = folder / "results/short"
    snakemake(folder, 1, "results/data/digits/dataset.json")

    def before() -> None:
        if (results / "runs").exists():
            check(results)
        for path in (results, folder / ".snakemake"):
            shutil.rmtree(path, ignore_errors=True)

    records = [f"results/short/runs/{run}/run.json" for run in RUNS]
    return harness.Prepared(before, partial(snakemake, folder, options.threads, *records))


def check(results: Path) -> None:
    """End the benchmark unless these are the records of the first round."""
    names = [f"{run}/{file}" for run in RUNS for file in ("run.json", "epochs.csv", "steps.csv")]
    found = "".join(hashlib.sha256((results / "runs" / name).read_bytes()).hexdigest() for name in names)
    first = FOLDER / "digests"
    if not first.exists():
        first.write_text(found)
    elif first.read_text() != found:
        raise SystemExit(f"{results}: other records than before")


def main() -> None:
    parser = harness.parser(__doc__, rounds=3, warm_up=1)
    parser.add_argument("--runs-per-job", type=int, nargs="+", default=[10])
    options = parser.parse_args()
    shutil.rmtree(FOLDER, ignore_errors=True)
    names = {number: f"{number} runs per job" for number in options.runs_per_job} | {1: "1 run per job"}
    harness.main(
        "runs_per_job",
        "A study of 20 runs of about a second",
        "study",
        {names[number]: partial(study, number) for number in sorted(names)},
        [
            harness.Ratio(f"one run per job over {number}", names[1], names[number])
            for number in options.runs_per_job
        ],
        options,
        workers=False,
        packages=["snakemake"],
    )
    for number in names:
        check(FOLDER / str(number) / "results/short")


if __name__ == "__main__":
    main()
