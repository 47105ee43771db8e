"""Several runs in one process: the records that each has in a process of its own, and what becomes of failures."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from rangefinder import data, finished, in_turn, records, runs, training
from rangefinder.clocks import Clocks
from rangefinder.errors import RunError
from rangefinder.memory import halved
from rangefinder.progress import Progress
from rangefinder.stopping import Interrupted
from rangefinder.trainer import Trainer

ROOT = Path(__file__).resolve().parents[2]
PLAIN = {
    "dataset": {"name": "digits", "validation": 100, "train_samples": 150, "test_samples": 50},
    "model": {"name": "LeNetSmall"},
    "optimizer": {"name": "SGD", "momentum": 0.9},
    "schedule": {"name": "none"},
    "lr": 0.05,
    "batch_size": 50,
    "epochs": 2,
    "precision": "fp32",
}
# None of the study's own networks draws random numbers while it trains; this one does.
OWN = """
from torch import nn

def dropout(input_shape, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.Dropout(0.5), nn.ReLU(), nn.Linear(64, classes))
"""
DROPOUT = {"model": {"name": "own.py:dropout"}, "optimizer": {"name": "RMSprop"}, "lr": 1e-3}
CROPS = {"random_crop": 1, "horizontal_flip": True}
MIXED = {
    "dropout": DROPOUT,
    "lars-bn": {"model": {"name": "BNCNN"}, "optimizer": {"name": "LARS", "momentum": 0.9}, "lr": 0.5},
    "bf16": {"precision": "bf16", "optimizer": {"name": "Adam"}, "lr": 1e-3},
    "fp64-mlp": {"precision": "fp64", "model": {"name": "MLP"}, "schedule": {"name": "OneCycleLR"}},
    "diverges": {"model": {"name": "MLP"}, "lr": 1e30},
    "augmented": {"dataset": PLAIN["dataset"] | {"augmentation": CROPS}, "channels_last": True},
    "replayed": {"order": "torch-dataloader", "model": {"name": "BNCNN"}, "micro_batch": 10},
    "lamb": {"optimizer": {"name": "LAMB"}, "initialisation": "kaiming_normal_fan_in", "drop_last": True},
    "dropout-again": DROPOUT,
}


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Small steps are slower with more, and wait for a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "digits"
    data.prepare({"name": "digits"}, folder)
    return folder


def spec(name, seed=0, **changes):
    parameters = PLAIN | changes | {"seed": seed}
    return {"study": "s", "run": name, "seed": seed, "range_test": None, "parameters": parameters}


@pytest.fixture(scope="module")
def mixed(digits, tmp_path_factory):
    """Runs of every kind, each trained alone and all in one process; twice the same one but for its seed."""
    folder = tmp_path_factory.mktemp("mixed")
    specs = [spec(name, seed, **changes) for seed, (name, changes) in enumerate(MIXED.items())]
    (folder / "specs.json").write_text(json.dumps(specs))
    (folder / "own.py").write_text(OWN)
    script = Path(__file__).with_name("runs_in_turn.py")
    subprocess.run(
        [sys.executable, str(script), str(folder / "specs.json"), str(digits), str(folder)],
        check=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT / "workflow/scripts"), "CUDA_VISIBLE_DEVICES": ""},
    )
    return folder


@pytest.mark.parametrize("name", MIXED)
def test_a_run_has_the_bytes_that_it_has_alone(mixed, name):
    for file in ("run.json", "epochs.csv", "steps.csv"):
        alone, together = (mixed / way / "runs" / name / file for way in ("alone", "together"))
        assert together.read_bytes() == alone.read_bytes(), file
    expected = "diverged" if name == "diverges" else "completed"
    assert records.read_run(mixed / "together/runs" / name)["run"]["status"] == expected


def test_final_weights_and_generators_are_those_of_runs_alone(mixed):
    together = (mixed / "together/weights-dropout").read_text().split()
    assert together == [(mixed / f"alone/weights-{name}").read_text() for name in MIXED]
    assert len(set(together)) == len(MIXED)


def test_each_record_says_how_many_runs_the_process_had_trained(mixed):
    def before(way):
        folders = (mixed / way / "runs" / name for name in MIXED)
        return [records.read_run(folder)["machine"]["trained_before"] for folder in folders]

    assert before("alone") == [0] * len(MIXED)
    assert before("together") == list(range(len(MIXED)))


def train(specs, digits, folder, **options):
    (folder / "logs/train").mkdir(parents=True, exist_ok=True)
    in_turn.train(
        specs,
        study_folder=folder,
        lr_range=None,
        data_folder=digits,
        leased=0,
        clocks=Clocks(),
        report=Progress(),
        log_into=lambda path: nullcontext(),
        reported=lambda path, spec: nullcontext(Progress()),
        kept=True,
        **options,
    )


def test_what_a_training_changes_in_the_process_is_put_back():
    def state():
        return (
            torch.rand(1).item(),
            random.random(),
            np.random.rand(),
            torch.get_default_dtype(),
            torch.get_float32_matmul_precision(),
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
            torch.get_num_threads(),
            torch.is_grad_enabled(),
        )

    with in_turn.as_if_alone(cuda=False):
        before = state()
    with pytest.raises(ZeroDivisionError), in_turn.as_if_alone(cuda=False):
        torch.manual_seed(1), random.seed(1), np.random.seed(1)
        torch.set_default_dtype(torch.float64)
        torch.set_float32_matmul_precision("medium")
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.set_num_threads(torch.get_num_threads() + 1)
        torch.set_grad_enabled(False)
        assert all(new != old for new, old in zip(state(), before, strict=True))
        raise ZeroDivisionError
    assert state() == before


def test_where_one_run_cannot_be_finished_the_others_are_and_it_is_named(digits, tmp_path):
    specs = [spec("first"), spec("second", model={"name": "BNCNN", "widths": [1]}), spec("third")]
    with pytest.raises(RunError, match=r"1 of 3 runs could not be finished: second: .*widths"):
        train(specs, digits, tmp_path)
    assert {path.name for path in (tmp_path / "finished").iterdir()} == {"first", "third"}
    for name in ("first", "third"):
        assert finished.read(tmp_path, name, runs.digest(spec(name)))["status"] == "completed"
    assert [path.name for path in (tmp_path / "unfinished").iterdir()] == ["second.json"]


def test_an_interrupted_run_is_the_last_of_its_attempt_and_keeps_those_before(digits, tmp_path, monkeypatch):
    steps = Trainer._steps

    def stopped_in_the_second(self, *arguments, **options):
        if self.parameters["seed"] == 1:
            self.stop.signal = signal.SIGTERM
        steps(self, *arguments, **options)

    monkeypatch.setattr(Trainer, "_steps", stopped_in_the_second)
    specs = [spec("a"), spec("b", seed=1), spec("c")]
    with pytest.raises(Interrupted, match="stopped by SIGTERM after step 1 of 6"):
        train(specs, digits, tmp_path)
    assert [path.name for path in (tmp_path / "finished").iterdir()] == ["a"]
    assert [path.name[0] for path in (tmp_path / "checkpoints").iterdir()] == ["b"]
    monkeypatch.undo()
    train(specs[1:], digits, tmp_path)
    assert records.read_run(tmp_path / "runs/b")["machine"]["resumed"] == 1


@pytest.fixture
def kept(digits, tmp_path):
    """A study of one run whose record is kept, and whose outputs Snakemake has deleted."""
    job = spec("r")
    train([job], digits, tmp_path)
    finished.log_file(tmp_path, "r").write_text("its log\n")
    finished.keep(tmp_path, "r")
    shutil.rmtree(tmp_path / "runs")
    finished.log_file(tmp_path, "r").unlink()
    return tmp_path, job


def test_a_kept_record_is_taken_up_whole_with_its_log(kept, digits):
    folder, job = kept
    assert finished.take(folder, job, None, digits)
    assert records.read_run(folder / "runs/r")["run"]["status"] == "completed"
    assert finished.log_file(folder, "r").read_text() == "its log\n"
    shutil.rmtree(folder / "runs")  # as often as its job fails
    assert finished.take(folder, job, None, digits)
    finished.forget(folder, ["r"])
    assert not (folder / "finished").exists() and (folder / "runs/r/run.json").exists()


@pytest.mark.parametrize("changed", ["specification", "lr range", "status", "data", "file", "nothing kept"])
def test_a_kept_record_of_anything_else_is_not_taken_up(kept, digits, tmp_path, changed):
    folder, job = kept
    lr_range, data_folder = None, digits
    if changed == "specification":
        job = spec("r", seed=1)
    elif changed in ("lr range", "status"):  # the same specification; the range now makes another record
        finished.forget(folder, ["r"])
        job = spec("r", lr="suggested")
        (folder / "again").mkdir()
        found = {"study": job["study"], "range_test": job["range_test"]}
        lr_range = found | {"status": "ok", "suggested_lr": {"value": 0.1}}
        options = {"folder": folder / "runs/r", "checkpoint_folder": folder / "checkpoints"}
        training.run(job, lr_range=lr_range, data_folder=digits, **options)
        finished.keep(folder, "r")
        assert finished.take(folder, job, lr_range, digits)
        shutil.rmtree(folder / "runs")
        if changed == "status":
            lr_range = found | {"status": "right_censored", "suggested_lr": {"value": 0.1}}
        else:
            lr_range = found | {"status": "ok", "suggested_lr": {"value": 0.2}}
    elif changed == "data":
        data_folder = tmp_path / "data"
        shutil.copytree(digits, data_folder)
        description = records.read_json(data_folder / "dataset.json", "dataset")
        records.write_json(data_folder / "dataset.json", description | {"digest": "0" * 64})
    elif changed == "file":
        table = folder / "finished/r/steps.csv"
        table.write_text(table.read_text().replace("0.05", "0.06", 1))
    else:
        finished.forget(folder, ["r"])
    assert not finished.take(folder, job, lr_range, data_folder)
    assert not (folder / "runs").exists()


def test_a_halved_micro_batch_is_no_other_run(kept, digits):
    folder, _ = kept
    job = spec("r", on_out_of_memory="halve", micro_batch=None)
    note = {"status": "out_of_memory", "micro_batch": 50}
    parameters = job["parameters"] | {"micro_batch": halved(job["parameters"], note)}
    assert parameters["micro_batch"] == 25
    path = folder / "finished/r/run.json"
    record = json.loads(path.read_text())
    record |= {"parameters": parameters, "digest": runs.digest(parameters), "spec_digest": runs.digest(job)}
    records.write_json(path, record)
    path = path.with_name("machine.json")
    records.write_json(path, json.loads(path.read_text()) | {"spec_digest": runs.digest(job)})
    assert finished.take(folder, job, None, digits)
