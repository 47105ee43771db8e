"""Runs an optimizer through recorded gradients, for tests against an oracle."""

import numpy as np
import torch


def parameters(weights, dtype=torch.float64):
    return [torch.nn.Parameter(torch.tensor(w, dtype=dtype)) for w in weights]


def run(optimizer, params, gradients, lrs):
    for lr, step in zip(lrs, gradients, strict=True):
        for group in optimizer.param_groups:
            if isinstance(group["lr"], torch.Tensor):
                group["lr"].fill_(lr)
            else:
                group["lr"] = lr
        for p, g in zip(params, step, strict=True):
            p.grad = torch.tensor(g, dtype=p.dtype)
        optimizer.step()
    return [p.detach().double().numpy() for p in params]


def assert_close(found, expected, tolerance):
    """Largest difference of each tensor relative to its largest element."""
    for i, (a, b) in enumerate(zip(found, expected, strict=True)):
        assert a.shape == b.shape
        scale = max(np.abs(b).max(), 1e-300)
        assert np.isfinite(a).all()
        assert np.abs(a - b).max() <= tolerance * scale, f"tensor {i}: {np.abs(a - b).max() / scale}"
