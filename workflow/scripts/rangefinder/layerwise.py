"""Layer-wise momentum steps: each tensor's norms, and an update whose factors differ from tensor to tensor.

On a CPU a step is bound by memory: a pass for the norms, then one with torch's fused SGD kernel, tensor by tensor. On a
GPU it is bound by launches and by waiting for the host: the norms stay on the device, and kernels of our own
(`layerwise_kernel`) or multi-tensor (`_foreach`) operations take all tensors at once.
"""

from __future__ import annotations

import functools
import logging
from abc import abstractmethod
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch.optim import Optimizer

if TYPE_CHECKING:
    from .layerwise_kernel import OnePass

log = logging.getLogger(__name__)

# 1 - (1 - x) differs from x by up to this much in float64.
_ROUNDING = 2.0**-53

# Parts of a tensor whose norms are computed beside each other, and the least tensor that is worth it. Not by the number
# of threads: the result would depend on it.
_PARTS, _LEAST = 16, 1 << 16


class Factors(NamedTuple):
    """Factors of one step ``v ← momentum·v + inner·(g + β·w); w ← w − outer·v``.

    Each is a number, or on a device a 0-dim tensor for all tensors or a 1-dim one [tensors].
    """

    momentum: Any
    inner: Any
    outer: Any


class Layerwise(Optimizer):
    """Base of the optimizers whose update has a factor per tensor: goes through the groups, by device."""

    @abstractmethod
    def _host_step(self, group: dict[str, Any], params: list[Tensor]) -> None:
        """One step of a group, tensor by tensor."""

    @abstractmethod
    def _device_step(self, group: dict[str, Any], params: list[Tensor]) -> None:
        """One step of a group, all tensors at once and without waiting for the host."""

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:
        """Make one step; parameters without a gradient stay as they are."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if params:
                (self._device_step if multi_tensor(group, params) else self._host_step)(group, params)
        return loss


class LayerwiseSGD(Layerwise):
    """Base of the optimizers that are SGD with momentum but for a factor per tensor.

    State: ``momentum_buffer`` (v) of every parameter, zero at the start. Groups must hold ``lr``,
    ``weight_decay`` (β), ``nesterov``, ``foreach`` (None: by device) and ``adapt`` (whether norms are
    needed).
    """

    @abstractmethod
    def _factors(self, group: dict[str, Any], weight_norm: float | None, grad_norm: float | None) -> Factors:
        """Factors of one tensor as numbers; the norms are None where the group is not adapted."""

    @abstractmethod
    def _device_factors(
        self, group: dict[str, Any], weight_norms: Tensor | None, grad_norms: Tensor | None
    ) -> Factors:
        """Factors of all tensors, computed on their device from norms [tensors]."""

    @property
    def kernel(self) -> str:
        """How the last step was computed, or else the next will be: ``one-pass``, ``fused``, ``foreach`` or
        ``per-tensor``; of the first group."""
        group = self.param_groups[0]
        if id(group) in self.__dict__.get("_left", ()):
            return "foreach"
        if self._one_pass(group, group["params"]) is not None:
            return "one-pass"
        if multi_tensor(group, group["params"]):
            return "foreach"
        return "fused" if group["momentum"] and not group["nesterov"] else "per-tensor"

    def _buffer(self, p: Tensor) -> Tensor:
        state = self.state[p]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(p, memory_format=torch.preserve_format)
        return state["momentum_buffer"]

    def _host_step(self, group: dict[str, Any], params: list[Tensor]) -> None:
        decay, nesterov = group["weight_decay"], group["nesterov"]
        # All norms come first. Small ones are computed by one thread: were they taken in turn with the updates, which
        # all threads share, the others would fall asleep 161 times in ResNet-50's step, and waking them takes twice
        # as long as the step.
        adapt = group["adapt"]
        found = [(norm(p), norm(p.grad)) if adapt else (None, None) for p in params]
        for p, (weight_norm, grad_norm) in zip(params, found, strict=True):
            factors = self._factors(group, weight_norm, grad_norm)
            _step_one(p, p.grad, self._buffer(p), decay, factors, nesterov=nesterov)

    def _device_step(self, group: dict[str, Any], params: list[Tensor]) -> None:
        grads, buffers = [p.grad for p in params], [self._buffer(p) for p in params]
        one_pass = self._one_pass(group, params)
        addresses = None if one_pass is None else one_pass.addresses(params, grads, buffers)
        self._note_left(group, one_pass is not None and addresses is None)
        weight_norms = grad_norms = None
        if group["adapt"]:
            if addresses is None:
                weight_norms, grad_norms = norms(params), norms(grads)
            else:
                weight_norms, grad_norms = one_pass.norms(addresses)
        factors = self._device_factors(group, weight_norms, grad_norms)
        options = {"decay": group["weight_decay"], "nesterov": group["nesterov"]}
        if addresses is None:
            _step_all(params, grads, buffers, factors, **options)
        else:
            one_pass.update(addresses, **factors._asdict(), **options)

    def _one_pass(self, group: dict[str, Any], params: list[Tensor]) -> OnePass | None:
        """The kernel for a group on a GPU, unless ``foreach`` asks for something else or there is none."""
        if group["foreach"] is not None or params[0].device.type != "cuda" or _kernels() is None:
            return None
        passes = self.__dict__.setdefault("_passes", {})
        made = passes.get(id(group))
        if made is None or not made.belongs_to(params):
            made = passes[id(group)] = _kernels().OnePass(params)
        return made

    def _note_left(self, group: dict[str, Any], left: bool) -> None:
        """Note whether the kernels could not walk the group's tensors."""
        noted = self.__dict__.setdefault("_left", set())
        (noted.add if left else noted.discard)(id(group))


