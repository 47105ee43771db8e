"""The process's random generators (Python's, NumPy's, torch's): seeded for a run, and kept whole in its checkpoints."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch


def seed(number: int) -> None:
    """Seed Python's and NumPy's generators, which only code of the user's own draws from."""
    random.seed(number)
    np.random.seed(number % 2**32)


def state(cuda: bool) -> dict[str, Any]:
    """Where all generators are, as plain values and tensors that `torch.load` takes without running code.

    Args:
        cuda: those of all visible CUDA devices as well.
    """
    name, keys, *rest = np.random.get_state()
    return {
        "python": random.getstate(),
        "numpy": (name, keys.tolist(), *rest),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if cuda else [],
    }


def restore(kept: dict[str, Any], cuda: bool) -> None:
    """Set all generators to where `state` found them."""
    random.setstate(kept["python"])
    name, keys, *rest = kept["numpy"]
    np.random.set_state((name, np.array(keys, dtype=np.uint32), *rest))
    torch.set_rng_state(kept["torch"])
    if cuda and kept["cuda"]:
        torch.cuda.set_rng_state_all(kept["cuda"])
