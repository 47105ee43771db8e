"""torch.compile for a run's model: what it needs is looked for, and it compiles before the first step."""

from __future__ import annotations

import os
import shutil

import torch
from torch import nn

from .errors import InputError

# Passes before the first step: on a GPU these modes warm up, then capture, then replay.
PASSES = {"reduce-overhead": 3, "max-autotune": 3}


def mode(setting: bool | str) -> str:
    """torch.compile's mode for the value of `compile`; true is its default."""
    return setting if isinstance(setting, str) else "default"


def compiled(model: nn.Module, device: torch.device, setting: bool | str) -> nn.Module:
    """The model as `torch.compile` makes it, one program per batch size.

    Args:
        setting: of `compile`: true, or a mode's name.

    Raises:
        InputError: this machine lacks the compiler that torch's own needs.
    """
    on_cpu = device.type == "cpu"
    variable, names = ("CXX", ["g++"]) if on_cpu else ("CC", ["gcc", "clang"])
    names = [os.environ[variable]] if os.environ.get(variable) else names
    if not any(map(shutil.which, names)):
        what = f"a {'C++' if on_cpu else 'C'} compiler"
        raise InputError(
            f"torch.compile needs {what}, and this machine has no {' or '.join(names)}",
            key="run.compile",
            value=setting,
            allowed=f"install {what}, name yours in {variable}, or set compile to false",
        )
    return torch.compile(model, dynamic=False, mode=mode(setting))


def batch_sizes(samples: int, batch_size: int, *, drop_last: bool, micro_batch: int | None) -> list[int]:
    """The sizes in which a run's training samples reach its model, largest first."""
    whole = {min(batch_size, samples)} | (set() if drop_last else {samples % batch_size} - {0})
    if micro_batch is not None:
        whole = {size for batch in whole for size in (min(micro_batch, batch), batch % micro_batch) if size}
    return sorted(whole, reverse=True)