@functools.cache
def _kernels() -> ModuleType | None:
    """The module of Triton's kernels, or None where Triton is missing or cannot build one.

    Found out on tensors of no consequence, once for a process: an error of a run's own step is never taken for this.
    """
    try:
        from . import layerwise_kernel

        layerwise_kernel.try_out()
    except Exception as error:  # whatever Triton, a compiler or the driver makes of it
        log.warning("layer-wise updates by multi-tensor operations, for Triton cannot be used: %s", error)
        return None
    return layerwise_kernel


def multi_tensor(group: dict[str, Any], params: list[Tensor]) -> bool:
    """Whether a step takes all tensors at once: as the group's ``foreach`` says, else on all but CPUs."""
    return params[0].device.type != "cpu" if group["foreach"] is None else group["foreach"]


def norm(tensor: Tensor) -> float:
    """Euclidean norm of a tensor in the CPU's memory.

    torch reduces a tensor to one number with one thread and one running sum for each lane of the processor. Parts of a
    large one are shared by the threads, and their shorter sums round less: of a million float32 numbers the norm is
    right to 1e-6 in place of 4e-5.
    """
    dtype = _norm_dtype(tensor)
    if tensor.numel() >= _LEAST and tensor.numel() % _PARTS == 0:
        if tensor.ndim == 4 and tensor.is_contiguous(memory_format=torch.channels_last):
            tensor = tensor.permute(0, 2, 3, 1)  # as it lies in memory
        if tensor.is_contiguous():
            tensor = torch.linalg.vector_norm(tensor.view(_PARTS, -1), dim=1, dtype=dtype)
    return torch.linalg.vector_norm(tensor, dtype=dtype).item()


def norms(tensors: list[Tensor]) -> Tensor:
    """Euclidean norms [tensors], on their device and without waiting for it."""
    return torch.stack(torch._foreach_norm(tensors, 2, _norm_dtype(tensors[0])))


def _norm_dtype(tensor: Tensor) -> torch.dtype:
    return torch.float64 if tensor.dtype == torch.float64 else torch.float32


def _per_tensor(factor: Any) -> Any:
    """A factor in the form `_foreach` operations take: a 1-dim tensor as a list of 0-dim ones."""
    return list(factor.unbind()) if isinstance(factor, Tensor) and factor.ndim else factor


