"""Record the real half of the oracle suite: LR sweeps and the accuracy that training at each LR really gives.

    RANGEFINDER_DATA_DIR=<folder with MNIST/raw> python tests/oracle/record.py

Writes `recorded/sweeps.npz` and `recorded/truth.json`, on one CPU core in about twenty minutes. The loop is kept
apart from the engine on purpose, so that the record does not depend on what it is used to judge.
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import json
import os
import time
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

HERE = Path(__file__).parent
START_LR, END_LR = 1e-6, 10.0
SWEEPS = {100: (0, 1, 2), 350: (0, 1, 2), 1400: (0, 1)}  # steps: seeds
TRUTH_SEEDS = (100, 101)
TRUTH_LRS = {"sgd": 10.0 ** np.arange(-3, 1.01, 0.25), "adam": 10.0 ** np.arange(-4, 0.01, 0.25)}
TRUTH_STEPS = 400  # with fewer, the best LR is merely the largest that does not diverge


def load_digits_split() -> tuple[torch.Tensor, ...]:
    """scikit-learn's 1,797 digits: 1,000 to train on, 797 to validate."""
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    x = torch.tensor(images[order].reshape(-1, 1, 8, 8) / 16.0, dtype=torch.float32)
    y = torch.tensor(labels[order])
    return x[:1000], y[:1000], x[1000:], y[1000:]


def load_mnist_split(folder: Path) -> tuple[torch.Tensor, ...]:
    """The first 2,000 training and 2,000 test images of MNIST, averaged 2 × 2 to 14 × 14 pixels."""
    parts = []
    for name in ("train", "t10k"):
        with gzip.open(folder / "MNIST" / "raw" / f"{name}-images-idx3-ubyte.gz") as file:
            images = np.frombuffer(file.read(16 + 2000 * 784), np.uint8)[16:].reshape(-1, 14, 2, 14, 2)
        with gzip.open(folder / "MNIST" / "raw" / f"{name}-labels-idx1-ubyte.gz") as file:
            labels = np.frombuffer(file.read(8 + 2000), np.uint8)[8:]
        parts += [torch.tensor(images.mean((2, 4)) / 255.0, dtype=torch.float32)[:, None]]
        parts += [torch.tensor(labels.astype(np.int64))]
    return tuple(parts)


def make_model(name: str, side: int) -> nn.Module:
    """A small network for images [1, side, side], side 8 or 14."""
    quarter = side // 2 // 2
    if name == "mlp":
        return nn.Sequential(nn.Flatten(), nn.Linear(side * side, 64), nn.ReLU(), nn.Linear(64, 10))
    if name == "lenet":
        return nn.Sequential(
            nn.Conv2d(1, 6, 5, padding=2), nn.Tanh(), nn.AvgPool2d(2),
            nn.Conv2d(6, 16, 3, padding=1), nn.Tanh(), nn.AvgPool2d(2),
            nn.Flatten(), nn.Linear(16 * quarter**2, 84), nn.Tanh(), nn.Linear(84, 10),
        )  # fmt: skip
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(16 * quarter**2, 10),
    )  # fmt: skip


def make_optimizer(name: str, model: nn.Module, lr: float) -> torch.optim.Optimizer:
    """SGD with momentum 0.9, or Adam with its defaults."""
    if name == "sgd":
        return torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
    return torch.optim.Adam(model.parameters(), lr=lr)


def batches(samples: int, size: int, seed: int):
    """Endless indices of full batches, reshuffled every epoch."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        order = torch.randperm(samples, generator=generator)
        for first in range(0, samples - size + 1, size):
            yield order[first : first + size]


def train(problem: dict, split: tuple, lrs: np.ndarray, seed: int) -> tuple[np.ndarray, nn.Module]:
    """Train with one LR per step; returns every step's loss before its update (NaN once not finite)."""
    x, y = split[:2]
    torch.manual_seed(seed)
    model = make_model(problem["model"], x.shape[-1])
    optimizer = make_optimizer(problem["optimizer"], model, float(lrs[0]))
    losses = np.full(len(lrs), np.nan, np.float32)
    for step, index in zip(range(len(lrs)), batches(len(y), problem["batch_size"], seed), strict=False):
        optimizer.param_groups[0]["lr"] = float(lrs[step])
        loss = nn.functional.cross_entropy(model(x[index]), y[index])
        losses[step] = loss.item()
        if not np.isfinite(losses[step]):
            break
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return losses, model


@torch.no_grad()
def accuracy(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> float:
    """Fraction of right answers, in evaluation mode."""
    model.eval()
    return float((model(x).argmax(1) == y).float().mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=os.environ.get("RANGEFINDER_DATA_DIR", "data"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    started = time.monotonic()
    splits = {"digits": load_digits_split(), "mnist": load_mnist_split(Path(arguments.data))}
    grid = itertools.product(splits, ("mlp", "lenet", "bncnn"), ("sgd", "adam"), (32, 64, 128))
    sweeps, problems = {}, []
    for dataset, model, optimizer, size in grid:
        name = f"{dataset}-{model}-{optimizer}-bs{size}"
        problem = {
            "name": name,
            "dataset": dataset,
            "model": model,
            "optimizer": optimizer,
            "batch_size": size,
        }
        split = splits[dataset]
        for steps, seed in ((steps, seed) for steps, seeds in SWEEPS.items() for seed in seeds):
            lrs = START_LR * (END_LR / START_LR) ** (np.arange(steps) / (steps - 1))
            sweeps[f"{name}/{steps}/{seed}"] = train(problem, split, lrs, seed)[0]
        table = []
        for lr in TRUTH_LRS[optimizer]:
            row = []
            for seed in TRUTH_SEEDS:
                losses, trained = train(problem, split, np.full(TRUTH_STEPS, lr), seed)
                row.append(round(accuracy(trained, *split[2:]), 5) if np.isfinite(losses).all() else 0.0)
            table.append(row)
        lrs = [float(f"{lr:.6g}") for lr in TRUTH_LRS[optimizer]]
        problems.append({**problem, "steps": TRUTH_STEPS, "lr": lrs, "validation_accuracy": table})
        best = np.mean(table, axis=1)
        took = time.monotonic() - started
        print(f"{name}: best {best.max():.4f} at {lrs[best.argmax()]:.2g}, {took:.0f} s", flush=True)
    np.savez_compressed(HERE / "recorded" / "sweeps.npz", **sweeps)
    record = {"start_lr": START_LR, "end_lr": END_LR, "seeds": list(TRUTH_SEEDS), "problems": problems}
    (HERE / "recorded" / "truth.json").write_text(json.dumps(record) + "\n")


if __name__ == "__main__":
    main()
