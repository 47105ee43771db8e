"""One run: against a plain loop, continued after kills, diverged where the loss says so."""

import errno
import json
import math
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from rangefinder import clocks, data, experiment, records, resolution, training
from rangefinder.errors import InputError
from rangefinder.memory import OutOfMemory
from rangefinder.stopping import Interrupted
from rangefinder.trainer import Trainer, results
from torch import nn

ROOT = Path(__file__).resolve().parents[2]
PLAIN = {
    "dataset": {"name": "digits", "validation": 200, "train_samples": 250, "test_samples": 100},
    "model": {"name": "LeNetSmall"},
    "optimizer": {"name": "SGD", "momentum": 0.9},
    "schedule": {"name": "none"},
    "lr": 0.05,
    "batch_size": 64,
    "epochs": 3,
    "precision": "fp32",
    "seed": 3,
}


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "digits"
    data.prepare({"name": "digits"}, folder)
    return folder


def spec(**changes):
    return {"study": "s", "run": "r", "seed": 3, "range_test": None, "parameters": PLAIN | changes}


def train(digits, folder, job=None, **options):
    return training.run(
        job or spec(),
        lr_range=None,
        data_folder=digits,
        folder=folder / "run",
        checkpoint_folder=folder / "checkpoints",
        **options,
    )


def trainer(digits, **changes):
    arrays = data.load(digits)
    return Trainer(PLAIN | changes, arrays, device=torch.device("cpu"), clocks=clocks.Clocks())


def test_a_gpus_own_generator_starts_from_the_runs_seed(digits, monkeypatch):
    ours, seeds = trainer(digits), []
    monkeypatch.setattr(torch.cuda, "manual_seed", seeds.append)
    with suppress(AssertionError, RuntimeError):  # where torch has no CUDA the model cannot go there
        experiment.build(
            ours.parameters | {"seed": 5}, data.load(digits), device=torch.device("cuda"), lr=0.05, epochs=3
        )
    assert seeds == [5]


def test_the_losses_are_those_of_a_plain_loop_with_torchs_scheduler(digits):
    ours = trainer(digits, precision="fp64", schedule={"name": "StepLR", "step_size": 1, "gamma": 0.5})
    arrays = data.load(digits)
    splits = data.split(arrays, PLAIN["dataset"])
    theirs = experiment.build(ours.parameters, arrays, device=torch.device("cpu"), lr=0.05, epochs=3).model
    optimizer = torch.optim.SGD(theirs.parameters(), lr=0.05, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
    images = (
        torch.tensor(np.array(arrays.train_images[splits.train])) / 255
    ).double()  # pixels are ToTensor's
    labels = torch.tensor(np.array(arrays.train_labels[splits.train]))
    expected, means = [], []
    for epoch in range(3):
        total = 0.0
        for part in data.epoch_order(3, epoch, 250).split(64):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(theirs(images[part]), labels[part])
            loss.backward()
            optimizer.step()
            expected.append(loss.item())
            total += loss.item() * len(part)
        means.append(total / 250)
        scheduler.step()
    ours.train()
    assert ours.losses.tolist() == pytest.approx(expected, rel=1e-12)
    assert [row["train_loss"] for row in ours.rows] == pytest.approx(
        means, rel=1e-12
    )  # the last batch has 58
    test = (torch.tensor(np.array(arrays.test_images[splits.test])) / 255).double()
    with torch.no_grad():
        right = theirs(test).argmax(1) == torch.tensor(np.array(arrays.test_labels[splits.test]))
    assert ours.rows[-1]["test_accuracy"] == right.double().mean().item()
    # Of the 100 samples the last batch has 36, and weighs as much as the one of 64.
    of_batches = [part.double().mean().item() for part in right.split(64)]
    assert len(of_batches) == 2 and of_batches[0] != of_batches[1]
    assert ours.record()["results"]["batch_mean_test_accuracy"] == pytest.approx(
        np.mean(of_batches), abs=1e-15
    )


def test_micro_batches_give_the_whole_batchs_gradients(digits):
    whole, parts = (trainer(digits, precision="fp64", batch_size=250, micro_batch=m) for m in (None, 32))
    whole.train()
    parts.train()
    assert parts.losses.tolist() == pytest.approx(whole.losses.tolist(), rel=1e-12)
    for a, b in zip(whole.parts.model.parameters(), parts.parts.model.parameters(), strict=True):
        assert (a - b).abs().max() <= 1e-9 * a.abs().max()


def gradients(model) -> torch.Tensor:
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters()])


