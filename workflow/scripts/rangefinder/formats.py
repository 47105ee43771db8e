"""The one way each kind of number is written in reports."""

from __future__ import annotations

import math

from .statistics import Interval

MISSING = "–"


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
    """A difference of fractions in percentage points, with sign and interval."""
    if interval.mean is None:
        return MISSING
    text = f"{100 * interval.mean:+.{digits}f}"
    return text if interval.half is None else f"{text} ± {100 * interval.half:.{digits}f}"


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
    """A duration with three digits: 0.0123, 4.56, 1,230 (s)."""
    if value is None or math.isnan(value):
        return MISSING
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def loss(value: float | None) -> str:
    """A loss with four digits."""
    return MISSING if value is None or math.isnan(value) else f"{value:.4g}"
