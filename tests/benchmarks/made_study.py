"""A study of many runs with made-up records, and a bare Snakemake workflow of as many jobs beside it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from unittest import mock

import harness
import numpy as np
import yaml
from rangefinder import devices, records, study, trainer
from rangefinder.runs import Run, digest

SNAKEMAKE = Path(__file__).with_name("snakemake_job.py")
NAME = "made"
FILE = f"config/studies/{NAME}.yaml"
EPOCHS, STEPS_PER_EPOCH, SEEDS = 10, 50, 10
BATCH_SIZES = [20, 25, 40, 50, 100]
SCHEDULES = {"none": {"name": "none"}, "onecycle": {"name": "OneCycleLR"}}
BARE = """
rule all:
    input:
        [f"out/{{number}}.txt" for number in range({count})],

rule bare:
    output:
        "out/{{number}}.txt",
    shell:
        "touch {{output}}"
"""


def content(count: int) -> dict:
    """The study's file: `count` runs as a grid of schedule, batch size and LR with ten seeds each."""
    lrs, rest = divmod(count, len(SCHEDULES) * len(BATCH_SIZES) * SEEDS)
    if rest or not lrs:
        raise SystemExit(f"{count} runs: wanted a multiple of {len(SCHEDULES) * len(BATCH_SIZES) * SEEDS}")
    return {
        "title": f"{count} runs",
        "dataset": {"name": "digits", "validation": 200, "train_samples": 1000, "test_samples": 100},
        "model": {"name": "LeNetSmall"},
        "run": {"epochs": EPOCHS},
        "seeds": list(range(SEEDS)),
        "optimizers": {"sgd": {"name": "SGD", "momentum": 0.9}},
        "schedules": SCHEDULES,
        "range_tests": {
            "sgd": {
                "optimizer": "sgd",
                "start_lr": 1e-3,
                "end_lr": 10,
                "steps_per_decade": 20,
                "batch_size": 50,
                "seeds": [0, 1],
            }
        },
        "sweeps": {
            "all": {
                "grid": {
                    "optimizer": ["sgd"],
                    "schedule": list(SCHEDULES),
                    "batch_size": BATCH_SIZES,
                    "lr": [f"suggested * {number / 10:g}" for number in range(1, lrs + 1)],
                }
            }
        },
    }


def planned(folder: Path, count: int) -> None:
    """Write the study's file and the bare workflow's, of which nothing has been run."""
    (folder / "config" / "studies").mkdir(parents=True)
    (folder / FILE).write_text(yaml.safe_dump(content(count), sort_keys=False))
    (folder / "config" / "config.yaml").write_text(f"studies: [{NAME}]\n")
    (folder / "bare").mkdir()
    (folder / "bare" / "Snakefile").write_text(BARE.format(count=count))


def done(folder: Path, count: int) -> None:
    """The same with every file made, and noted by Snakemake: all for real but for the records of the runs."""
    planned(folder, count)
    snakemake(folder, f"results/{NAME}/lr_range/sgd/range.json")
    generator = np.random.default_rng(0)
    with mock.patch("os.fsync"):  # made-up records need not outlive a power cut
        for run in study.load(folder / FILE).runs.values():
            write(folder / "results" / NAME / "runs" / run.id, run, generator)
    snakemake(folder)
    snakemake(folder, "--touch", "--forceall", cores=count)  # with one core it looks over all jobs after each
    (folder / "bare" / "out").mkdir()
    for number in range(count):
        (folder / "bare" / "out" / f"{number}.txt").touch()
    snakemake(folder, "--touch", "--forceall", bare=True, cores=count)


def write(folder: Path, run: Run, generator: np.random.Generator) -> None:
    """A made-up record of one run, by the engine's own writer."""
    steps = EPOCHS * STEPS_PER_EPOCH
    falling = np.exp(-np.linspace(0, 3, steps)) + 0.1 * generator.random(steps)
    rows = [
        {
            "epoch": epoch,
            "step": epoch * STEPS_PER_EPOCH,
            "lr": 0.1,
            "train_loss": float(loss),
            "train_accuracy": float(1 - loss / 2),
            "validation_loss": float(loss) + 0.1,
            "validation_accuracy": float(1 - loss / 2),
            "test_loss": float(loss) + 0.1,
            "test_accuracy": float(1 - loss / 2),
        }
        for epoch, loss in enumerate(falling[STEPS_PER_EPOCH - 1 :: STEPS_PER_EPOCH], start=1)
    ]
    names = ("wait", "startup", "data", "train", "evaluate", "checkpoint", "compile", "total")
    records.write_run(
        folder,
        {
            "study": run.study,
            "run": run.id,
            "seed": run.seed,
            "parameters": run.parameters,
            "digest": digest(run.parameters),
            "spec_digest": digest(run.spec),
            "lr": {
                "expression": run.parameters["lr"],
                "value": 0.1,
                "range_test": "sgd",
                "range_status": "ok",
            },
            "status": "completed",
            "divergence": None,
            "steps": steps,
            "steps_per_epoch": STEPS_PER_EPOCH,
            "samples": {"train": 1000, "validation": 200, "test": 100},
            "model_parameters": 1000,
            "results": trainer.results(rows, diverged=False),
            "provenance": {"engine_digest": "e" * 64, "data_digest": "d" * 64, "version": "0"},
        },
        {
            "device": "cpu",
            "environment": {"python": "3", "torch": "2"},
            "clocks": {f"{name}_s": 0.5 for name in names},
            "epochs": [{"epoch": row["epoch"], "train_s": 1.0, "evaluate_s": 0.1} for row in rows],
            "peak_memory_bytes": None,
            "resumed": 0,
        },
        {name: [row[name] for row in rows] for name in records.EPOCH_COLUMNS},
        {"step": np.arange(steps), "lr": np.full(steps, 0.1), "loss": falling.astype(np.float32)},
    )


def snakemake(
    folder: Path, *arguments: str, bare: bool = False, cores: int = 1, gpus: int | None = 0
) -> float:
    """Run Snakemake on the study, or on the bare workflow beside it; the most memory it used itself, in MiB.

    If it fails, the benchmark ends with what it says.

    Args:
        gpus: that the jobs are told of; None for those that are there.
    """
    # A benchmark that was stopped leaves its lock behind; nothing else works in this folder.
    command = [sys.executable, str(SNAKEMAKE), "--nolock", "--cores", str(cores), *arguments]
    told = {} if gpus is None else {devices.FAKE: str(gpus)}
    if not bare:
        profile = harness.ROOT / "profiles" / "default"
        command += ["-s", str(harness.ROOT / "Snakefile"), "--workflow-profile", str(profile)]
    answer = subprocess.run(
        command,
        cwd=folder / "bare" if bare else folder,
        env={**os.environ, **told},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if answer.returncode:
        raise SystemExit(answer.stdout[-3000:])
    return int(answer.stdout.splitlines()[-1]) / 1024
