"""A small network to which something happens while it trains, as a file in the working folder asks."""

import json
import time
from pathlib import Path

import torch
from torch import nn

REQUEST = Path("happens.json")


class Fragile(nn.Module):
    """A perceptron with dropout that counts its training steps, over interruptions too."""

    def __init__(self, inputs: int, classes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(), nn.Linear(inputs, 32), nn.ReLU(), nn.Dropout(0.1), nn.Linear(32, classes)
        )
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        output = self.layers(x)
        if self.training:
            if REQUEST.exists():
                output = happen(output, json.loads(REQUEST.read_text()), int(self.steps))
            self.steps += 1
        return output


def happen(output: torch.Tensor, request: dict, step: int) -> torch.Tensor:
    """What the file asks for, at the step it names."""
    if step != request["step"]:
        return output
    if request["what"] == "nan":
        return output * float("nan")
    if request["what"] == "memory":
        torch.empty(request["bytes"], dtype=torch.uint8)
    if request["what"] == "cuda memory":
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
    if request["what"] == "clock":
        now = time.time
        time.time = lambda: now() - request["seconds"]
    return output


def fragile(input_shape: tuple[int, int, int], classes: int) -> nn.Module:
    channels, height, width = input_shape
    return Fragile(channels * height * width, classes)
