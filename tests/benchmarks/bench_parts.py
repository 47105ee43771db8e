"""Evaluation, data preparation and a checkpoint, each beside an epoch of training without them.

    PYTHONPATH=workflow/scripts python tests/benchmarks/bench_parts.py [--fraction 0.1]

LeNet-5 on 60,000 + 10,000 images with Adam. A run prepares its data once, in all studies; it evaluates every epoch and
writes a checkpoint every few minutes.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

import harness
import numpy as np
import workloads


def trainer(options: argparse.Namespace, **changes: object):
    train, test = (round(count * options.fraction) for count in (60_000, 10_000))
    epochs = options.rounds + options.warm_up + 1
    return workloads.trainer(
        workloads.LENET | {"eval_every": epochs} | changes,
        workloads.arrays(train, test),
        options.device,
        epochs,
    )


def training(options: argparse.Namespace) -> Callable[[], None]:
    return trainer(options).train_epoch


def evaluation(options: argparse.Namespace) -> Callable[[], object]:
    return trainer(options).test


def evaluation_as_in_training(options: argparse.Namespace) -> Callable[[], None]:
    """As a script does it: the training's batches, and each loss read."""
    import torch
    from torch.nn.functional import cross_entropy

    made = trainer(options, eval_batch_size=128)
    model, batches = made.parts.model.eval(), made.test.batches

    def work() -> None:
        with torch.no_grad():
            for x, y in batches:
                output = model(x)
                cross_entropy(output, y).item(), (output.argmax(1) == y).sum().item()

    return work


def preparation(options: argparse.Namespace) -> Callable[[], object]:
    from rangefinder.data.prepare import resize

    images = np.random.default_rng(0).integers(
        0, 256, (round(70_000 * options.fraction), 1, 28, 28), np.uint8
    )
    return lambda: resize(images, 32)


def preparation_one_by_one(options: argparse.Namespace) -> Callable[[], None]:
    pictures = workloads.Pictures(round(70_000 * options.fraction))

    def work() -> None:
        for index in range(len(pictures)):
            pictures[index]

    return work


def checkpoint(options: argparse.Namespace) -> Callable[[], None]:
    from rangefinder.checkpoints import Checkpoints

    made = trainer(options)
    made.train_epoch()  # so that the optimizer has a state
    kept = Checkpoints(Path(tempfile.mkdtemp(prefix="rangefinder-bench-")), "run", "0" * 16)
    return lambda: kept.save(made._state())


def main() -> None:
    parser = harness.parser(__doc__, rounds=7)
    parser.add_argument("--fraction", type=float, default=1.0, help="of the data set, to save time")
    options = parser.parse_args()
    workloads.start(options, keep_memory=True)
    ratio = harness.Ratio
    harness.main(
        "parts",
        "What surrounds an epoch of LeNet-5 on 60,000 + 10,000 images",
        "epoch",
        {
            "training": training,
            "evaluation": evaluation,
            "evaluation, batches of 128, every loss read": evaluation_as_in_training,
            "resizing all images, once": preparation,
            "resizing them one by one, every epoch": preparation_one_by_one,
            "checkpoint": checkpoint,
        },
        [
            ratio("evaluation over training", "evaluation", "training"),
            ratio(
                "evaluation over a script's",
                "evaluation",
                "evaluation, batches of 128, every loss read",
                most=1.0,
            ),
            ratio("resizing once over training", "resizing all images, once", "training"),
            ratio(
                "resizing once over one by one",
                "resizing all images, once",
                "resizing them one by one, every epoch",
                most=1.0,
            ),
            ratio("checkpoint over training (of this fraction)", "checkpoint", "training"),
        ],
        options,
        workers=False,
        settings={"fraction of the data": options.fraction},
        packages=["torchvision"],
    )


if __name__ == "__main__":
    main()