@pytest.mark.parametrize(
    ("model", "arguments"), [("MLP", {"hidden": [16]}), ("BNCNN", {"widths": [2, 2, 2]})]
)
def test_a_batch_of_8192_in_micro_batches_of_512(digits, model, arguments):
    ours = trainer(digits, precision="fp64", model={"name": model, **arguments})
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(8192, 1, 8, 8, generator=generator, dtype=torch.float64)
    y = torch.randint(10, (8192,), generator=generator)
    nn.functional.cross_entropy(ours.parts.model(x), y).backward()
    expected = gradients(ours.parts.model)
    ours.parts.optimizer.zero_grad()
    ours._accumulate(x, y, 512)
    difference = (gradients(ours.parts.model) - expected).abs().max() / expected.abs().max()
    if (
        model == "BNCNN"
    ):  # each micro-batch is normalised by itself: other gradients, as the page for users says
        assert difference > 1e-4
    else:
        assert difference < 1e-9


def test_a_divergence_is_typed_and_the_tables_end_there(digits, tmp_path):
    record = train(digits, tmp_path, spec(lr=3e38))
    assert record["status"] == "diverged"
    run = records.read_run(tmp_path / "run")
    step = record["divergence"]["step"]
    assert (
        record["divergence"]["cause"] == "non_finite_loss" and record["divergence"]["epoch"] == step // 4 + 1
    )
    assert len(run["steps"]["loss"]) == step == record["steps"]
    assert np.isfinite(run["steps"]["loss"]).all()
    assert record["divergence"]["last_finite_loss"] == pytest.approx(run["steps"]["loss"][-1])
    assert len(run["epochs"]["epoch"]) == step // 4
    assert record["results"]["final_test_accuracy"] is None
    assert record["results"]["batch_mean_test_accuracy"] is None
    assert record["weights_digest"] is None


def test_best_and_final_are_what_their_names_say():
    def row(epoch, validation, test):
        return {
            "epoch": epoch,
            "validation_accuracy": validation,
            "test_accuracy": test,
            "validation_loss": 1,
            "test_loss": 2,
        }

    found = results([row(1, 0.5, 0.9), row(2, 0.7, 0.6), row(3, 0.7, 0.8), row(4, 0.6, 0.7)], diverged=False)
    assert found["final_test_accuracy"] == 0.7 and found["final_validation_accuracy"] == 0.6
    assert (found["best_validation_accuracy"], found["best_validation_epoch"]) == (0.7, 2)
    assert found["test_accuracy_at_best_validation"] == 0.6
    assert (found["best_test_accuracy"], found["best_test_epoch"]) == (0.9, 1)


KILLED = """
import sys
from pathlib import Path
sys.path.insert(0, {scripts!r})
import torch
torch.set_num_threads(1)
from rangefinder import training
import json
job, folder = json.loads(sys.argv[1]), Path(sys.argv[2])
training.run(job, lr_range=None, data_folder={digits!r}, folder=folder / "run",
             checkpoint_folder=folder / "checkpoints", checkpoint_minutes=0)
"""