def scaled(tensors: list[Tensor], factor: Any) -> list[Tensor]:
    """Each tensor times its factor, as new tensors (for the number 1, the tensors themselves).

    `_foreach_mul` launches one kernel per tensor where the factors differ, so the vectors, two thirds of a
    network's tensors and next to nothing of its elements, are scaled as one tensor.
    """
    if not isinstance(factor, Tensor) and factor == 1:
        return tensors
    if not isinstance(factor, Tensor) or factor.ndim == 0:
        return torch._foreach_mul(tensors, factor)
    result: list[Any] = [None] * len(tensors)
    vectors = tuple(place for place, tensor in enumerate(tensors) if tensor.ndim == 1)
    if vectors:
        sizes = tuple(tensors[place].numel() for place in vectors)
        flat = torch.cat([tensors[place] for place in vectors])
        flat.mul_(factor.index_select(0, _owners(vectors, sizes, factor.device)))
        for place, part in zip(vectors, flat.split(sizes), strict=True):
            result[place] = part
    others = [place for place, tensor in enumerate(tensors) if tensor.ndim != 1]
    if others:
        factors = factor.unbind()
        multiplied = torch._foreach_mul([tensors[p] for p in others], [factors[p] for p in others])
        for place, tensor in zip(others, multiplied, strict=True):
            result[place] = tensor
    return result


@functools.lru_cache(maxsize=16)
def _owners(places: tuple[int, ...], sizes: tuple[int, ...], device: torch.device) -> Tensor:
    """For every element of concatenated vectors, the place of the vector it comes from."""
    return torch.repeat_interleave(torch.tensor(places), torch.tensor(sizes)).to(device)


def _step_all(
    params: list[Tensor],
    grads: list[Tensor],
    buffers: list[Tensor],
    factors: Factors,
    *,
    decay: float,
    nesterov: bool,
) -> None:
    """The step of all tensors by multi-tensor operations."""
    momentum, inner, outer = factors
    gradients = torch._foreach_add(grads, params, alpha=decay) if decay else grads
    gradients = scaled(gradients, inner)
    torch._foreach_mul_(buffers, _per_tensor(momentum))
    torch._foreach_add_(buffers, gradients)
    steps = buffers
    if nesterov:
        steps = torch._foreach_add(gradients, torch._foreach_mul(buffers, _per_tensor(momentum)))
    torch._foreach_sub_(params, scaled(steps, outer))


def _step_one(w: Tensor, g: Tensor, v: Tensor, decay: float, factors: Factors, *, nesterov: bool) -> None:
    momentum, inner, outer = factors
    if momentum and not nesterov and _fits_fused_kernel(w, g, v, inner):
        # One pass over memory. The kernel knows the inner factor as 1 - dampening.
        torch._fused_sgd_(
            [w],
            [g],
            [v],
            weight_decay=decay,
            momentum=momentum,
            lr=outer,
            dampening=1 - inner,
            nesterov=False,
            maximize=False,
            is_first_step=False,
        )
        return
    gradient = g.add(w, alpha=decay) if decay else g
    v.mul_(momentum).add_(gradient, alpha=inner)
    if nesterov:
        w.add_(gradient, alpha=-outer * inner)
        outer = outer * momentum
    w.add_(v, alpha=-outer)


def _fits_fused_kernel(w: Tensor, g: Tensor, v: Tensor, inner: float) -> bool:
    """Whether the kernel, which walks plain memory in float64 factors, computes what is meant.

    The inner factor may lose no more to ``1 - (1 - inner)`` than the tensors' own rounding (1e-13 in
    float64).
    """
    tolerance = max(torch.finfo(w.dtype).eps / 2, 1e-13)
    exact = inner in (0, 1) or abs(inner) * tolerance >= _ROUNDING
    dense = w.is_contiguous() or (w.ndim == 4 and w.is_contiguous(memory_format=torch.channels_last))
    return exact and dense and w.stride() == g.stride() == v.stride() and w.dtype == g.dtype
