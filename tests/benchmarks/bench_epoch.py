"""An epoch with its evaluation: the engine against the loop of the published write-ups.

    PYTHONPATH=workflow/scripts python tests/benchmarks/bench_epoch.py [--fraction 1]

LeNet-5 on 60,000 + 10,000 images, batch 128, Adam. The write-up's loop takes each 28×28 image out of the data set as
a PIL image, resizes it, turns it into a tensor, reads every loss and counts right answers with scikit-learn per batch.
The plain loop has its data in one tensor and reads nothing but totals; it runs with the allocator as it comes.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import harness
import workloads

BATCH = 128


def sizes(options: argparse.Namespace) -> tuple[int, int]:
    return round(60_000 * options.fraction), round(10_000 * options.fraction)


def engine(**changes: object) -> harness.Case:
    def setup(options: argparse.Namespace) -> Callable[[], None]:
        workloads.start(options, keep_memory=True)
        parameters = workloads.LENET | {"batch_size": BATCH} | changes
        epochs = options.rounds + options.warm_up
        return workloads.trainer(
            parameters, workloads.arrays(*sizes(options)), options.device, epochs
        ).train_epoch

    return setup


def write_up(loader_processes: int) -> harness.Case:
    def setup(options: argparse.Namespace) -> Callable[[], None]:
        workloads.start(options, keep_memory=False)
        import torch

        model, optimizer = workloads.lenet_and_adam(options.device)
        train, test = (
            torch.utils.data.DataLoader(
                workloads.Pictures(images), batch_size=BATCH, shuffle=shuffle, num_workers=loader_processes
            )
            for images, shuffle in zip(sizes(options), (True, False), strict=True)
        )

        def work() -> None:
            model.train()
            workloads.write_up_pass(model, optimizer, train, options.device, learn=True)
            model.eval()
            with torch.inference_mode():
                workloads.write_up_pass(model, optimizer, test, options.device, learn=False)

        return work

    return setup


def plain(options: argparse.Namespace) -> Callable[[], None]:
    workloads.start(options, keep_memory=False)
    import torch
    from torch.nn.functional import cross_entropy

    model, optimizer = workloads.lenet_and_adam(options.device)
    (train_x, train_y), (test_x, test_y) = (
        (torch.rand(n, 1, 32, 32, device=options.device), torch.randint(10, (n,), device=options.device))
        for n in sizes(options)
    )

    def work() -> None:
        total = torch.zeros((), device=options.device)
        model.train()
        for part in torch.randperm(len(train_y), device=options.device).split(BATCH):
            optimizer.zero_grad()
            loss = cross_entropy(model(train_x[part]), train_y[part])
            loss.backward()
            optimizer.step()
            total += loss.detach()
        model.eval()
        right = torch.zeros((), dtype=torch.int64, device=options.device)
        with torch.inference_mode():
            for x, y in zip(test_x.split(BATCH), test_y.split(BATCH), strict=True):
                right += (model(x).argmax(1) == y).sum()
        total.item(), right.item()

    return work


def main() -> None:
    parser = harness.parser(__doc__, rounds=5)
    parser.add_argument("--fraction", type=float, default=0.5, help="of the data set, to save time")
    options = parser.parse_args()
    on_gpu = options.device == "cuda"
    # The memory format that is not the default.
    other, other_format = ("channels last" if on_gpu else "contiguous"), {"channels_last": on_gpu}
    cases = {
        "write-up's loop, one loader process": write_up(1),
        "write-up's loop, no loader process": write_up(0),
        "plain loop on tensors": plain,
        "engine": engine(),
        f"engine, {other}": engine(**other_format),
    }
    if on_gpu:
        cases["engine, not captured"] = engine(cuda_graph=False)
    else:
        cases |= {
            "engine, compiled": engine(compile=True),
            "engine, compiled, contiguous": engine(compile=True, **other_format),
        }
    written = "write-up's loop, one loader process"
    ways = [
        harness.Ratio("write-up's loop over the compiled engine", written, "engine, compiled", least=2.8),
        harness.Ratio(
            "write-up's loop over the compiled engine, contiguous", written, "engine, compiled, contiguous"
        ),
    ]
    harness.main(
        "epoch",
        "Epoch with evaluation, LeNet-5 on 60,000 + 10,000 images",
        "epoch",
        cases,
        [
            harness.Ratio("write-up's loop over the engine", written, "engine", least=20 if on_gpu else 2.2),
            harness.Ratio(
                "the same without a loader process", "write-up's loop, no loader process", "engine"
            ),
            harness.Ratio(f"write-up's loop over the engine, {other}", written, f"engine, {other}"),
            *(ways if not on_gpu else []),
            harness.Ratio("plain loop over the engine", "plain loop on tensors", "engine"),
        ],
        options,
        workers=True,
        settings={"fraction of the data": options.fraction},
        packages=["scikit-learn", "torchvision"],
    )


if __name__ == "__main__":
    main()
