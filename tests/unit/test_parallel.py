"""Runs that several processes train: the curve and weights of one process, whatever the shares."""

import itertools
import multiprocessing
import os
import random
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed
from rangefinder import clocks, data, parallel, shares
from rangefinder.trainer import Trainer
from test_training import PLAIN

CONTEXT = multiprocessing.get_context("fork")  # children need not import torch again
BN = {"name": "BNCNN", "widths": [4, 4, 4]}

# Batches that do not divide: 58 samples at the end of an epoch for 2 or 4 processes; a last batch of 2 samples, fewer
# than 4 processes; micro-batches of which the last is smaller; a last batch that is one micro-batch.
CASES = {
    "plain": {"schedule": {"name": "OneCycleLR"}},
    "whole-batch-norm": {"model": BN, "batch_size": 62},
    "ghost-batch-norm": {"model": BN, "micro_batch": 16},
    "ghost-batch-norm-short": {"model": BN, "batch_size": 60, "micro_batch": 12},
    "augmented-lars": {
        "optimizer": {"name": "LARS", "trust_coefficient": 0.01},
        "dataset": PLAIN["dataset"] | {"augmentation": {"random_crop": 1}},
        "drop_last": True,
    },
}


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "digits"
    data.prepare({"name": "digits"}, folder)
    return folder


def result(trainer) -> dict:
    return {
        "losses": trainer.losses.double().numpy(),
        "rows": trainer.rows,
        "weights": {name: value.double().numpy() for name, value in trainer.parts.model.state_dict().items()},
    }


def share_of(rank: int, count: int, folder: Path, digits: Path, cases: dict) -> None:
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meet-{count}", rank=rank, world_size=count
    )
    for name, parameters in cases.items():
        trainer = parallel.ParallelTrainer(
            parameters,
            data.load(digits),
            device=torch.device("cpu"),
            clocks=clocks.Clocks(),
            share=shares.Share(rank, count),
        )
        trainer.train()
        torch.save(result(trainer), folder / f"{name}-{count}-{rank}.pt")
    torch.distributed.barrier()
    os._exit(0)  # as `process.main` ends: the group's own end can wait for ever


def curves(digits: Path, folder: Path, precision: str) -> dict:
    """Every case trained by 1, 2 and 4 processes: ``{(case, count, rank): result}``."""
    cases = {name: PLAIN | {"precision": precision} | changes for name, changes in CASES.items()}
    found = {}
    for count in (2, 4):
        processes = [
            CONTEXT.Process(target=share_of, args=(rank, count, folder, digits, cases))
            for rank in range(count)
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join(600)
        assert [process.exitcode for process in processes] == [0] * count
        for name in cases:
            for rank in range(count):
                path = folder / f"{name}-{count}-{rank}.pt"
                found[name, count, rank] = torch.load(path, weights_only=False)
    for name, parameters in cases.items():
        trainer = Trainer(parameters, data.load(digits), device=torch.device("cpu"), clocks=clocks.Clocks())
        trainer.train()
        found[name, 1, 0] = result(trainer)
    return found


@pytest.fixture(scope="module")
def double(digits, tmp_path_factory):
    return curves(digits, tmp_path_factory.mktemp("curves"), "fp64")


def differences(one: dict, other: dict) -> tuple[float, float]:
    """Largest relative differences of the curve (losses of all steps, every column of all epochs) and the weights."""
    columns = [
        np.array([list(row.values()) for row in entry["rows"]], dtype=float).T for entry in (one, other)
    ]
    pairs = [(one["losses"], other["losses"]), *zip(*columns, strict=True)]
    curve = max(np.abs(a - b).max() / np.abs(a).max() for a, b in pairs)
    weights = max(
        np.abs(value - other["weights"][name]).max() / max(np.abs(value).max(), 1e-3)
        for name, value in one["weights"].items()
    )
    return curve, weights


@pytest.mark.parametrize("count", [2, 4])
@pytest.mark.parametrize("case", CASES)
def test_several_processes_train_the_run_of_one(double, case, count):
    one, many = double[case, 1, 0], double[case, count, 0]
    assert np.isfinite(one["losses"]).all() and len(one["rows"]) == 3
    assert np.ptp(one["losses"]) > 0.03  # it did train
    curve, weights = differences(one, many)
    assert curve < 1e-9 and weights < 1e-9
    for rank in range(1, count):  # all processes end with the same bits
        for name, value in many["weights"].items():
            assert (double[case, count, rank]["weights"][name] == value).all(), name


# Draws from every generator that a checkpoint keeps; with 48 samples in micro-batches of 16, process 0 of 2 draws once
# a step, process 1 twice.
NOISY = """
import random
import numpy as np
from torch import nn

class Noisy(nn.Sequential):
    def forward(self, x):
        scale = 1 + random.random() / 10 + np.random.random() / 10 if self.training else 1
        return super().forward(x * scale)

def noisy(input_shape, classes):
    return Noisy(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Dropout(0.3), nn.Linear(32, classes))
"""


def continued(rank: int, count: int, folder: Path, digits: Path) -> None:
    """Train without a break, and with a checkpoint after the first of three epochs, from which others go on."""
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=count
    )
    model = {"name": f"{folder}/own.py:noisy"}
    parameters = PLAIN | {"model": model, "batch_size": 48, "micro_batch": 16}

    def trainer() -> parallel.ParallelTrainer:
        kept = parallel.checkpoints(folder / "checkpoints", "r", "0" * 64, shares.Share(rank, count))
        return parallel.ParallelTrainer(
            parameters,
            data.load(digits),
            device=torch.device("cpu"),
            clocks=clocks.Clocks(),
            share=shares.Share(rank, count),
            checkpoints=kept,
        )

    whole = trainer()
    whole.train()
    torch.save(result(whole), folder / f"whole-{rank}.pt")
    first = trainer()
    first.report.begin(0, len(first.losses))
    first.train_epoch()
    first.checkpoints.save(first._state())
    torch.distributed.barrier()  # process 0 has written it
    random.seed(rank)
    second = trainer()
    second.resume()
    assert second.step == first.step > 0
    second.train()
    torch.save(result(second), folder / f"continued-{rank}.pt")
    torch.distributed.barrier()
    os._exit(0)  # as `process.main` ends: the group's own end can wait for ever


def test_a_run_of_several_processes_that_draws_random_numbers_continues_bit_for_bit(digits, tmp_path):
    (tmp_path / "own.py").write_text(NOISY)
    processes = [CONTEXT.Process(target=continued, args=(rank, 2, tmp_path, digits)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(300)
    assert [process.exitcode for process in processes] == [0, 0]
    for rank in range(2):
        whole, after = (
            torch.load(tmp_path / f"{name}-{rank}.pt", weights_only=False) for name in ("whole", "continued")
        )
        np.testing.assert_array_equal(after["losses"], whole["losses"])
        assert after["rows"] == whole["rows"] and len(whole["rows"]) == 3
        for name, value in whole["weights"].items():
            np.testing.assert_array_equal(after["weights"][name], value, err_msg=name)


def test_shares_are_whole_and_even():
    for count in (1, 2, 3, 4, 7):
        for n in (0, 1, 3, 4, 58, 8192):
            bounds = [shares.Share(rank, count).bounds(n) for rank in range(count)]
            assert bounds[0][0] == 0 and bounds[-1][1] == n
            assert all(a[1] == b[0] for a, b in itertools.pairwise(bounds))
            assert max(b - a for a, b in bounds) - min(b - a for a, b in bounds) <= 1
