"""Our losses laid over published loss curves, and how far they are apart at every step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import MaxNLocator

from .cells import Cell
from .drawing import INK, MOST_PANELS, decimated, legend, parts, style, styled
from .published import AXES, FORM
from .published_curves import Curve

TITLES = {"train_loss": "training loss by step", "test_loss": "test loss by epoch"}


@styled
def replay(cells: Sequence[Cell], curves: Sequence[Curve]) -> Iterator[plt.Figure]:
    """One row per published cell that was run as published: training loss, absolute difference, test loss.

    Args:
        curves: published curves (`published_curves.read`).
    """
    rows = []
    for cell in cells:
        own = {curve.quantity: curve for curve in curves if _is_of(curve, cell)}
        if own and cell.form == FORM and cell.runs:
            rows.append((cell, own))
    for shown in parts(rows, MOST_PANELS // 3):
        yield _figure(shown)


def _figure(rows: Sequence[tuple[Cell, Mapping[str, Curve]]]) -> plt.Figure:
    figure, grid = plt.subplots(len(rows), 3, figsize=(10.2, 0.4 + 2.6 * len(rows)), squeeze=False)
    for (train, apart, test), (cell, own) in zip(grid, rows, strict=True):
        run = next(iter(cell.runs.values()))
        for axes, quantity in ((train, "train_loss"), (test, "test_loss")):
            axes.set(yscale="log", ylabel="loss", xlabel=TITLES[quantity].split(" by ")[1])
            axes.set_title(
                f"{cell.axes['schedule']}: {TITLES[quantity]}" if axes is train else TITLES[quantity]
            )
            if quantity in own:
                curve = own[quantity]
                _lines(axes, curve.x, curve.y, "published", color="#888888", linewidth=2.6, alpha=0.8)
                _lines(axes, curve.x, curve.of(run), "ours", linewidth=0.9, **style(0))
        apart.set_title("|ours − published|, training")
        apart.set(yscale="log", xlabel="step", ylabel="difference")
        if "train_loss" in own:
            curve = own["train_loss"]
            difference = np.abs(curve.of(run) - curve.y)
            # The published losses are rounded: no difference at all cannot be drawn on a log axis.
            _lines(
                apart, curve.x, np.where(difference > 0, difference, np.nan), None, linewidth=0.9, color=INK
            )
        for axes in (train, apart, test):
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))
    legend(figure, grid.flat)
    return figure


def _is_of(curve: Curve, cell: Cell) -> bool:
    return all(cell.axes[axis] == curve.axes[axis] for axis in AXES)


def _lines(axes: plt.Axes, x: np.ndarray, y: np.ndarray, label: str | None, **look: Any) -> None:
    known = np.isfinite(y)
    axes.plot(*decimated(x[known], y[known]), label=label, **look)
