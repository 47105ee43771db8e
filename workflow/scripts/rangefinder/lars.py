"""LARS: layer-wise adaptive rate scaling, as in the paper, and as one of the write-ups coded it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from .layerwise import Factors, LayerwiseSGD

Parameters = Iterable[Tensor] | Iterable[dict[str, Any]]


class LARS(LayerwiseSGD):
    """LARS as in Algorithm 1 of You, Gitman and Ginsburg 2017 (arXiv:1708.03888).

    For each tensor w with gradient g, LR γ, momentum m, weight decay β and trust coefficient η::

        λ = η·‖w‖ / (‖g‖ + β·‖w‖ + eps)
        v ← m·v + γ·λ·(g + β·w)
        w ← w − v

    In one place this is a convention and not the paper: where ‖w‖ = 0, λ is 1, a plain step with γ, as in
    TensorFlow's, timm's and NVIDIA's implementations. The paper has λ = 0 there, and a bias that starts at zero
    could never move. λ is also 1 where its denominator is 0 (g = 0, β = 0, eps = 0: nothing to scale), and for
    tensors that are not adapted. Where g alone is 0, λ is the paper's η·‖w‖ / (β·‖w‖ + eps), and such tensors
    decay by γ·λ·β.

    Args:
        params: parameters or groups. A group may set any argument, ``adapt`` among them.
        lr: γ; a number, or a 0-dim tensor on the parameters' device for use in a CUDA graph.
        momentum: m.
        weight_decay: β.
        trust_coefficient: η.
        eps: added to λ's denominator; 0 in the paper.
        clip: LARC, γ·λ at most γ: tensors that are adapted make a step of min(γ, λ).
        lr_outside: γ outside the momentum, ``v ← m·v + λ·(g + β·w); w ← w − γ·v``, as SGD in torch has it and
            timm's LARS; the same as Algorithm 1 while γ is constant.
        nesterov: ``w ← w − (m·v + γ·λ·(g + β·w))`` with the new v.
        adapt: False for λ = 1 (biases and normalisation parameters, commonly).
        foreach: multi-tensor operations; by default on every device but the CPU.
    """

    def __init__(
        self,
        params: Parameters,
        lr: float | Tensor,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        trust_coefficient: float = 0.001,
        eps: float = 0.0,
        clip: bool = False,
        lr_outside: bool = False,
        nesterov: bool = False,
        adapt: bool = True,
        foreach: bool | None = None,
        *,
        capturable: bool = False,
    ) -> None:
        del capturable  # always: nothing here waits for the host, given the LR as a tensor
        numbers = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "trust_coefficient": trust_coefficient,
            "eps": eps,
        }
        check_numbers(numbers)
        if nesterov and momentum == 0:
            raise ValueError("nesterov needs a momentum above 0")
        flags = {"clip": clip, "lr_outside": lr_outside, "nesterov": nesterov, "adapt": adapt}
        super().__init__(params, {**numbers, **flags, "foreach": foreach})

    def _factors(self, group: dict[str, Any], weight_norm: float | None, grad_norm: float | None) -> Factors:
        lr, momentum = float(group["lr"]), group["momentum"]
        ratio = 1.0
        if weight_norm is not None:
            denominator = grad_norm + group["weight_decay"] * weight_norm + group["eps"]
            # Not `> 0`: a gradient that is not a number has to reach the weights, where it is noticed.
            if weight_norm != 0 and denominator != 0:
                ratio = group["trust_coefficient"] * weight_norm / denominator
                if group["clip"]:
                    ratio = min(ratio / lr, 1.0) if lr > 0 else 1.0
        return Factors(momentum, ratio, lr) if group["lr_outside"] else Factors(momentum, lr * ratio, 1.0)

    def _device_factors(
        self, group: dict[str, Any], weight_norms: Tensor | None, grad_norms: Tensor | None
    ) -> Factors:
        lr, momentum = group["lr"], group["momentum"]
        ratio: float | Tensor = 1.0
        if weight_norms is not None:
            denominator = grad_norms + group["weight_decay"] * weight_norms + group["eps"]
            ratio = group["trust_coefficient"] * weight_norms / denominator
            if group["clip"]:
                ratio = (ratio / lr).clamp(max=1.0)
            ratio = torch.where((weight_norms != 0) & (denominator != 0), ratio, 1.0)
        return Factors(momentum, ratio, lr) if group["lr_outside"] else Factors(momentum, lr * ratio, 1.0)


class LARSWriteUp(LayerwiseSGD):
    """The optimizer that the ResNet-50 write-up calls LARS, its errors included, for replaying it.

    ::

        local = η·‖w‖ / (‖g‖ + m·‖w‖)        # the momentum m where the weight decay should stand
        g ← g + β·w                           # after ‖g‖ was taken
        v ← m·v + g
        w ← w − γ·local·v

    Every tensor is adapted: one that starts at zero (biases, BatchNorm shifts) has local = 0 and never moves.
    Where ‖w‖ = ‖g‖ = 0 the original divides 0 by 0 and fills the model with NaN; here that tensor stays.

    Args:
        params: parameters or groups.
        lr: γ; a number, or a 0-dim tensor on the parameters' device.
        momentum, weight_decay, trust_coefficient: m, β and η.
        revision: ``first``, as above; ``later``, their correction: β in the denominator, but the buffer is
            overwritten by the scaled step, ``v ← γ·local·(m·v + g); w ← w − v``.
        foreach: multi-tensor operations; by default on every device but the CPU.
    """

    REVISIONS = ("first", "later")

    def __init__(
        self,
        params: Parameters,
        lr: float | Tensor,
        momentum: float = 0.9,
        weight_decay: float = 5e-3,
        trust_coefficient: float = 0.1,
        revision: str = "first",
        foreach: bool | None = None,
        *,
        capturable: bool = False,
    ) -> None:
        del capturable  # always, as in LARS
        numbers = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "trust_coefficient": trust_coefficient,
        }
        check_numbers(numbers)
        if revision not in self.REVISIONS:
            raise ValueError(f"revision is {revision!r}, not one of {', '.join(self.REVISIONS)}")
        flags = {"revision": revision, "nesterov": False, "adapt": True}
        super().__init__(params, {**numbers, **flags, "foreach": foreach})

    def _factors(self, group: dict[str, Any], weight_norm: float | None, grad_norm: float | None) -> Factors:
        later = group["revision"] == "later"
        denominator = grad_norm + group["weight_decay" if later else "momentum"] * weight_norm
        local = group["trust_coefficient"] * weight_norm / denominator if denominator != 0 else 0.0
        return self._arranged(group, float(group["lr"]) * local)

    def _device_factors(
        self, group: dict[str, Any], weight_norms: Tensor | None, grad_norms: Tensor | None
    ) -> Factors:
        later = group["revision"] == "later"
        denominator = grad_norms + group["weight_decay" if later else "momentum"] * weight_norms
        local = torch.where(denominator != 0, group["trust_coefficient"] * weight_norms / denominator, 0.0)
        return self._arranged(group, group["lr"] * local)

    @staticmethod
    def _arranged(group: dict[str, Any], step: Any) -> Factors:
        if group["revision"] == "later":
            return Factors(step * group["momentum"], step, 1.0)
        return Factors(group["momentum"], 1.0, step)


def check_numbers(values: dict[str, float | Tensor]) -> None:
    """Refuse hyperparameters below 0 or not a number, as torch's optimizers do."""
    for name, value in values.items():
        if isinstance(value, Tensor) and value.numel() != 1:
            raise ValueError(f"{name} as a tensor must hold one number, not {value.numel()}")
        if not value >= 0:
            raise ValueError(f"{name} is {value}, not a number of at least 0")
