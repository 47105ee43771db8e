"""Lets torch's optimizers work without importing torch's compiler, which takes as long as importing torch itself."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch.optim import Optimizer


def spare_optimizers() -> None:
    """Take out of torch's optimizers what imports ``torch._dynamo``; call it before the first of them is made.

    Their methods tell the compiler not to trace them, and import it to do so, though nothing is compiled here but
    models. What they compute stays the same to the bit. Where a version of torch is built otherwise, nothing is
    changed: jobs then take longer to start.
    """
    for name in ("add_param_group", "zero_grad", "state_dict", "load_state_dict"):
        method = getattr(Optimizer, name)
        plain = getattr(method, "__wrapped__", None)
        if plain is not None:
            plain.__dynamo_disable = plain  # where torch._disable_dynamo keeps what it calls
    for kind in vars(torch.optim).values():
        step = getattr(kind, "step", None)
        if getattr(getattr(step, "__code__", None), "co_name", None) == "_use_grad":
            kind.step = _untraced(step.__wrapped__)


def _untraced(step: Callable) -> Callable:
    """torch's ``_use_grad_for_differentiable`` without the marks for the compiler."""

    @functools.wraps(step)
    def run(self: Optimizer, *args: Any, **kwargs: Any) -> Any:
        with torch.set_grad_enabled(self.defaults["differentiable"]):
            return step(self, *args, **kwargs)

    return run
