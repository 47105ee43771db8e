"""Which memory format a run gets, and that the other gives the same losses to rounding."""

import numpy as np
import pytest
import torch
from rangefinder import clocks, data, memory_format, optimizers
from rangefinder.trainer import Trainer
from torch import nn

CPU, GPU = torch.device("cpu"), torch.device("cuda")
PARAMETERS = {
    "dataset": {"name": "digits", "train_samples": 250, "test_samples": 100},
    "model": {"name": "BNCNN"},
    "optimizer": {"name": "SGD", "momentum": 0.9},
    "schedule": {"name": "none"},
    "lr": 0.05,
    "batch_size": 64,
    "epochs": 2,
    "precision": "fp32",
    "seed": 3,
    "channels_last": "auto",
}
CONVOLUTION = nn.Sequential(nn.Conv2d(1, 2, 3))


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "digits"
    data.prepare({"name": "digits"}, folder)
    return data.load(folder)


@pytest.mark.parametrize(
    ("changes", "model", "device", "last"),
    [
        ({}, CONVOLUTION, CPU, True),
        ({"precision": "bf16"}, CONVOLUTION, CPU, True),
        ({"precision": "fp64"}, CONVOLUTION, CPU, False),
        ({}, nn.Sequential(nn.Linear(2, 2)), CPU, False),
        ({}, CONVOLUTION, GPU, False),
        ({"model": {"name": "my/model.py:make"}}, CONVOLUTION, CPU, False),
        ({"optimizer": {"name": "my/optimizer.py:make"}}, CONVOLUTION, CPU, False),
        ({"channels_last": False}, CONVOLUTION, CPU, False),
        ({"channels_last": True, "precision": "fp64"}, CONVOLUTION, CPU, True),
        ({"channels_last": True, "model": {"name": "my/model.py:make"}}, CONVOLUTION, GPU, True),
    ],
)
def test_the_format_is_as_asked_for_or_the_faster_one(changes, model, device, last):
    assert memory_format.channels_last(PARAMETERS | changes, model, device) is last


def trained(digits, **changes):
    made = Trainer(PARAMETERS | changes, digits, device=CPU, clocks=clocks.Clocks())
    made.train()
    return made


def test_both_formats_give_the_same_losses_to_rounding(digits):
    auto, last, contiguous = (
        trained(digits, channels_last=setting, precision=precision)
        for setting, precision in (("auto", "fp32"), (True, "fp64"), (False, "fp64"))
    )
    assert [made.machine()["channels_last"] for made in (auto, last, contiguous)] == [True, True, False]
    convolution = next(module for module in auto.parts.model.modules() if isinstance(module, nn.Conv2d))
    for made in (auto, last):
        weights = [p for p in made.parts.model.parameters() if p.ndim == 4 and p.shape[1] > 1]
        assert weights and all(w.is_contiguous(memory_format=torch.channels_last) for w in weights)
    assert convolution.weight.dtype == torch.float32
    # In float64, so that a wrong order of channels could not pass for rounding.
    np.testing.assert_allclose(last.losses, contiguous.losses, rtol=0, atol=1e-12)
    np.testing.assert_allclose(auto.losses, contiguous.losses, rtol=0, atol=2e-6)
    assert [row["test_loss"] for row in last.rows] == pytest.approx(
        [row["test_loss"] for row in contiguous.rows], abs=1e-12
    )
    assert [row["train_accuracy"] for row in last.rows] == [row["train_accuracy"] for row in contiguous.rows]


@pytest.mark.parametrize("name", sorted(set(optimizers.OPTIMIZERS) - {"Muon"}))  # which takes matrices alone
def test_every_optimizer_steps_channels_last_as_it_does_contiguous(digits, name):
    short = {"optimizer": {"name": name}, "lr": 1e-3, "steps": 4, "epochs": 1, "precision": "fp64"}
    last, contiguous = (trained(digits, channels_last=setting, **short) for setting in (True, False))
    np.testing.assert_allclose(last.losses, contiguous.losses, rtol=0, atol=1e-9)
