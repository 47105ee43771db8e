"""One process's share of a run that several train: which samples it takes, and sums over all processes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Share:
    """Process `rank` of `count`."""

    rank: int
    count: int

    def bounds(self, n: int) -> tuple[int, int]:
        """First and past-the-last of the `n` things that are this process's; shares differ by at most one."""
        return n * self.rank // self.count, n * (self.rank + 1) // self.count

    def add(self, *tensors: torch.Tensor) -> None:
        """Replace each tensor by its sum over the processes; all of them must call this, in the same order."""
        import torch.distributed

        for tensor in tensors:
            torch.distributed.all_reduce(tensor)

    def most(self, number: int, device: torch.device) -> int:
        """The largest of the processes' numbers; all of them must call this."""
        import torch
        import torch.distributed

        numbers = torch.tensor([number], device=device)
        torch.distributed.all_reduce(numbers, op=torch.distributed.ReduceOp.MAX)
        return int(numbers)
