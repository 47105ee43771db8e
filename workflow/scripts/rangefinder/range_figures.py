"""The LR range drawn: raw sweeps, smoothed curves, the band, the suggestion, other finders' answers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from . import formats
from .drawing import INK, MARKERS, MOST_POINTS, decimated, style, styled
from .finder_rules import RULES

# Raw points of all seeds: a marker weighs what several points of a line do. A sweep of some thousand steps keeps all.
MOST_MARKERS = 3600


@styled
def range_test(
    entry: Mapping[str, Any],
    sweeps: Sequence[Mapping[str, Any]],
    smooth: Callable[[np.ndarray, np.ndarray], tuple],
) -> Iterator[plt.Figure]:
    """Raw points of every seed, smoothed curves, the range as a band, the suggestion, other rules as marks.

    Args:
        entry: content of range.json.
        sweeps: `records.read_sweep` of every seed.
        smooth: smoothing used by the extraction, (lr, loss) → (lr, smoothed).
    """
    figure, axes = plt.subplots(figsize=(7.2, 3.6))
    heads, lowest = [], []
    most = max(MOST_POINTS, MOST_MARKERS // len(sweeps))
    for index, sweep in enumerate(sweeps):
        lr, loss = sweep["columns"]["lr"], sweep["columns"]["loss"]
        finite = np.isfinite(loss)
        heads.append(float(np.median(loss[finite][: max(1, len(lr) // 10)])) if finite.any() else math.nan)
        axes.plot(
            *decimated(lr[finite], loss[finite], most), linestyle="", marker=MARKERS[index % len(MARKERS)],
            markersize=2, alpha=0.35, color="#888888", label="raw loss, each seed" if index == 0 else None,
        )  # fmt: skip
        curve = smooth(lr, loss)
        if len(curve[0]):
            lowest.append(float(np.min(curve[1])))
            axes.plot(*decimated(*curve), **style(index), label=f"smoothed, seed {sweep['sweep']['seed']}")
    axes.set_xscale("log")
    top = np.nanmax(heads) if np.isfinite(heads).any() else 1.0
    bottom = min(lowest, default=0.0)
    axes.set_ylim(bottom - 0.12 * (top - bottom) - 1e-3, top + 0.45 * (top - bottom) + 1e-3)
    across = axes.get_xaxis_transform()  # x as data, y as a share of the panel's height
    if entry["lr_min"] and entry["lr_max"]:
        ends = [entry[name]["value"] for name in ("lr_min", "lr_max")]
        # The page scrolls to the element of this name where the figure is wider than the screen.
        axes.axvspan(*ends, color="#0072B2", alpha=0.12, linewidth=0, gid="lr-range")
        for name, value, side in zip(("lr_min", "lr_max"), ends, ("right", "left"), strict=True):
            axes.axvline(value, color=INK, linewidth=0.8, linestyle=(0, (2, 2)))
            axes.text(value, 1.01, name, transform=across, ha=side, va="bottom", fontsize=8)
    if entry["suggested_lr"]:
        suggested = entry["suggested_lr"]
        axes.axvline(
            suggested["value"], color=INK, linewidth=1.6, label=f"suggested {formats.range_value(suggested)}"
        )
        if suggested["low"] is not None:
            interval = [suggested["low"], suggested["high"]]
            axes.plot(
                interval, [0.94, 0.94], transform=across, color=INK, marker="|", markersize=8, linewidth=1.2
            )
    marks = [(name, rule["value"]) for name, rule in entry["rules"].items() if rule.get("value")]
    for index, (name, value) in enumerate(sorted(marks, key=lambda mark: mark[1])):
        shape = {
            "marker": MARKERS[index % len(MARKERS)],
            "markersize": 5,
            "fillstyle": "none",
            "linestyle": "",
        }
        height = 0.03 + 0.045 * (index % 2)
        axes.plot(
            value,
            height,
            transform=across,
            color=INK,
            clip_on=False,
            label=f"{RULES[name].title} {value:.2g}",
            **shape,
        )
    axes.set_xlabel("learning rate")
    axes.set_ylabel("training loss")
    axes.set_title(f"{entry['range_test']}: {entry['status'].replace('_', ' ')}", pad=16)
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
    yield figure
