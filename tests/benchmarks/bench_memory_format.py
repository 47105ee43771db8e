"""Training steps channels last over contiguous, for networks of every kind: what `channels_last: auto` goes by.

    PYTHONPATH=workflow/scripts python tests/benchmarks/bench_memory_format.py --threads 1 [--record]

The engine's own step, batches in place. One process, in which each network has both forms; a round of a small network
is several steps.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import harness
import workloads

GREY, COLOUR = (1, 32, 32), (3, 32, 32)
# Model, images, batch, steps in a round, and what else is set.
NETWORKS = {
    "LeNetSmall, 8×8, batch 64": ({"name": "LeNetSmall"}, (1, 8, 8), 64, 40, {}),
    "LeNet5, batch 128": ({"name": "LeNet5"}, GREY, 128, 10, {}),
    "LeNet5, batch 128, bf16": ({"name": "LeNet5"}, GREY, 128, 10, {"precision": "bf16"}),
    "LeNet5, batch 128, fp64": ({"name": "LeNet5"}, GREY, 128, 6, {"precision": "fp64"}),
    "BNCNN, batch 128": ({"name": "BNCNN"}, COLOUR, 128, 2, {}),
    "MLP, batch 128": ({"name": "MLP"}, COLOUR, 128, 40, {}),
    "ResNet18 for 32×32, batch 32": ({"name": "ResNet18", "stem": "cifar"}, COLOUR, 32, 1, {}),
    "ResNet50, batch 64": ({"name": "ResNet50"}, COLOUR, 64, 1, {}),
    "resnext50_32x4d, batch 16": ({"name": "resnext50_32x4d"}, COLOUR, 16, 1, {}),
    "vgg11, batch 16": ({"name": "vgg11"}, COLOUR, 16, 1, {}),
    "densenet121, batch 16": ({"name": "densenet121"}, COLOUR, 16, 1, {}),
    "mobilenet_v2, batch 32": ({"name": "mobilenet_v2"}, COLOUR, 32, 2, {}),
    "efficientnet_b0, batch 16": ({"name": "efficientnet_b0"}, COLOUR, 16, 2, {}),
}
FORMATS = {"channels last": True, "contiguous": False}


def case(network: str, channels_last: bool) -> harness.Case:
    model, shape, batch, steps, changes = NETWORKS[network]

    def setup(options: argparse.Namespace) -> Callable[[], None]:
        from torch.nn.functional import cross_entropy

        parameters = workloads.LENET | {"model": model, "batch_size": batch, "channels_last": channels_last}
        images = workloads.arrays(2 * batch, 1, shape)
        parts = workloads.trainer(parameters | changes, images, options.device, epochs=1).parts
        parts.loader.start_epoch(0)
        batches = [parts.loader.batch(step) for step in range(2)]

        def work() -> None:
            for step in range(steps):
                x, y = batches[step % 2]
                parts.optimizer.zero_grad(set_to_none=True)
                cross_entropy(parts.forward(parts.model, x), y).backward()
                parts.optimizer.step()

        return work

    return setup


def main() -> None:
    options = harness.parser(__doc__, rounds=9).parse_args()
    workloads.start(options, keep_memory=True)
    harness.main(
        "memory-format",
        "Memory format of images and convolutions, by network",
        "round",
        {f"{network}, {name}": case(network, last) for network in NETWORKS for name, last in FORMATS.items()},
        [
            harness.Ratio(
                f"{network}: channels last over contiguous",
                f"{network}, channels last",
                f"{network}, contiguous",
            )
            for network in NETWORKS
        ],
        options,
        workers=False,
        packages=["torchvision"],
    )


if __name__ == "__main__":
    main()
