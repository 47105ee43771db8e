"""A signal ends a run within one batch, wherever it is, and what was done by then is continued to the same bytes."""

import os
import signal
from pathlib import Path

import pytest
from rangefinder import checkpoints, compilation, data, experiment, stopping
from rangefinder.stopping import Interrupted, Stopped
from test_training import spec, train

ROOT = Path(__file__).resolve().parents[2]
# Dropout draws at every step, and a buffer counts the forward passes: both are cut short in mid-step.
MICRO = {
    "dataset": {"name": "digits", "validation": 200, "train_samples": 100, "test_samples": 100},
    "model": {"name": f"{ROOT}/tests/torture/own.py:fragile"},
    "batch_size": 50,
    "micro_batch": 20,
    "eval_batch_size": 60,
    "epochs": 2,
    "order": "torch-dataloader",
}
FORWARDS = 2 * (2 * 3 + 4 + 2)  # of two epochs: two steps of three micro-batches, then both evaluations
RECORD = ("run.json", "epochs.csv", "steps.csv")


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "digits"
    data.prepare({"name": "digits"}, folder)
    return folder


class Signalled:
    """Sends this process a signal after a forward pass, and counts those that are made."""

    def __init__(self, monkeypatch, after):
        self.after, self.made = after, 0
        whole = experiment.Experiment.forward

        def forward(*arguments):
            output = whole(*arguments)
            self.made += 1
            if self.made == self.after:
                os.kill(os.getpid(), signal.SIGTERM)
            return output

        monkeypatch.setattr(experiment.Experiment, "forward", forward)


@pytest.fixture(scope="module")
def undisturbed(digits, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    train(digits, folder, spec(**MICRO))
    return folder / "run"


@pytest.mark.parametrize("after", range(1, FORWARDS + 1))
def test_a_signal_after_any_forward_pass_is_the_last_of_them_and_loses_nothing(
    digits, tmp_path, monkeypatch, undisturbed, after
):
    with monkeypatch.context() as patch:
        signalled = Signalled(patch, after)
        with pytest.raises(Interrupted, match=r"^stopped by SIGTERM after step [0-4] of 4$"):
            train(digits, tmp_path, spec(**MICRO))
        assert signalled.made == after and not (tmp_path / "run").exists()
    train(digits, tmp_path, spec(**MICRO))
    for name in RECORD:
        assert (tmp_path / "run" / name).read_bytes() == (undisturbed / name).read_bytes(), name


def test_a_run_that_is_stopped_in_every_evaluation_comes_to_its_end(
    digits, tmp_path, monkeypatch, undisturbed
):
    for after in (7, 4, 10):  # in the first evaluation, in it again, and in the second
        with monkeypatch.context() as patch:
            Signalled(patch, after)
            with pytest.raises(Interrupted):
                train(digits, tmp_path, spec(**MICRO))
    train(digits, tmp_path, spec(**MICRO))
    for name in RECORD:
        assert (tmp_path / "run" / name).read_bytes() == (undisturbed / name).read_bytes(), name


@pytest.mark.parametrize("part", ["build", "compile", "load"])
def test_a_signal_while_a_training_is_set_up_ends_it_there(digits, tmp_path, monkeypatch, part):
    went_on = []

    def slow(*_arguments, **_options):
        os.kill(os.getpid(), signal.SIGTERM)
        went_on.append(part)

    owner = {"build": experiment, "compile": experiment.Experiment, "load": checkpoints.Checkpoints}[part]
    with monkeypatch.context() as patch:
        patch.setattr(owner, part, slow)
        with pytest.raises(Interrupted, match=r"^stopped by SIGTERM while a training was set up$"):
            train(digits, tmp_path)
    assert went_on == [] and not (tmp_path / "run").exists()
    train(digits, tmp_path)


def test_what_catches_every_exception_does_not_catch_a_signal(digits, tmp_path, monkeypatch):
    def compiled(*_arguments):
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except Exception:
            pytest.fail("a compiler would have taken this for an error of its own")

    monkeypatch.setattr(compilation, "compiled", compiled)
    with pytest.raises(Interrupted):
        train(digits, tmp_path, spec(compile=True))


def test_a_signal_raises_within_the_block_alone():
    with stopping.stop_on_signal() as stop:
        with pytest.raises(Stopped), stop.at_once():
            os.kill(os.getpid(), signal.SIGTERM)
            pytest.fail("the block went on")
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.signal == signal.SIGINT
        with pytest.raises(Stopped), stop.at_once():
            pytest.fail("a signal had come before")
    with pytest.raises(Interrupted, match="SIGTERM"), stopping.stop_on_signal() as stop, stop.at_once():
        os.kill(os.getpid(), signal.SIGTERM)
