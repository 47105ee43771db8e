"""The LR range test against pytorch-lr-finder: the same model, optimizer, number of steps and batches.

    PYTHONPATH=workflow/scripts python tests/benchmarks/bench_range_test.py

pytorch-lr-finder is fed by the DataLoader of the write-ups (one loader process, every 28×28 image resized as a PIL
image), and once with tensors that are in place; the engine by its own loader, and once by that same DataLoader. Every
case has a process of its own, since the engine also sets the allocator. LRs stay so low that nothing stops early.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable, Iterator

import harness
import numpy as np
import workloads

BATCH, STEPS = 128, 60
START_LR, END_LR = 1e-7, 1e-5


def data_loader(options: argparse.Namespace):
    import torch

    pictures = workloads.Pictures(BATCH * STEPS)
    return torch.utils.data.DataLoader(pictures, batch_size=BATCH, shuffle=True, num_workers=1)


def engine(options: argparse.Namespace) -> Callable[[], None]:
    workloads.start(options, keep_memory=True)
    from rangefinder import range_test

    parts = workloads.trainer(
        workloads.LENET, workloads.arrays(BATCH * STEPS, 1), options.device, epochs=1
    ).parts
    return lambda: sweep(parts.model, parts.optimizer, range_test.endless(parts.loader))


def engine_fed_by_data_loader(options: argparse.Namespace) -> Callable[[], None]:
    workloads.start(options, keep_memory=True)
    parts = workloads.trainer(workloads.LENET, workloads.arrays(BATCH, 1), options.device, epochs=1).parts
    loader = data_loader(options)

    def batches() -> Iterator:
        for x, y in itertools.chain.from_iterable(itertools.repeat(loader)):
            yield x.to(options.device), y.to(options.device)

    return lambda: sweep(parts.model, parts.optimizer, batches())


def sweep(model, optimizer, batches: Iterator) -> None:
    from rangefinder import range_test

    lrs = range_test.learning_rates(START_LR, END_LR, steps=STEPS)
    found = range_test.sweep(model, optimizer, batches, lrs)
    assert len(found.loss) == STEPS and np.isfinite(found.loss).all()


def peer_fed_by_data_loader(options: argparse.Namespace) -> Callable[[], None]:
    workloads.start(options, keep_memory=False)
    return peer(options, data_loader(options))


def peer_fed_with_tensors(options: argparse.Namespace) -> Callable[[], None]:
    workloads.start(options, keep_memory=False)
    import torch
    from torch_lr_finder import TrainDataLoaderIter

    x = torch.rand(BATCH * STEPS, 1, 32, 32, device=options.device)
    y = torch.randint(10, (BATCH * STEPS,), device=options.device)

    class Tensors(TrainDataLoaderIter):
        def __init__(self) -> None:
            self.batches = itertools.cycle(zip(x.split(BATCH), y.split(BATCH), strict=True))

        def __next__(self) -> tuple:
            return next(self.batches)

    return peer(options, Tensors())


def peer(options: argparse.Namespace, loader: object) -> Callable[[], None]:
    from torch.nn import CrossEntropyLoss
    from torch_lr_finder import LRFinder

    model, optimizer = workloads.lenet_and_adam(options.device)

    def work() -> None:
        for group in optimizer.param_groups:
            group.pop("initial_lr", None)  # which its scheduler leaves behind, and refuses to find
        finder = LRFinder(model, optimizer, CrossEntropyLoss(), device=options.device)
        finder.range_test(loader, start_lr=START_LR, end_lr=END_LR, num_iter=STEPS)
        assert len(finder.history["loss"]) == STEPS
        finder.reset()

    return work


def main() -> None:
    options = harness.parser(__doc__, rounds=9).parse_args()
    cases = {
        "pytorch-lr-finder, DataLoader": peer_fed_by_data_loader,
        "pytorch-lr-finder, tensors in place": peer_fed_with_tensors,
        "engine": engine,
        "engine, that DataLoader": engine_fed_by_data_loader,
    }
    theirs = "pytorch-lr-finder, DataLoader"
    harness.main(
        "range-test",
        "LR range test of LeNet-5, batch 128",
        "step",
        cases,
        [
            harness.Ratio(
                "pytorch-lr-finder with its DataLoader over the engine", theirs, "engine", least=2.2
            ),
            harness.Ratio("both with that DataLoader", theirs, "engine, that DataLoader"),
            harness.Ratio(
                "pytorch-lr-finder fed with tensors over the engine",
                "pytorch-lr-finder, tensors in place",
                "engine",
                least=1.0,
            ),
        ],
        options,
        workers=True,
        units=STEPS,
        packages=["torch-lr-finder", "torchvision"],
    )


if __name__ == "__main__":
    main()
