"""Notices where numbers are read from tensors: on a GPU each such place waits for the device."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.utils._python_dispatch import TorchDispatchMode

ATEN = torch.ops.aten
# What has its result, or the shape of it, from the values: `item`, `bool` and `float`, comparisons, masks.
READING = {
    ATEN._local_scalar_dense.default,
    ATEN.equal.default,
    ATEN.masked_select.default,
    ATEN.nonzero.default,
}


class NoReading(TorchDispatchMode):
    """Refuses to read a number from a tensor, but for where it is `allowed`.

    On a CPU `numpy()` and `tolist()` pass unseen: they are no operations there.

    Attributes:
        read: how often it was read where it is allowed.
    """

    def __init__(self) -> None:
        super().__init__()
        self.lifted, self.read = False, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func in READING:
            assert self.lifted, "a number was read from a tensor"
            self.read += 1
        return func(*args, **(kwargs or {}))

    @contextmanager
    def allowed(self) -> Iterator[None]:
        """Let numbers be read for the length of the block."""
        self.lifted = True
        try:
            yield
        finally:
            self.lifted = False
