"""A study of a hundred runs, made up, as its records would be read from disk."""

import sys
from pathlib import Path

import numpy as np
from rangefinder import lr_range

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "unit"))
from test_report import record, study

SCHEDULES = ["none", "step", "multistep", "exponential", "onecycle"]
BATCHES = [32, 64, 128, 256]
SEEDS = range(5)
EPOCHS, STEPS = 30, 14_070  # LeNet-5 on MNIST at a batch of 128
DIVERGED, MISSING = "sgd-step-bs256-seed1", "sgd-onecycle-bs256-seed4"


def hundred_runs():
    """Five schedules × four batch sizes × five seeds; one run diverged, one has no record yet."""
    rng = np.random.default_rng(0)
    plan = [(schedule, batch, seed) for schedule in SCHEDULES for batch in BATCHES for seed in SEEDS]
    runs = []
    for schedule, batch, seed in plan:
        accuracy = 0.96 + 0.004 * SCHEDULES.index(schedule) - batch / 20_000 + 0.002 * rng.standard_normal()
        name = f"sgd-{schedule}-bs{batch}-seed{seed}"
        run = record(schedule, batch, seed, accuracy, diverged=412 if name == DIVERGED else None)
        epochs, steps = np.arange(1.0, EPOCHS + 1), np.arange(float(STEPS))
        climb = accuracy - 0.3 * np.exp(-epochs / 4) + 0.002 * rng.standard_normal(EPOCHS)
        run["epochs"] = {column: 1.0 - climb for column in run["epochs"]}
        run["epochs"] |= {f"{part}_accuracy": climb for part in ("train", "validation", "test")} | {
            "epoch": epochs
        }
        decay = 0.5 * (1 + np.cos(np.pi * steps / STEPS)) + 1e-4
        run["steps"] = {"step": steps, "lr": 0.1 * decay, "loss": 1 - 0.5 * steps / STEPS}
        run["machine"]["epochs"] = [
            {"epoch": epoch, "train_s": 64 / batch, "evaluate_s": 0.1} for epoch in range(1, EPOCHS + 1)
        ]
        if name != MISSING:
            runs.append(run)
    return study(plan, title="A hundred runs", schedules=SCHEDULES, notes=["A remark."]), runs


def range_test():
    """A range test of three seeds: a basin between 1e-2 and 1, with noise."""
    lr = np.logspace(-6, 1, 700)
    sweeps = []
    for seed in (0, 1, 2):
        noise = 0.02 * np.random.default_rng(seed).standard_normal(len(lr))
        loss = 0.5 + 1.8 / (1 + (lr / 1e-2) ** 2) + (lr / (1 + seed / 10)) ** 4 + noise
        sweeps.append({"seed": seed, "lr": lr, "loss": loss})
    entry = lr_range.extract(sweeps) | {"range_test": "sgd", "optimizer": "SGD", "batch_size": 64}
    entry |= {"steps_per_decade": 100.0, "provenance": record("none", 64, 0, 0.9)["run"]["provenance"]}
    shown = [{"sweep": {"seed": sweep["seed"]}, "columns": sweep} for sweep in sweeps]
    return entry, shown