@pytest.mark.parametrize(
    "changes",
    [
        {"optimizer": {"name": "Adam"}, "schedule": {"name": "OneCycleLR"}, "channels_last": "auto"},
        {
            "optimizer": {"name": "LARS", "weight_decay": 1e-4},
            "order": "torch-dataloader",
            "model": {
                "name": f"{ROOT}/tests/torture/own.py:fragile"
            },  # with dropout, which draws at every step
        },
    ],
    ids=["adam", "lars-dropout"],
)
def test_a_run_killed_again_and_again_ends_with_the_same_bytes(digits, tmp_path, changes):
    job = spec(epochs=150, **changes)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        train(digits, tmp_path / "whole", job)
    finally:
        torch.set_num_threads(threads)
    code = KILLED.format(scripts=str(ROOT / "workflow/scripts"), digits=str(digits))
    command = [sys.executable, "-c", code, json.dumps(job), str(tmp_path / "killed")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    checkpoints = tmp_path / "killed/checkpoints"
    stopped = []
    for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGKILL):
        process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
        before = {path: path.stat().st_mtime_ns for path in checkpoints.rglob("latest.ckpt")}
        while process.poll() is None:
            now = {
                path: path.stat().st_mtime_ns for path in checkpoints.rglob("latest.ckpt") if path.exists()
            }
            if now and now != before:
                time.sleep(0.02)
                process.send_signal(number)
                break
            time.sleep(0.005)
        stopped.append(process.wait())
    assert all(code != 0 for code in stopped), stopped
    subprocess.run(command, env=environment, check=True)
    for name in ("run.json", "epochs.csv", "steps.csv"):
        assert (tmp_path / "killed/run" / name).read_bytes() == (
            tmp_path / "whole/run" / name
        ).read_bytes(), name
    assert records.read_json(tmp_path / "killed/run/machine.json", "machine")["resumed"] == 4
    assert not checkpoints.exists()
    assert sorted(path.name for path in (tmp_path / "killed").rglob("*") if path.name.startswith(".")) == []


def test_checkpoints_come_by_epoch_and_by_time(digits):
    class Kept:
        def __init__(self):
            self.steps = []

        def save(self, state):
            self.steps.append(state["step"])

    def steps(**options):
        kept = Kept()
        running = Trainer(
            PLAIN | {"model": {"name": "MLP", "hidden": [4]}, "batch_size": 2},  # 125 steps in an epoch
            data.load(digits),
            device=torch.device("cpu"),
            clocks=clocks.Clocks(),
            checkpoints=kept,
            **options,
        )
        running.train()
        return kept.steps

    assert steps(checkpoint_epochs=1) == [125, 250]  # the third epoch is the record's
    assert steps(checkpoint_epochs=2) == [250]
    assert steps(checkpoint_seconds=0) == [100, 125, 200, 250, 300]
    assert steps() == []


def test_the_same_run_twice_is_the_same_bytes(digits, tmp_path):
    for name in ("a", "b"):
        train(digits, tmp_path / name)
    for name in ("run.json", "epochs.csv", "steps.csv"):
        assert (tmp_path / "a/run" / name).read_bytes() == (tmp_path / "b/run" / name).read_bytes()


def test_the_digest_of_the_weights_is_of_every_bit_of_the_final_ones(digits, tmp_path):
    model = {"name": "BNCNN"}  # with buffers, one of them a whole number
    record = train(digits, tmp_path, spec(model=model, epochs=1))
    again = trainer(digits, model=model, epochs=1)
    begun = again.parts.weights_digest()
    again.train()
    final = again.parts.weights_digest()
    assert record["weights_digest"] == final != begun
    for name, tensor in again.parts.model.state_dict().items():
        last = tensor.view(-1)[-1:].view(torch.uint8)
        last[-1] ^= 1
        assert again.parts.weights_digest() != final, name
        last[-1] ^= 1
    assert again.parts.weights_digest() == final


def test_an_lr_that_the_range_test_could_not_give_is_refused(digits, tmp_path):
    job = spec(lr="suggested / 10") | {"range_test": "sgd"}
    found = {
        "study": "s",
        "range_test": "sgd",
        "status": "no_descent",
        "lr_min": None,
        "suggested_lr": None,
        "lr_max": None,
    }
    with pytest.raises(
        InputError, match=r"lr: range test 'sgd' ended as 'no_descent' and gives no suggested"
    ):
        training.run(
            job, lr_range=found, data_folder=digits, folder=tmp_path / "run", checkpoint_folder=tmp_path / "c"
        )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("key", "other"), [("range_test", "adam"), ("study", "digits")])
