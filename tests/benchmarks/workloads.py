"""The models and data that the benchmarks train on: shapes are what costs time, so the pixels are random."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from rangefinder.clocks import Clocks

LENET = {
    "dataset": {"name": "synthetic"},
    "model": {"name": "LeNet5"},
    "optimizer": {"name": "Adam"},
    "schedule": {"name": "none"},
    "lr": 1e-4,
    "batch_size": 128,
    "precision": "fp32",
    "channels_last": "auto",
    "seed": 0,
}
RESNET = LENET | {
    "model": {"name": "ResNet50", "classes": 1000},
    "optimizer": {"name": "SGD", "momentum": 0.9, "weight_decay": 5e-4},
}


def arrays(train: int, test: int, shape: tuple[int, int, int] = (1, 32, 32)):
    """A prepared data set of `train` and `test` images, in ten classes."""
    from rangefinder import data

    draw = np.random.default_rng(0)
    return data.Arrays(
        train_images=draw.integers(0, 256, (train, *shape), np.uint8),
        train_labels=draw.integers(0, 10, train),
        test_images=draw.integers(0, 256, (test, *shape), np.uint8),
        test_labels=draw.integers(0, 10, test),
        name="synthetic",
        classes=tuple("0123456789"),
        shape=shape,
        mean=(0.5,) * shape[0],
        std=(0.29,) * shape[0],
        digest="",
    )


def trainer(parameters: dict[str, Any], prepared, device: str, epochs: int):
    """The engine's trainer, ready to start; it has `epochs` to train, evaluated as `parameters` say."""
    import torch
    from rangefinder.trainer import Trainer

    made = Trainer(parameters | {"epochs": epochs}, prepared, device=torch.device(device), clocks=Clocks())
    made.report.begin(0, len(made.losses), made.steps_per_epoch)
    return made


def captured(work: Callable[[], object], times: int = 1) -> Callable[[], None]:
    """The same device work from a CUDA graph, replayed so many times, after three rounds that warm up."""
    import torch

    stream, graph = torch.cuda.Stream(), torch.cuda.CUDAGraph()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            work()
    with torch.cuda.graph(graph, stream=stream):
        work()

    def replay(kept: object = work) -> None:  # with what it holds: the graph knows only addresses
        for _ in range(times):
            graph.replay()

    return replay


def start(options: argparse.Namespace, *, keep_memory: bool) -> None:
    """Set up a process as a training job does, or (`keep_memory` false) as a plain script has it."""
    if keep_memory:
        from rangefinder.allocator import keep_freed_memory

        keep_freed_memory()
    import torch

    torch.set_num_threads(options.threads)


def lenet_and_adam(device: str):
    """The model and optimizer as a script would make them: torch's defaults."""
    import torch
    from rangefinder import models

    torch.manual_seed(0)
    model = models.build(LENET["model"], (1, 32, 32), 10).to(device)
    return model, torch.optim.Adam(model.parameters(), lr=LENET["lr"])


def write_up_pass(model, optimizer, batches: Iterable, device: str, *, learn: bool) -> tuple[float, float]:
    """One pass of the write-ups' loop: every loss is read, right answers are counted with scikit-learn per batch."""
    from sklearn import metrics
    from torch.nn.functional import cross_entropy

    loss_sum, accuracy_sum, count = 0.0, 0.0, 0
    for x, y in batches:
        x, y = x.to(device), y.to(device)
        if learn:
            optimizer.zero_grad()
        output = model(x)
        loss = cross_entropy(output, y)
        if learn:
            loss.backward()
            optimizer.step()
        loss_sum += loss.item()
        accuracy_sum += metrics.accuracy_score(y.cpu().numpy(), output.argmax(1).cpu().numpy())
        count += 1
    return loss_sum / count, accuracy_sum / count


class Pictures:
    """A map-style data set as the write-ups have it: each 28×28 image resized as a PIL image, then made a tensor."""

    def __init__(self, count: int) -> None:
        from torchvision import transforms

        draw = np.random.default_rng(0)
        self.images = draw.integers(0, 256, (count, 28, 28), np.uint8)
        self.labels = draw.integers(0, 10, count)
        self.transform = transforms.Compose([transforms.Resize((32, 32)), transforms.ToTensor()])

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int):
        from PIL import Image

        return self.transform(Image.fromarray(self.images[index])), int(self.labels[index])
