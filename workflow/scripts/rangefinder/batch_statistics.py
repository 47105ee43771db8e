"""BatchNorm of a run that several processes train: the statistics are those that one process would take.

Without ``micro_batch`` they are taken over the whole batch, whoever holds its samples (SyncBatchNorm). With it they
are taken over each micro-batch (ghost batches: E. Hoffer et al., NeurIPS 2017, arXiv:1705.08741), which is always
whole on one process; only the running statistics have then to be put together.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from .errors import InputError
from .shares import Share


class _Sum(torch.autograd.Function):
    """Sum over processes: each one's loss depends on it, so the gradient is the sum of their gradients."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        total = x.clone()
        torch.distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        total = gradient.clone()
        torch.distributed.all_reduce(total)
        return total


class HostSyncBatchNorm(_BatchNorm):
    """What torch's SyncBatchNorm, which refuses the CPU, does on a GPU."""

    process_group: Any = None

    def _check_input_dim(self, _x: torch.Tensor) -> None:
        """The layer that this one stands for was checked with the model."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalise over the samples of all processes of `process_group` (while training)."""
        if not self.training or torch.distributed.get_world_size(self.process_group) == 1:
            return super().forward(x)
        axes = [axis for axis in range(x.dim()) if axis != 1]
        shape = [1, -1, *[1] * (x.dim() - 2)]
        precise = x.to(torch.promote_types(x.dtype, torch.float32))
        count = torch.tensor(float(x.numel() // x.shape[1]), dtype=precise.dtype)
        torch.distributed.all_reduce(count)
        mean = _Sum.apply(precise.sum(axes)) / count
        centred = precise - mean.view(shape)
        variance = _Sum.apply((centred * centred).sum(axes)) / count
        if self.track_running_stats:
            with torch.no_grad():
                self.num_batches_tracked += 1
                rate = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
                self.running_mean.lerp_(mean.to(self.running_mean.dtype), rate)
                unbiased = variance * count / (count - 1)
                self.running_var.lerp_(unbiased.to(self.running_var.dtype), rate)
        y = centred * torch.rsqrt(variance + self.eps).view(shape)
        if self.affine:
            y = y * self.weight.view(shape) + self.bias.view(shape)
        return y.to(x.dtype)


class WholeBatch:
    """Statistics over the whole batch."""

    def __init__(self, model: nn.Module, share: Share) -> None:
        if next(model.parameters()).is_cuda:
            nn.SyncBatchNorm.convert_sync_batchnorm(model)
            self.layers = [layer for layer in model.modules() if isinstance(layer, nn.SyncBatchNorm)]
        else:
            self.layers = [layer for layer in model.modules() if isinstance(layer, _BatchNorm)]
            for layer in self.layers:
                layer.__class__ = HostSyncBatchNorm
        # Every process must take part in making every group.
        groups = [torch.distributed.new_group([rank]) for rank in range(share.count if self.layers else 0)]
        self.alone = groups[share.rank] if groups else None

    @contextmanager
    def step(self, _first: int, _last: int, _count: int, *, alone: bool) -> Iterator[None]:
        """One training step; `alone` where each process computes the whole batch."""
        for layer in self.layers:
            layer.process_group = self.alone if alone else None
        yield


class GhostBatches:
    """Statistics over each micro-batch.

    Running statistics follow ``s ← (1 − m)·s + m·x`` over the micro-batches in their order, which is linear: what the
    micro-batches of one process add to them does not depend on the other processes.

    Raises:
        InputError: a layer averages over all batches so far (``momentum=None``), which is not linear.
    """

    def __init__(self, model: nn.Module, share: Share) -> None:
        self.share = share
        self.layers = [
            layer for layer in model.modules() if isinstance(layer, _BatchNorm) and layer.track_running_stats
        ]
        if any(layer.momentum is None for layer in self.layers):
            raise InputError(
                "cumulative BatchNorm cannot be trained on several GPUs in micro-batches",
                key="micro_batch",
                allowed="null, or a BatchNorm with a momentum",
            )

    def _running(self) -> list[torch.Tensor]:
        return [buffer for layer in self.layers for buffer in (layer.running_mean, layer.running_var)]

    @contextmanager
    def step(self, first: int, last: int, count: int, *, alone: bool) -> Iterator[None]:
        """One training step, of whose `count` micro-batches this process computes `first` up to `last`."""
        if alone or not self.layers:
            yield
            return
        before = torch.cat(self._running())
        yield
        buffers = self._running()
        keeps = [1 - layer.momentum for layer in self.layers for _ in range(2)]
        keep = torch.cat([torch.full_like(b, k) for b, k in zip(buffers, keeps, strict=True)])
        added = torch.cat(buffers) - keep ** (last - first) * before
        added *= keep ** (count - last)
        self.share.add(added)
        after = keep**count * before + added
        for buffer, values in zip(buffers, after.split([len(b) for b in buffers]), strict=True):
            buffer.copy_(values)
        for layer in self.layers:
            if layer.training:
                layer.num_batches_tracked += count - (last - first)