def test_an_lr_range_of_anything_else_gives_no_lr(digits, tmp_path, key, other):
    job = spec(lr="suggested") | {"range_test": "sgd"}
    numbers = {name: {"value": 0.1} for name in ("lr_min", "suggested_lr", "lr_max")}
    found = {"study": "s", "range_test": "sgd", "status": "ok", **numbers} | {key: other}
    places = {"data_folder": digits, "folder": tmp_path / "run", "checkpoint_folder": tmp_path / "c"}
    with pytest.raises(InputError, match=rf"{key}: is given the LR range of another .*\(got '{other}'\)"):
        training.run(job, lr_range=found, **places)
    assert list(tmp_path.iterdir()) == []


def test_too_little_memory_ends_with_advice(digits, tmp_path, monkeypatch):
    def full(self, until, *, first_of_epoch):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Trainer, "_steps", full)
    with pytest.raises(OutOfMemory, match=r"with 64 samples at once; set run\.micro_batch to 32"):
        train(digits, tmp_path)
    assert not (tmp_path / "run").exists()


def short_of_memory(monkeypatch, most, stop_at=math.inf, evaluated=math.inf):
    """Have memory run out, as CUDA says it, where more than `most` samples are computed with at once.

    Args:
        evaluated: as `most`, in evaluations.
        stop_at: the call of the network at which SIGTERM comes.
    """
    forward = experiment.Experiment.forward
    calls = iter(range(10**6))

    def limited(self, model, x):
        if len(x) > (most if model.training else evaluated):
            raise torch.OutOfMemoryError("CUDA out of memory")
        if next(calls) == stop_at:
            os.kill(os.getpid(), signal.SIGTERM)
        return forward(self, model, x)

    monkeypatch.setattr(experiment.Experiment, "forward", limited)


def test_a_run_that_asks_for_it_halves_its_micro_batch_until_memory_is_enough(digits, tmp_path, monkeypatch):
    job, notes = spec(batch_size=48, on_out_of_memory="halve"), tmp_path / "notes"
    short_of_memory(monkeypatch, most=8)
    for at_once in (48, 24, 12):
        with pytest.raises(OutOfMemory, match=f"with {at_once} samples at once"):
            train(digits, tmp_path, job, notes_folder=notes)
        assert records.read_json(notes / "r.json", "unfinished")["status"] == "out_of_memory"
    record = train(digits, tmp_path, job, notes_folder=notes)
    assert (record["status"], record["parameters"]["micro_batch"]) == ("completed", 6)
    assert not notes.exists()
    train(digits, tmp_path / "told", spec(batch_size=48, micro_batch=6))
    for name in ("epochs.csv", "steps.csv"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "told/run" / name).read_bytes()


def test_a_halved_run_that_is_interrupted_continues_with_its_half(digits, tmp_path, monkeypatch):
    job, notes = spec(batch_size=48, on_out_of_memory="halve"), tmp_path / "notes"
    short_of_memory(monkeypatch, most=30, stop_at=20)
    with pytest.raises(OutOfMemory):
        train(digits, tmp_path, job, notes_folder=notes)
    with pytest.raises(Interrupted):
        train(digits, tmp_path, job, notes_folder=notes)
    assert train(digits, tmp_path, job, notes_folder=notes)["parameters"]["micro_batch"] == 24
    assert records.read_json(tmp_path / "run/machine.json", "machine")["resumed"] == 1


def test_a_run_that_does_not_ask_for_it_keeps_its_batch_whole(digits, tmp_path, monkeypatch):
    short_of_memory(monkeypatch, most=8)
    for _ in range(2):
        with pytest.raises(OutOfMemory, match="with 64 samples at once"):
            train(digits, tmp_path, notes_folder=tmp_path / "notes")


def test_an_evaluation_that_does_not_fit_says_so_and_halves_no_micro_batch(digits, tmp_path, monkeypatch):
    job, notes = spec(batch_size=48, on_out_of_memory="halve", eval_batch_size=100), tmp_path / "notes"
    with monkeypatch.context() as patched:
        short_of_memory(patched, most=30, evaluated=60)
        with pytest.raises(OutOfMemory, match=r"with 48 samples at once; set run\.micro_batch to 24"):
            train(digits, tmp_path, job, notes_folder=notes)
        for _ in range(3):
            advice = "set run.eval_batch_size to 50 or less"
            with pytest.raises(OutOfMemory, match=f"in an evaluation with 100 samples at once; {advice}"):
                train(digits, tmp_path, job, notes_folder=notes)
            note = records.read_json(notes / "r.json", "unfinished")
            assert (note["status"], note["micro_batch"], note["advice"]) == ("out_of_memory", 24, advice)
        short_of_memory(patched, most=30, evaluated=0)
        with pytest.raises(
            OutOfMemory, match=r"with 1 sample at once; run\.eval_batch_size cannot be smaller"
        ):
            train(digits, tmp_path / "other", spec(batch_size=16, eval_batch_size=1))
    assert train(digits, tmp_path, job, notes_folder=notes)["parameters"]["micro_batch"] == 24


