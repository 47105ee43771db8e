"""Local linear smoothing against weighted least squares point by point, and its memory in very long sweeps."""

import tracemalloc

import numpy as np
import pytest
from rangefinder import smoothing


@pytest.fixture
def curve():
    generator = np.random.default_rng(0)
    x = np.sort(generator.uniform(0, 4, 60))
    return x, np.sin(x) + 0.1 * generator.standard_normal(60)


@pytest.mark.parametrize("pairs", [2**23, 60, 130])  # at once, by single points, by two
def test_local_linear_is_weighted_least_squares_at_every_point(curve, monkeypatch, pairs):
    x, y = curve
    monkeypatch.setattr(smoothing, "MOST_WEIGHTS", pairs)
    smooth = smoothing.local_linear(x, y, 0.3)
    for point, value in zip(x, smooth, strict=True):
        # polyfit's weights multiply the residuals: the kernel's square root.
        line = np.polyfit(x - point, y, 1, w=np.exp(-0.25 * ((x - point) / 0.3) ** 2))
        assert value == pytest.approx(line[1], abs=1e-10)


def test_a_straight_line_stays_as_it_is(curve):
    x, _ = curve
    np.testing.assert_allclose(smoothing.local_linear(x, 3 - 2 * x, 0.2), 3 - 2 * x, atol=1e-12)


def test_a_very_long_sweep_takes_bounded_memory():
    x = np.linspace(-6, 0, 12_000)
    tracemalloc.start()
    try:
        smoothing.local_linear(x, x**2, 0.1)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (
        most < 8 * 8 * smoothing.MOST_WEIGHTS
    )  # eight such arrays; all pairs at once would take 1.2 GB each
