"""The memory format of images and convolutions: as a run asks for it, or the faster one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from .user_code import is_reference


def channels_last(parameters: Mapping[str, Any], model: nn.Module, device: torch.device) -> bool:
    """Whether a run's images and convolutions are kept channels last, as its ``channels_last`` says.

    ``auto`` keeps them so where it was measured to be faster: on a CPU, in all precisions but fp64, for networks with
    convolutions. It leaves out networks and optimizers of the user's own, which may take tensors apart in a way
    (`view`) that only contiguous ones can be.

    Args:
        parameters: resolved parameters of a run or a range test.
        model: its network.
    """
    setting = parameters.get("channels_last", False)
    if setting != "auto":
        return bool(setting)
    own = any(is_reference(parameters[part]["name"]) for part in ("model", "optimizer"))
    return (
        device.type == "cpu"
        and parameters.get("precision") != "fp64"
        and not own
        and any(isinstance(module, nn.Conv2d) for module in model.modules())
    )


def layout(last: bool) -> torch.memory_format:
    """torch's name of the format."""
    return torch.channels_last if last else torch.contiguous_format
