"""Smoothing of a noisy loss curve without lag."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import median_filter

# Weights of every point for every other are computed for so many pairs at once: a few arrays of 64 MiB.
MOST_WEIGHTS = 2**23


def running_median(values: np.ndarray, width: int = 5) -> np.ndarray:
    """Median of `width` neighbours, the ends repeated outwards: removes spikes shorter than half the width."""
    return median_filter(np.asarray(values, np.float64), size=width, mode="nearest")


def local_linear(x: np.ndarray, y: np.ndarray, bandwidth: float) -> np.ndarray:
    """Local linear regression with a Gaussian kernel, evaluated at the points themselves.

    Symmetric, so it has no lag; linear, so it reproduces straight lines exactly, at the ends too (Fan and Gijbels,
    "Local Polynomial Modelling and Its Applications", 1996, section 3.2).

    Args:
        x: [n] increasing.
        y: [n] finite.
        bandwidth: standard deviation of the kernel, in units of `x`.

    Returns:
        [n] float64.
    """
    rows = max(1, MOST_WEIGHTS // len(x))
    return np.concatenate([_at(x[start : start + rows], x, y, bandwidth) for start in range(0, len(x), rows)])


def _at(points: np.ndarray, x: np.ndarray, y: np.ndarray, bandwidth: float) -> np.ndarray:
    """The regression at some points: [points] float64."""
    distance = x[None, :] - points[:, None]
    weight = np.exp(-0.5 * (distance / bandwidth) ** 2)
    s0, s1, s2 = weight.sum(1), (weight * distance).sum(1), (weight * distance**2).sum(1)
    t0, t1 = weight @ y, (weight * distance) @ y
    determinant = s0 * s2 - s1**2
    line = determinant > 1e-12 * s0 * s2  # else one point alone has all the weight
    return np.where(line, (s2 * t0 - s1 * t1) / np.where(line, determinant, 1.0), t0 / s0)
