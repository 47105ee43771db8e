"""One process's part in training a run together with others: the same batches, gradients and curve as alone."""

from __future__ import annotations

import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
import torch.distributed
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from . import batch_statistics, generators, stopping, trainer
from .checkpoints import Checkpoints
from .data.sampling import random_words
from .shares import Share

# Seconds between two agreements of the processes on whether to stop, and never more steps than LOOK_EVERY.
AGREE_EVERY_S = 1.0


class ReadOnlyCheckpoints(Checkpoints):
    """The run's checkpoints for the processes that do not write them."""

    def save(self, state: dict) -> None:
        """Leave it to process 0."""

    def remove(self) -> None:
        """Leave it to process 0."""


class ParallelTrainer(trainer.Trainer):
    """A trainer whose steps are shared by several processes, each with a device of its own.

    The batch, its samples and the LR are those of one process. Each computes the summed loss of its samples, scaled
    so that the mean of gradients that DistributedDataParallel takes is the gradient of the batch's mean loss, also
    where shares differ. Where a batch has fewer samples (or micro-batches) than there are processes, each computes
    all of it. What draws random numbers on the way (dropout) draws others on each process.
    """

    def __init__(self, parameters: dict[str, Any], arrays: Any, *, share: Share, **options: Any) -> None:
        super().__init__(parameters, arrays, share=share, **options)
        self.share = share
        # A signal may reach the processes at different steps: `asked` is this one's, `stop` what all agreed on.
        self.asked, self.stop = self.stop, stopping.Stop()
        self.due = False
        self.stride = 1
        self.agreed_at, self.agreed_step = time.perf_counter(), 0
        with self.clocks.running("startup"):
            kind = (
                batch_statistics.GhostBatches
                if parameters.get("micro_batch")
                else batch_statistics.WholeBatch
            )
            self.statistics = kind(self.parts.model, share)
            on_gpu = self.device.type == "cuda"
            self.parts.step_model = DistributedDataParallel(
                self.parts.step_model,
                device_ids=[self.device] if on_gpu else None,
                forward_sync_buffers=False,
            )
        if share.rank:
            self._seed_others()

    def _seed_others(self) -> None:
        torch.manual_seed(int(random_words(1, "process", self.parameters["seed"], self.share.rank)[0]) >> 1)

    def machine(self) -> dict[str, Any]:
        """The content of machine.json."""
        return super().machine() | {"processes": self.share.count}

    def _next_look(self, last: int) -> int:
        return min(last, self.step + self.stride)

    def _gradients(self, step: int) -> torch.Tensor:
        loader, share = self.parts.loader, self.share
        first, last = loader.span(step)
        size, micro = last - first, self.parameters.get("micro_batch")
        count = size if micro is None else -(-size // micro)
        alone = count < share.count
        low, high = (0, count) if alone else share.bounds(count)
        if micro is None:
            pieces = [(first + low, first + high)]
        else:
            pieces = [(first + k * micro, min(first + (k + 1) * micro, last)) for k in range(low, high)]
        scale = (1 if alone else share.count) / size
        counts = not alone or share.rank == 0
        model: Any = self.parts.step_model
        total = torch.zeros((), dtype=self.losses.dtype, device=self.device)
        with self.statistics.step(low, high, count, alone=alone):
            for piece in pieces:
                x, y = loader.between(*piece)
                with nullcontext() if piece == pieces[-1] else model.no_sync():
                    output = self.parts.forward(model, x)
                    loss = nn.functional.cross_entropy(output, y, reduction="sum") * scale
                    loss.backward()
                if counts:
                    total += loss.detach()
                    self._answered(output, y)
        return total if alone else total / share.count

    def _find_divergence(self) -> None:
        """Put the losses since the last look together, agree on what to do next, and look."""
        self.share.add(self.losses[self.checked : self.step])
        now = time.perf_counter()
        speed = (self.step - self.agreed_step) / max(now - self.agreed_at, 1e-9)
        stride, due = 0, False
        if self.share.rank == 0:  # one process's clock decides for all
            stride = max(1, min(trainer.LOOK_EVERY, int(AGREE_EVERY_S * speed)))
            due = super()._checkpoint_due()
        wishes = torch.tensor([self.asked.signal or 0, due, stride], device=self.device)
        torch.distributed.all_reduce(wishes, op=torch.distributed.ReduceOp.MAX)
        number, due, self.stride = wishes.tolist()
        self.stop.signal, self.due = number or None, bool(due)
        self.agreed_at, self.agreed_step = time.perf_counter(), self.step
        super()._find_divergence()

    def _checkpoint_due(self) -> bool:
        return self.due

    def _end_epoch(self, epoch: int) -> None:
        self.share.add(self.correct)
        super()._end_epoch(epoch)
        if (
            self._unended() is not None and self.share.rank
        ):  # stopped: the sum is process 0's, as in `_restore`
            self.correct.zero_()

    def _state(self) -> dict[str, Any]:
        """The state as one process would have it, and every process's random generators, its device's among them."""
        state = super()._state()
        state["correct"] = self.correct.clone()
        self.share.add(state["correct"])
        state["generators_of"] = [None] * self.share.count
        # Objects travel by the CPU's backend, which every group has.
        torch.distributed.all_gather_object(state["generators_of"], state["generators"])
        return state

    def _restore(self, state: dict[str, Any]) -> None:
        super()._restore(state)
        self.agreed_step = self.step
        if self.share.rank:
            self.correct.zero_()  # process 0 holds the sum
            kept = state.get("generators_of", ())
            if len(kept) == self.share.count:
                generators.restore(kept[self.share.rank], self.device.type == "cuda")
            else:
                self._seed_others()


def checkpoints(folder: Path | str, run: str, digest: str, share: Share) -> Checkpoints:
    """The checkpoints of a run for this process: only process 0 writes."""
    return (ReadOnlyCheckpoints if share.rank else Checkpoints)(folder, run, digest)
