"""Our training step over the floor: the same arithmetic on batches already in place, recording nothing.

    PYTHONPATH=workflow/scripts python tests/benchmarks/bench_step.py [--device cuda --model ResNet50]

Both sides share a process, and so the allocator's settings. Ours is timed over whole epochs of 20 steps, with the
order drawn, batches gathered and scaled from uint8, losses and accuracy recorded, and the look for a divergence.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import harness
import workloads

STEPS = 20


def trainer(options: argparse.Namespace, layout: str):
    """The engine's trainer for a data set of `STEPS` batches, which is not evaluated."""
    parameters, shape = workload(options.model)
    parameters = parameters | {"channels_last": layout == "channels_last", "eval_every": 10**6}
    prepared = workloads.arrays(STEPS * 128, 1, shape)
    return workloads.trainer(parameters, prepared, options.device, options.rounds + harness.WARM_UP + 1)


def engine(layout: str) -> harness.Case:
    return lambda options: trainer(options, layout).train_epoch


def floor(layout: str) -> harness.Case:
    def setup(options: argparse.Namespace) -> Callable[[], None]:
        from torch.nn.functional import cross_entropy

        parts = trainer(options, layout).parts
        parts.loader.start_epoch(0)
        batches = [parts.loader.batch(step) for step in range(STEPS)]
        model, optimizer = parts.model, parts.optimizer

        def work() -> None:
            for x, y in batches:
                optimizer.zero_grad(set_to_none=True)
                cross_entropy(model(x), y).backward()
                optimizer.step()

        return work

    return setup


def workload(model: str) -> tuple[dict, tuple[int, int, int]]:
    return (workloads.LENET, (1, 32, 32)) if model == "LeNet5" else (workloads.RESNET, (3, 32, 32))


def main() -> None:
    parser = harness.parser(__doc__, rounds=20)
    parser.add_argument("--model", choices=["LeNet5", "ResNet50"], default="LeNet5")
    options = parser.parse_args()
    workloads.start(options, keep_memory=True)
    cases = {
        f"{side}{', channels last' if layout == 'channels_last' else ''}": make(layout)
        for layout in ("contiguous", "channels_last")
        for side, make in (("engine", engine), ("floor", floor))
    }
    harness.main(
        "step" if options.model == "LeNet5" else f"step-{options.model.lower()}",
        f"Training step of {options.model}, batch 128",
        "step",
        cases,
        [
            harness.Ratio("our step over the floor", "engine", "floor", most=1.03),
            harness.Ratio(
                "the same, channels last", "engine, channels last", "floor, channels last", most=1.03
            ),
            harness.Ratio("floor channels last over contiguous", "floor, channels last", "floor"),
        ],
        options,
        workers=False,
        units=STEPS,
    )


if __name__ == "__main__":
    main()
