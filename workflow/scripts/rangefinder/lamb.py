"""LAMB: Adam's direction with a trust ratio per tensor."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from .lars import Parameters, check_numbers
from .layerwise import Layerwise, multi_tensor, norm, norms, scaled


class LAMB(Layerwise):
    """LAMB as in Algorithm 2 of You et al. 2019 (arXiv:1904.00962).

    For each tensor x with gradient g, at step t::

        m ← β₁·m + (1−β₁)·g          m̂ = m / (1−β₁ᵗ)
        v ← β₂·v + (1−β₂)·g²         v̂ = v / (1−β₂ᵗ)
        u = m̂ / (√v̂ + eps) + λ·x
        x ← x − η · φ(‖x‖)/‖u‖ · u

    In one place this is a convention and not the paper: where φ(‖x‖) = 0 the trust ratio is 1, not 0, so that a
    tensor that starts at zero moves. It is also 1 where u = 0, and nothing moves. A gradient of 0 is no such case:
    u is then the decay and what is left of the moments.

    Args:
        params: parameters or groups. A group may set any argument, ``adapt`` among them.
        lr: η; a number, or a 0-dim tensor on the parameters' device for use in a CUDA graph.
        betas: β₁ and β₂.
        eps: added to Adam's denominator.
        weight_decay: λ.
        bias_correction: False for m̂ = m and v̂ = v, as in the paper's third version.
        norm_clip: (low, high) of φ(z) = min(max(z, low), high); None for φ(z) = z.
        ratio_clip: upper bound of the trust ratio; None for none.
        adapt: False for a trust ratio of 1 (then LAMB is AdamW).
        foreach: multi-tensor operations; by default on every device but the CPU.
        capturable: count steps on the device, for use in a CUDA graph.
    """

    def __init__(
        self,
        params: Parameters,
        lr: float | Tensor,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        bias_correction: bool = True,
        norm_clip: tuple[float, float] | None = None,
        ratio_clip: float | None = None,
        adapt: bool = True,
        foreach: bool | None = None,
        *,
        capturable: bool = False,
    ) -> None:
        check_numbers({"lr": lr, "eps": eps, "weight_decay": weight_decay, "ratio_clip": ratio_clip or 0.0})
        if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"betas are {betas}, not two numbers from 0 to below 1")
        if norm_clip is not None and not (len(norm_clip) == 2 and 0 <= norm_clip[0] <= norm_clip[1]):
            raise ValueError(f"norm_clip is {norm_clip}, not two numbers (low, high) of at least 0")
        defaults = {
            "lr": lr,
            "betas": tuple(betas),
            "eps": eps,
            "weight_decay": weight_decay,
            "bias_correction": bias_correction,
            "norm_clip": norm_clip,
            "ratio_clip": ratio_clip,
            "adapt": adapt,
            "foreach": foreach,
            "capturable": capturable,
        }
        super().__init__(params, defaults)
        for group in self.param_groups:
            device = group["params"][0].device
            # float64: β₂ᵗ in float32 is off in the fourth digit of 1 − β₂ᵗ.
            count = torch.zeros((), dtype=torch.float64, device=device) if group["capturable"] else 0
            group.setdefault("step", count)

    @property
    def kernel(self) -> str:
        """How the step is computed: ``foreach`` or ``per-tensor``."""
        group = self.param_groups[0]
        return "foreach" if multi_tensor(group, group["params"]) else "per-tensor"

    def _moments(self, p: Tensor) -> tuple[Tensor, Tensor]:
        state = self.state[p]
        if not state:
            state["exp_avg"] = torch.zeros_like(p, memory_format=torch.preserve_format)
            state["exp_avg_sq"] = torch.zeros_like(p, memory_format=torch.preserve_format)
        return state["exp_avg"], state["exp_avg_sq"]

    def _host_step(self, group: dict[str, Any], params: list[Tensor]) -> None:
        group["step"] += 1
        lr, (beta1, beta2) = float(group["lr"]), group["betas"]
        first, second = _corrections(group, float(group["step"]))
        low, high = group["norm_clip"] or (0.0, math.inf)
        for p in params:
            m, v = self._moments(p)
            m.lerp_(p.grad, 1 - beta1)
            v.mul_(beta2).addcmul_(p.grad, p.grad, value=1 - beta2)
            # m̂ / (√v̂ + eps), both sides of the fraction times 1 − β₁ᵗ
            update = v.sqrt().mul_(first / math.sqrt(second)).add_(group["eps"] * first)
            torch.div(m, update, out=update)
            update.add_(p, alpha=group["weight_decay"])
            ratio = 1.0
            if group["adapt"]:
                weight_norm, update_norm = min(max(norm(p), low), high), norm(update)
                if weight_norm != 0 and update_norm != 0:
                    ratio = weight_norm / update_norm
                if group["ratio_clip"] is not None:
                    ratio = min(ratio, group["ratio_clip"])
            p.add_(update, alpha=-lr * ratio)

    def _device_step(self, group: dict[str, Any], params: list[Tensor]) -> None:
        group["step"] += 1
        lr, (beta1, beta2) = group["lr"], group["betas"]
        first, second = _corrections(group, group["step"], params[0].dtype)
        grads = [p.grad for p in params]
        moments = [self._moments(p) for p in params]
        ms, vs = [m for m, _ in moments], [v for _, v in moments]
        torch._foreach_lerp_(ms, grads, 1 - beta1)
        torch._foreach_mul_(vs, beta2)
        torch._foreach_addcmul_(vs, grads, grads, value=1 - beta2)
        updates = torch._foreach_sqrt(vs)
        if group["bias_correction"]:
            torch._foreach_mul_(updates, second**-0.5)
        # `_foreach_add_` takes no tensor without reading it, so eps stays a number and 1/(1 − β₁ᵗ) a pass.
        torch._foreach_add_(updates, group["eps"])
        torch._foreach_reciprocal_(updates)
        torch._foreach_mul_(updates, ms)
        if group["bias_correction"]:
            torch._foreach_mul_(updates, 1 / first)
        torch._foreach_add_(updates, params, alpha=group["weight_decay"])
        step = lr
        if group["adapt"]:
            low, high = group["norm_clip"] or (0.0, None)
            weight_norms, update_norms = norms(params).clamp(min=low, max=high), norms(updates)
            ratios = torch.where((weight_norms != 0) & (update_norms != 0), weight_norms / update_norms, 1.0)
            if group["ratio_clip"] is not None:
                ratios = ratios.clamp(max=group["ratio_clip"])
            step = lr * ratios
        torch._foreach_sub_(params, scaled(updates, step))


def _corrections(group: dict[str, Any], step: Any, dtype: torch.dtype | None = None) -> tuple[Any, Any]:
    """The bias corrections 1 − β₁ᵗ and 1 − β₂ᵗ, or 1 and 1; tensors where the step is one."""
    if not group["bias_correction"]:
        return 1.0, 1.0
    first, second = (1 - beta**step for beta in group["betas"])
    return (first.to(dtype), second.to(dtype)) if isinstance(step, Tensor) else (first, second)
