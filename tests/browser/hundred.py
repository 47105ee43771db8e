"""A study of a hundred runs, made up, as its records would be read from disk; the same from another machine."""

import copy
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
        run["run"]["samples"] |= {"test": 10_000}  # MNIST's: of fewer no accuracy is known to a point
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


def claims():
    """Two claims about them, one of two comparisons, as config/published/claims.yaml would have them."""

    def higher(a, b, batch):
        sides = ({"schedule": schedule, "batch_size": batch} for schedule in (a, b))
        test = dict(zip("ab", sides, strict=True)) | {"metric": "final_test_accuracy"}
        return {"form": None, "relation": "higher"} | test

    first = {"id": "c1", "claim": "One cycle is better than none.", "source": "Page 1"}
    first["tests"] = [higher("onecycle", "none", 32), higher("none", "onecycle", 64)]
    second = {"id": "c2", "claim": "Steps are better than none.", "source": "Page 2"}
    second["tests"] = [higher("step", "none", 32)]
    return [entry | {"study": "s"} for entry in (first, second)]


def other_side(plan, runs):
    """The same study from elsewhere: two seeds of its own, one cell gone, another machine and version, a run diverged.

    Returns:
        The study and the records of both sides, as they are compared.
    """
    for run in runs:
        name = run["run"]["run"]
        run["run"] |= {"files": {"epochs.csv": name, "steps.csv": name}, "digest": name}
    entries = [entry for entry in plan["runs"] if "-step-bs32-" not in entry["run"]]
    there = []
    kept = []
    for entry in entries:
        run = next((run for run in runs if run["run"]["run"] == entry["run"]), None)
        run = copy.deepcopy(run)
        if "-none-" in entry["run"]:  # seeds 5 to 9 in place of 0 to 4: no run of a common seed
            entry = entry | {"seed": entry["seed"] + 5, "run": entry["run"][:-1] + str(entry["seed"] + 5)}
            if run:
                run["run"]["run"] = entry["run"]
        kept.append(entry)
        if run is None:
            continue
        run["run"]["provenance"] = run["run"]["provenance"] | {"engine_digest": "f" * 64, "version": "2"}
        run["machine"]["device"] = "another CPU"
        if "-exponential-bs64-seed1" in run["run"]["run"]:
            run["run"] |= {"status": "diverged", "results": dict.fromkeys(run["run"]["results"])}
            run["run"]["divergence"] = {
                "step": 99,
                "epoch": 1,
                "last_finite_loss": 7.5,
                "cause": "non_finite_loss",
            }
        if "-onecycle-bs32-seed0" in run["run"]["run"]:
            run["run"]["files"] = {"epochs.csv": "otherwise", "steps.csv": "otherwise"}
        there.append(run)
    return plan | {"runs": kept}, there


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
