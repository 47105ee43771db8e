"""Initialisations of a network's weights."""

from __future__ import annotations

import torch
from torch import nn

from .errors import InputError

INITIALISATIONS = (
    "default",
    "kaiming_uniform_fan_in",
    "kaiming_uniform_fan_out",
    "kaiming_normal_fan_in",
    "kaiming_normal_fan_out",
)


def initialise(model: nn.Module, name: str, seed: int) -> None:
    """Draw the weights of all convolutions and linear layers anew, in place.

    He et al. 2015 (arXiv:1502.01852), eq. 10: variance 2 / fan. Biases and normalisation layers keep what the
    model's constructor gave them.

    Args:
        model: on the CPU.
        name: ``default`` (leave the model as built) or ``kaiming_{uniform,normal}_fan_{in,out}``.
        seed: of the draws; the global generator is not touched.

    Raises:
        InputError: unknown name.
    """
    if name not in INITIALISATIONS:
        raise InputError("unknown initialisation", key="initialisation", value=name, allowed=INITIALISATIONS)
    if name == "default":
        return
    _, kind, mode = name.split("_", 2)
    draw = nn.init.kaiming_uniform_ if kind == "uniform" else nn.init.kaiming_normal_
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear):
            draw(module.weight, mode=mode, nonlinearity="relu", generator=generator)
