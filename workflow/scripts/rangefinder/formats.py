"""The one way each kind of number is written in reports."""

from __future__ import annotations

import math

from .statistics import Interval

MISSING = "–"
MINUS = "−"  # as wide as the plus sign


def percent(value: float | None, digits: int = 2) -> str:
    """A fraction as a percentage: 0.98765 → 98.77."""
    return MISSING if value is None or math.isnan(value) else f"{100 * value:.{digits}f}"


def percent_interval(interval: Interval, digits: int = 2) -> str:
    """A mean fraction with its interval: 98.77 ± 0.12."""
    if interval.mean is None:
        return MISSING
    text = percent(interval.mean, digits)
    return text if interval.half is None else f"{text} ± {100 * interval.half:.{digits}f}"


def points(interval: Interval, digits: int = 2) -> str:
    """A difference of fractions in percentage points, with sign and interval: −0.28 ± 0.35."""
    if interval.mean is None:
        return MISSING
    return signed_points(interval.mean, interval.half, digits)


def signed_points(value: float, half: float | None = None, digits: int = 2) -> str:
    """As `points`, from the difference and half the width of its interval."""
    text = f"{100 * value:+.{digits}f}".replace("-", MINUS)
    return text if half is None else f"{text} ± {100 * half:.{digits}f}"


def learning_rate(value: float | None) -> str:
    """A learning rate with three digits: 0.0316, 6.05e-05."""
    return MISSING if value is None else f"{value:.3g}"


def range_value(entry: dict | None) -> str:
    """A value of an LR range with its factor: 0.0316 ×/÷ 1.25."""
    if not entry:
        return MISSING
    text = learning_rate(entry["value"])
    return text if entry.get("factor") is None else f"{text} ×/÷ {entry['factor']:.2f}"


def seconds(value: float | None) -> str:
    """A duration with three digits: 0.0123, 4.50, 1,230 (s)."""
    if value is None or math.isnan(value):
        return MISSING
    return f"{value:,.0f}" if value >= 100 else f"{value:#.3g}"


def loss(value: float | None) -> str:
    """A loss with four digits: 0.1200."""
    return MISSING if value is None or math.isnan(value) else f"{value:#.4g}".rstrip(".")


def loss_interval(interval: Interval) -> str:
    """A mean loss with its interval, to as many decimals: 0.1200 ± 0.0050, 187.0 ± 2.1."""
    text = loss(interval.mean)
    if interval.mean is None or interval.half is None:
        return text
    if "e" in text:
        return f"{text} ± {interval.half:.3g}"
    decimals = len(text.partition(".")[2])
    return f"{text} ± {interval.half:.{decimals}f}"


def ratio(value: float) -> str:
    """A ratio with two digits: 0.25, 1.0, 12, 0.0010."""
    return f"{value:#.2g}".rstrip(".")