def test_a_micro_batch_of_one_is_not_halved(digits, tmp_path, monkeypatch, caplog):
    job, notes = spec(batch_size=4, on_out_of_memory="halve", epochs=1), tmp_path / "notes"
    with monkeypatch.context() as patched:
        short_of_memory(patched, most=0)
        for at_once in (4, 2):
            with pytest.raises(OutOfMemory, match=f"set run.micro_batch to {at_once // 2} or less"):
                train(digits, tmp_path, job, notes_folder=notes)
        for _ in range(2):
            caplog.clear()
            with pytest.raises(
                OutOfMemory, match=r"with 1 sample at once; run\.micro_batch cannot be smaller"
            ):
                train(digits, tmp_path, job, notes_folder=notes)
        assert "memory ran out with" not in caplog.text
    assert train(digits, tmp_path, job, notes_folder=notes)["parameters"]["micro_batch"] == 1


@pytest.mark.parametrize("error", [OSError(errno.ENOMEM, "Cannot allocate memory"), MemoryError()])
def test_data_that_do_not_fit_into_memory_are_a_typed_end(digits, tmp_path, monkeypatch, error):
    def refused(*_, **__):
        raise error

    job, notes = spec(on_out_of_memory="halve"), tmp_path / "notes"
    monkeypatch.setattr(data, "load", refused)
    with pytest.raises(
        OutOfMemory, match="out of memory while the data were loaded; give the job more memory"
    ):
        train(digits, tmp_path, job, notes_folder=notes)
    note = records.read_json(notes / "r.json", "unfinished")
    assert (note["status"], note["micro_batch"]) == ("out_of_memory", None)
    monkeypatch.undo()
    assert train(digits, tmp_path, job, notes_folder=notes)["parameters"]["micro_batch"] is None


def test_another_error_of_a_file_is_not_taken_for_a_lack_of_memory(digits, tmp_path, monkeypatch):
    def refused(*_, **__):
        raise OSError(errno.EIO, "Input/output error", "out of memory.npy")

    monkeypatch.setattr(data, "load", refused)
    with pytest.raises(OSError, match="Input/output error"):
        train(digits, tmp_path)


def test_a_state_that_only_code_could_load_has_the_run_start_over(digits, tmp_path, monkeypatch, caplog):
    whole = Trainer._state
    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "_state", lambda self: whole(self) | {"own": np.float64(1)})
        short_of_memory(patched, most=math.inf, stop_at=7)
        with pytest.raises(Interrupted):
            train(digits, tmp_path)
    train(digits, tmp_path)
    assert "latest.ckpt holds something other than tensors and plain values" in caplog.text
    assert records.read_json(tmp_path / "run/machine.json", "machine")["resumed"] == 0
    train(digits, tmp_path / "whole")
    for name in ("run.json", "epochs.csv", "steps.csv"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole/run" / name).read_bytes()


def test_lr_expressions_resolve_to_the_numbers_of_the_range():
    parameters = {"lr": "suggested / 10", "batch_size": 256, "reference_batch_size": 64}
    parameters["schedule"] = {"name": "OneCycleLR", "max_lr": "lr * 2 * k"}
    found = resolution.resolve(
        parameters, {"suggested_lr": {"value": 0.5}, "lr_min": None, "lr_max": None, "status": "ok"}
    )
    assert found["lr"] == pytest.approx(0.05, rel=1e-15)
    assert found["schedule"]["max_lr"] == pytest.approx(0.4, rel=1e-15)
    assert math.isfinite(found["lr"])
