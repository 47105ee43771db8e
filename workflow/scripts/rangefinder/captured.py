"""A run's training steps as CUDA graphs: one launch each, with LR, place and step kept on the device.

A small network's step is some seventy kernels of a few microseconds; what it takes on a GPU is the launching of them,
one by one, by Python. A CUDA graph launches them all at once, and they are the same kernels on the same numbers: the
losses are those of steps that are not captured, bit for bit.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from . import compilation, data, memory, optimizers
from .clocks import Clocks
from .errors import RunError
from .user_code import is_reference

log = logging.getLogger(__name__)

# Steps of one size before it is captured: libraries that start at their first use would do so within the capture.
WARM_UP = 3

Gradients = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def wanted(parameters: Mapping[str, Any], device: torch.device, processes: int = 1) -> bool:
    """Whether a run's steps are captured, as its ``cuda_graph`` says and where it can be done.

    ``auto`` leaves out a network of the user's own: what Python decides in its forward pass would be decided once.
    Several processes that train a run, and modes of `compile` that capture graphs themselves, do without.
    """
    setting = parameters.get("cuda_graph", "auto")
    if device.type != "cuda" or processes > 1 or parameters.get("compile") in compilation.PASSES:
        return False
    return not is_reference(parameters["model"]["name"]) if setting == "auto" else bool(setting)


class CapturedSteps:
    """The steps of a run, one CUDA graph for each size of batch.

    A size is captured when it has been trained `WARM_UP` times, so that optimizer and libraries have made all that
    they make once. Everything that touches the run's tensors has to happen `on_stream`.

    Args:
        spec: of the optimizer; where it cannot be captured, the caller updates after each replay (`updates` False).
        loader: of the run; its data are on the device.
        optimizer: made `capturable` where it can be.
        gradients: takes a batch, leaves its gradients and returns its mean loss.
        losses: of all steps [steps], on the device.
        lrs: LR of every step [steps].
        momenta: momentum of every step, or None where it stays. A graph holds it as a constant, so where it moves the
            update is left to the caller.
        clocks: capturing counts as compiling.
    """

    def __init__(
        self,
        spec: Mapping[str, Any],
        loader: data.Loader,
        optimizer: torch.optim.Optimizer,
        gradients: Gradients,
        losses: torch.Tensor,
        *,
        lrs: np.ndarray,
        momenta: np.ndarray | None,
        clocks: Clocks,
    ) -> None:
        self.loader, self.optimizer, self.gradients, self.losses = loader, optimizer, gradients, losses
        self.updates = (
            momenta is None
            and optimizers.can_be_captured(spec)
            and all(isinstance(group["lr"], torch.Tensor) for group in optimizer.param_groups)
        )
        self.clocks = clocks
        device = losses.device
        self.lrs = np.asarray(lrs, dtype=np.float64)
        self.step = torch.zeros(1, dtype=torch.int64, device=device)
        self.known: int | None = None  # the step that the device's counter is at
        self.places: dict[int, torch.Tensor] = {}  # of a batch's samples in the epoch's order, by its size
        self.firsts: dict[int, int] = {}  # which place comes first in them
        self.tables: list[torch.Tensor] = []
        self.trained: Counter[int] = Counter()
        self.replays: dict[int, Callable[[], None]] = {}
        self.grads: dict[int, list[tuple[torch.Tensor, torch.Tensor]]] = {}
        self.stream = _stream(device)

    @contextmanager
    def on_stream(self) -> Iterator[None]:
        """Have the device do what is asked of it in the block on the stream that is captured."""
        current = torch.cuda.current_stream(self.losses.device)
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream):
            yield
        current.wait_stream(self.stream)

    def made(self, step: int, first: int, size: int) -> bool:
        """Make a step, but for the update where that is the caller's, if a graph of its size is there or due.

        Args:
            step: of the run, 0-based.
            first: where its batch begins in the epoch's order.
            size: samples in it.

        Returns:
            False if the caller has to make the step.

        Raises:
            RunError: the step cannot be captured.
        """
        if size not in self.replays:
            self.trained[size] += 1
            if self.trained[size] <= WARM_UP:
                self.known = None
                return False
            with self.clocks.running("compile"):
                self._capture(size)
        if self.known != step:
            self.step.fill_(step)
        # A batch begins where the one before it ended, but for an epoch's first.
        if self.firsts[size] != first:
            self.places[size] += first - self.firsts[size]
        self.replays[size]()
        self.known, self.firsts[size] = step + 1, first + size
        if not self.updates:
            for parameter, gradient in self.grads[size]:
                parameter.grad = gradient
        return True

    def _capture(self, size: int) -> None:
        self.places[size], self.firsts[size] = torch.arange(size, device=self.losses.device), 0
        if self.updates:
            self._tabulate()
        try:
            self.replays[size] = _captured(lambda: self._step(size), self.stream)
        except Exception as error:
            if memory.is_out_of_memory(error):
                raise
            raise RunError(
                f"a training step cannot be captured in a CUDA graph ({_first_line(error)}); "
                "set run.cuda_graph to false"
            ) from error
        log.info("captured the step of %d samples in a CUDA graph", size)

    def _tabulate(self) -> None:
        """Every group's LR of every step, as `optimizers.set_lr` would set it."""
        if not self.tables:
            self.tables = [
                torch.as_tensor(self.lrs * group.get("lr_scale", 1.0)).to(group["lr"])
                for group in self.optimizer.param_groups
            ]

    def _step(self, size: int) -> None:
        """What is captured. Whatever differs from step to step is read from the device."""
        self.optimizer.zero_grad(set_to_none=True)  # gradients are made in the graph's own memory
        places = self.places[size]
        x, y = self.loader.at(places)
        loss = self.gradients(x, y)
        # Held here: a step that is not captured drops the parameters' own references.
        self.grads[size] = [
            (parameter, parameter.grad)
            for group in self.optimizer.param_groups
            for parameter in group["params"]
            if parameter.grad is not None
        ]
        if self.updates:
            for lrs, group in zip(self.tables, self.optimizer.param_groups, strict=True):
                torch.index_select(lrs, 0, self.step, out=group["lr"].view(1))
            self.optimizer.step()
        self.losses.index_copy_(0, self.step, loss.reshape(1))
        self.step += 1
        places += size


def _stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)


def _captured(work: Callable[[], None], stream: torch.cuda.Stream) -> Callable[[], None]:
    """What does `work` again, on the same memory, with one launch. It is not done now."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        work()
    return graph.replay


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
