"""Learning rate by step, and loss and accuracy by epoch, schedules drawn over one another."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import MaxNLocator

from . import panels
from .cells import Cell
from .drawing import MOST_PANELS, decimated, grid, legend, parts, style, styled

Draw = Callable[[plt.Axes, Cell, str, int], None]
DIVERGED = "diverged"
FAINT = ":"


def _in_panels(cells: Sequence[Cell], draw: Draw, **labels: str) -> Iterator[plt.Figure]:
    """One panel per comparison of the study's sweeps; `draw` gets axes, cell, label and style of each line.

    A line has the same style in every panel of every figure.
    """
    found = panels.by_sweep(cells)
    styles = panels.positions(found)
    for shown in parts(found, MOST_PANELS):
        yield _figure(shown, styles, draw, **labels)


def _figure(
    shown: Sequence[panels.Panel], styles: Mapping[str, int], draw: Draw, **labels: str
) -> plt.Figure:
    figure, flat = grid(len(shown))
    for axes, panel in zip(flat, shown, strict=True):
        for label, cell in panel.lines.items():
            draw(axes, cell, label, styles[label])
        axes.set(
            title="\n".join(textwrap.wrap(panel.title, 36)), **labels
        )  # three panels in a row are narrow
        if labels.get("yscale") == "log" and not _spans_a_decade(axes):
            axes.set_yscale("linear")  # whose ticks are plain numbers
        points = [line for line in axes.lines if len(line.get_xdata()) == 1]
        for line in points:
            line.set_marker(line.get_marker() if line.get_label() == DIVERGED else "o")
            line.set_fillstyle("none" if line.get_linestyle() == FAINT else "full")
        if points and len(points) == len(axes.lines):  # runs of one epoch
            axes.set_xlim(axes.dataLim.x0 - 0.5, axes.dataLim.x1 + 0.5)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6, min_n_ticks=1))
    kinds = ["LR" if panel.line == "lr" else panel.line.replace("_", " ") for panel in shown]
    legend(figure, flat, kinds)
    return figure


def _spans_a_decade(axes: plt.Axes) -> bool:
    values = np.concatenate([line.get_ydata() for line in axes.lines] or [np.ones(1)])
    values = values[np.isfinite(values) & (values > 0)]
    return len(values) > 0 and values.max() >= 10 * values.min()


def _staircase(axes: plt.Axes, cell: Cell, label: str, index: int) -> None:
    """The LR of one run, where it changes and held until then: a StepLR is a staircase, not a row of ramps."""
    run = next(iter(cell.runs.values()))
    step, lr = run["steps"]["step"], run["steps"]["lr"]
    if len(lr):
        keep = np.unique([0, *(np.flatnonzero(np.diff(lr)) + 1), len(lr) - 1])
        axes.plot(*decimated(step[keep], lr[keep]), drawstyle="steps-post", label=label, **style(index))


@styled
def lr_schedules(cells: Sequence[Cell]) -> Iterator[plt.Figure]:
    """LR of every step of one run per cell."""
    yield from _in_panels(cells, _staircase, xlabel="step", ylabel="learning rate", yscale="log")


def _curve(
    axes: plt.Axes, cell: Cell, column: str, index: int, label: str, scale: float, *, faint: bool = False
) -> None:
    """Mean over completed runs with a band from the lowest to the highest seed; diverged runs end in a cross."""
    completed = list(cell.completed().values())
    if completed:
        length = min(len(run["epochs"]["epoch"]) for run in completed)
        values = scale * np.array([run["epochs"][column][:length] for run in completed])
        epochs = completed[0]["epochs"]["epoch"][:length]
        shown = ~np.isnan(values).any(axis=0)
        line = style(index) | ({"linestyle": FAINT, "linewidth": 1.0} if faint else {})
        axes.plot(epochs[shown], values.mean(axis=0)[shown], label=label, **line)
        if len(completed) > 1 and not faint:
            low, high = values.min(axis=0)[shown], values.max(axis=0)[shown]
            axes.fill_between(epochs[shown], low, high, color=line["color"], alpha=0.15, linewidth=0)
    for run in cell.diverged().values():
        epochs, values = run["epochs"]["epoch"], scale * run["epochs"][column]
        if len(epochs) and not faint:
            axes.plot(epochs, values, linewidth=0.8, alpha=0.7, **style(index))
            axes.plot(epochs[-1], values[-1], marker="x", color=style(index)["color"], label=DIVERGED)


def _train_and_test(quantity: str, scale: float = 1.0) -> Draw:
    def draw(axes: plt.Axes, cell: Cell, label: str, index: int) -> None:
        _curve(axes, cell, f"test_{quantity}", index, label, scale)
        _curve(axes, cell, f"train_{quantity}", index, "training (dotted)", scale, faint=True)

    return draw


@styled
def loss_curves(cells: Sequence[Cell]) -> Iterator[plt.Figure]:
    """Test loss (lines, band over seeds) and training loss (dotted) by epoch."""
    yield from _in_panels(cells, _train_and_test("loss"), xlabel="epoch", ylabel="loss", yscale="log")


@styled
def accuracy_curves(cells: Sequence[Cell]) -> Iterator[plt.Figure]:
    """Test accuracy (lines, band over seeds) and training accuracy (dotted) by epoch."""
    for figure in _in_panels(
        cells, _train_and_test("accuracy", 100.0), xlabel="epoch", ylabel="accuracy (%)"
    ):
        for axes in figure.axes:
            _from_its_second_half(axes)
            # The margin above is of the whole curve's height: above 100 % there is nothing to show.
            bottom, top = axes.get_ylim()
            axes.set_ylim(top=min(top, 100 + (100 - bottom) / 25))
        yield figure


def _from_its_second_half(axes: plt.Axes) -> None:
    """Leave out what the first epochs are lower than the rest: beside 10 %, 98 and 99 % are one line.

    A panel with a diverged run is left as it is: where that run ended would be out of sight.
    """
    lines = [line.get_xydata() for line in axes.lines if len(line.get_xydata())]
    if not lines or any(line.get_label() == DIVERGED for line in axes.lines):
        return
    points = np.concatenate(lines)
    middle = points[:, 0].max() / 2
    late = points[(points[:, 0] >= middle) & np.isfinite(points[:, 1]), 1]
    if len(late) and np.ptp(late) > 0:
        axes.set_ylim(bottom=max(axes.get_ylim()[0], late.min() - np.ptp(late) / 2))
