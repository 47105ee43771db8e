"""Figures as SVG text: pure functions of records, the same bytes on every machine."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

from . import formats
from .cells import Cell
from .statistics import mean_interval

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.ticker import MaxNLocator

STYLE = Path(__file__).with_name("matplotlibrc")
# Okabe and Ito's palette: told apart by readers with any colour vision; line styles tell them apart in grey.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#B8860B", "#56B4E9", "#555555")
DASHES = (
    "-",
    (0, (5, 1.5)),
    (0, (1.5, 1.2)),
    (0, (6, 1.5, 1.5, 1.5)),
    (0, (3, 1, 1, 1, 1, 1)),
    (0, (9, 2)),
    (0, (1, 3)),
)
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
MOST_POINTS = 600
# Ink in the light page; the page's style sheet gives it the theme's own colour.
INK = "#1c2330"


def _svg(figure: plt.Figure) -> str:
    """The figure's SVG without anything that changes from run to run, its ink following the page's colour."""
    buffer = io.BytesIO()
    figure.savefig(
        buffer, format="svg", metadata={"Date": None, "Creator": None}, bbox_inches="tight", pad_inches=0.05
    )
    plt.close(figure)
    text = buffer.getvalue().decode()
    text = text[text.index("<svg") :]
    # Several figures share one page: ids that repeat would make one figure draw with another's glyphs.
    return re.sub(r"(?i)#1c2330\b", "currentColor", text).strip() + "\n"


def _styled(draw: Callable[..., plt.Figure | None]) -> Callable[..., str | None]:
    """Draw in the committed style, whatever matplotlibrc the machine has."""

    def drawn(*args: Any, **kwargs: Any) -> str | None:
        with matplotlib.rc_context():
            matplotlib.rcdefaults()
            matplotlib.rc_file(STYLE)
            for key in ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"):
                matplotlib.rcParams[key] = INK
            figure = draw(*args, **kwargs)
            return None if figure is None else _svg(figure)

    drawn.__doc__, drawn.__name__ = draw.__doc__, draw.__name__
    return drawn


def decimated(x: np.ndarray, y: np.ndarray, most: int = MOST_POINTS) -> tuple[np.ndarray, np.ndarray]:
    """At most `most` points of a curve for drawing: lowest and highest of each stretch, so no spike is lost."""
    if len(x) <= most:
        return x, y
    keep = {0, len(x) - 1}
    for part in np.array_split(np.arange(len(x)), most // 2 - 1):
        values = y[part]
        if np.isfinite(values).any():
            keep |= {int(part[np.nanargmin(values)]), int(part[np.nanargmax(values)])}
    index = np.array(sorted(keep))
    return x[index], y[index]


def style(index: int) -> dict[str, Any]:
    """Colour and dashes of the index-th line."""
    return {"color": COLOURS[index % len(COLOURS)], "linestyle": DASHES[index % len(DASHES)]}


# --- LR range ------------------------------------------------------------------------------------------


@_styled
def range_test(
    entry: Mapping[str, Any],
    sweeps: Sequence[Mapping[str, Any]],
    smooth: Callable[[np.ndarray, np.ndarray], tuple],
) -> plt.Figure:
    """Raw points of every seed, smoothed curves, the range as a band, the suggestion, other rules as marks.

    Args:
        entry: content of range.json.
        sweeps: `records.read_sweep` of every seed.
        smooth: smoothing used by the extraction, (lr, loss) → (lr, smoothed).
    """
    figure, axes = plt.subplots(figsize=(7.2, 3.6))
    heads, lowest = [], []
    for index, sweep in enumerate(sweeps):
        lr, loss = sweep["columns"]["lr"], sweep["columns"]["loss"]
        finite = np.isfinite(loss)
        heads.append(float(np.median(loss[finite][: max(1, len(lr) // 10)])) if finite.any() else math.nan)
        axes.plot(
            lr[finite], loss[finite], linestyle="", marker=MARKERS[index % len(MARKERS)], markersize=2, alpha=0.35,
            color="#888888", label="raw loss, each seed" if index == 0 else None,
        )  # fmt: skip
        curve = smooth(lr, loss)
        if len(curve[0]):
            lowest.append(float(np.min(curve[1])))
            axes.plot(*decimated(*curve), **style(index), label=f"smoothed, seed {sweep['sweep']['seed']}")
    axes.set_xscale("log")
    top = np.nanmax(heads) if np.isfinite(heads).any() else 1.0
    bottom = min(lowest, default=0.0)
    axes.set_ylim(bottom - 0.12 * (top - bottom) - 1e-3, top + 0.45 * (top - bottom) + 1e-3)
    if entry["lr_min"] and entry["lr_max"]:
        axes.axvspan(
            entry["lr_min"]["value"], entry["lr_max"]["value"], color="#0072B2", alpha=0.12, linewidth=0
        )
        for name, side in (("lr_min", "right"), ("lr_max", "left")):
            axes.annotate(
                name, (entry[name]["value"], 1), xycoords=("data", "axes fraction"), ha=side, va="top", fontsize=8,
                xytext=(-3 if side == "right" else 3, -2), textcoords="offset points",
            )  # fmt: skip
    if entry["suggested_lr"]:
        suggested = entry["suggested_lr"]
        label = f"suggested {formats.range_value(suggested)}"
        axes.axvline(suggested["value"], color=INK, linewidth=1.6, label=label)
        if suggested["low"] is not None:
            axes.axvspan(suggested["low"], suggested["high"], color=INK, alpha=0.10, linewidth=0)
    marks = [(name, rule["value"]) for name, rule in entry["rules"].items() if rule.get("value")]
    for index, (name, value) in enumerate(sorted(marks, key=lambda mark: mark[1])):
        shape = {
            "marker": MARKERS[index % len(MARKERS)],
            "markersize": 5,
            "fillstyle": "none",
            "linestyle": "",
        }
        height, across = 0.03 + 0.045 * (index % 2), axes.get_xaxis_transform()
        axes.plot(
            value, height, transform=across, color=INK, clip_on=False, label=f"{name} {value:.2g}", **shape
        )
    axes.set_xlabel("learning rate")
    axes.set_ylabel("training loss")
    axes.set_title(f"{entry['range_test']}: {entry['status'].replace('_', ' ')}")
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
    return figure


# --- schedules and curves ------------------------------------------------------------------------------


def panels(cells: Sequence[Cell]) -> dict[str, list[Cell]]:
    """Cells drawn together: those that differ in the schedule alone; groups of one only if all are."""
    groups: dict[str, list[Cell]] = {}
    for cell in cells:
        others = [
            f"{axis} {value}" for axis, value in cell.axes.items() if axis not in ("schedule", "optimizer")
        ]
        title = " · ".join([cell.axes["optimizer"], *others]) + (f" ({cell.form})" if cell.form else "")
        groups.setdefault(title.replace("batch_size", "batch").replace("lr ", "LR "), []).append(cell)
    larger = {title: members for title, members in groups.items() if len(members) > 1}
    return larger or groups


def _grid(count: int, height: float = 2.7) -> tuple[plt.Figure, list[plt.Axes]]:
    columns = min(2, count)
    rows = math.ceil(count / columns)
    figure, axes = plt.subplots(rows, columns, figsize=(3.9 * columns + 0.6, height * rows), squeeze=False)
    flat = list(axes.flat)
    for unused in flat[count:]:
        unused.set_visible(False)
    return figure, flat[:count]


def _positions(cells: Sequence[Cell]) -> dict[str, int]:
    names: dict[str, int] = {}
    for cell in cells:
        names.setdefault(cell.axes["schedule"], len(names))
    return names


def _legend(figure: plt.Figure, axes: Sequence[plt.Axes]) -> None:
    entries: dict[str, Any] = {}
    for axis in axes:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    figure.tight_layout()
    figure.legend(entries.values(), entries.keys(), loc="upper center", bbox_to_anchor=(0.5, 0.0), ncols=5)


@_styled
def lr_schedules(cells: Sequence[Cell]) -> plt.Figure | None:
    """LR of every step of one run per cell; what changes in steps is drawn as steps."""
    groups = {title: [cell for cell in members if cell.runs] for title, members in panels(cells).items()}
    groups = {title: members for title, members in groups.items() if members}
    if not groups:
        return None
    figure, flat = _grid(len(groups))
    positions = _positions(cells)
    for axes, (title, members) in zip(flat, groups.items(), strict=True):
        for cell in members:
            run = next(iter(cell.runs.values()))
            step, lr = run["steps"]["step"], run["steps"]["lr"]
            # Only where the LR changes, and held until then: a StepLR is a staircase, not a row of ramps.
            change = np.flatnonzero(np.diff(lr)) + 1
            keep = (
                np.unique(np.concatenate([[0], change, [len(lr) - 1]]))
                if len(lr)
                else np.array([], dtype=int)
            )
            x, y = decimated(step[keep], lr[keep])
            axes.plot(
                x,
                y,
                drawstyle="steps-post",
                label=cell.axes["schedule"],
                **style(positions[cell.axes["schedule"]]),
            )
        axes.set(title=title, xlabel="step", ylabel="learning rate", yscale="log")
    _legend(figure, flat)
    return figure


def _curve(axes: plt.Axes, cell: Cell, column: str, index: int, label: str, *, faint: bool = False) -> None:
    """Mean over completed runs with a band from the lowest to the highest seed; diverged runs end in a cross."""
    completed = list(cell.completed().values())
    if completed:
        length = min(len(run["epochs"]["epoch"]) for run in completed)
        values = np.array([run["epochs"][column][:length] for run in completed])
        epochs = completed[0]["epochs"]["epoch"][:length]
        shown = ~np.isnan(values).any(axis=0)
        line = style(index) | ({"linestyle": ":", "linewidth": 1.0} if faint else {})
        axes.plot(epochs[shown], values.mean(axis=0)[shown], label=label, **line)
        if len(completed) > 1 and not faint:
            low, high = values.min(axis=0)[shown], values.max(axis=0)[shown]
            axes.fill_between(epochs[shown], low, high, color=line["color"], alpha=0.15, linewidth=0)
    for run in cell.diverged().values():
        epochs, values = run["epochs"]["epoch"], run["epochs"][column]
        if len(epochs) and not faint:
            axes.plot(epochs, values, linewidth=0.8, alpha=0.7, **style(index))
            axes.plot(epochs[-1], values[-1], marker="x", color=style(index)["color"], label="diverged")


def _curves(
    cells: Sequence[Cell], pairs: Sequence[tuple[str, str, bool]], ylabel: str, scale: str
) -> plt.Figure | None:
    groups = {title: [cell for cell in members if cell.runs] for title, members in panels(cells).items()}
    groups = {title: members for title, members in groups.items() if members}
    if not groups:
        return None
    figure, flat = _grid(len(groups))
    positions = _positions(cells)
    for axes, (title, members) in zip(flat, groups.items(), strict=True):
        for cell in members:
            for column, suffix, faint in pairs:
                name = cell.axes["schedule"] + suffix
                _curve(axes, cell, column, positions[cell.axes["schedule"]], name, faint=faint)
        axes.set(title=title, xlabel="epoch", ylabel=ylabel, yscale=scale)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _legend(figure, flat)
    return figure


@_styled
def loss_curves(cells: Sequence[Cell]) -> plt.Figure | None:
    """Test loss (lines, band over seeds) and training loss (dotted) by epoch."""
    return _curves(cells, [("test_loss", "", False), ("train_loss", " (train)", True)], "loss", "log")


@_styled
def accuracy_curves(cells: Sequence[Cell]) -> plt.Figure | None:
    """Test accuracy (lines, band over seeds) and training accuracy (dotted) by epoch."""
    return _curves(
        cells, [("test_accuracy", "", False), ("train_accuracy", " (train)", True)], "accuracy", "linear"
    )


# --- batch size ----------------------------------------------------------------------------------------


@_styled
def batch_size(cells: Sequence[Cell], published: Sequence[Mapping[str, Any]] = ()) -> plt.Figure | None:
    """Final test accuracy and time of training against batch size, one line per form, optimizer and schedule.

    Args:
        published: comparisons with a published value (`published.compare`); drawn as hollow marks.
    """
    series: dict[str, list[Cell]] = {}
    for cell in cells:
        others = [str(value) for axis, value in cell.axes.items() if axis not in ("batch_size", "lr")]
        series.setdefault(" · ".join(others) + (f" ({cell.form})" if cell.form else ""), []).append(cell)
    series = {
        name: members
        for name, members in series.items()
        if len({cell.axes["batch_size"] for cell in members}) > 1
    }
    if not series:
        return None
    figure, (left, right) = plt.subplots(1, 2, figsize=(8.4, 3.0))
    for index, (name, members) in enumerate(series.items()):
        members = sorted(members, key=lambda cell: cell.axes["batch_size"])
        rows = [(cell, mean_interval(list(cell.values("final_test_accuracy").values()))) for cell in members]
        rows = [(cell, interval) for cell, interval in rows if interval.mean is not None]
        if not rows:
            continue
        sizes = [cell.axes["batch_size"] for cell, _ in rows]
        mark = {"marker": MARKERS[index % len(MARKERS)], "markersize": 4} | style(index)
        left.plot(sizes, [100 * interval.mean for _, interval in rows], label=name, **mark)
        if all(interval.low is not None for _, interval in rows):
            low, high = ([100 * getattr(interval, side) for _, interval in rows] for side in ("low", "high"))
            left.fill_between(sizes, low, high, color=style(index)["color"], alpha=0.15, linewidth=0)
        times = [
            mean_interval(
                [sum(e["train_s"] for e in run["machine"]["epochs"]) for run in cell.completed().values()]
            ).mean
            for cell, _ in rows
        ]
        right.plot(sizes, times, label=name, **mark)
    for entry in published:
        if entry.get("batch_size") and entry.get("published") is not None:
            left.plot(
                entry["batch_size"], 100 * entry["published"], marker="o", markersize=6, fillstyle="none", color=INK,
                linestyle="", label="published",
            )  # fmt: skip
    ticks = sorted({cell.axes["batch_size"] for members in series.values() for cell in members})
    for axes, label in ((left, "final test accuracy (%)"), (right, "time to train (s)")):
        axes.set_xscale("log", base=2)
        axes.set_xticks(ticks, [str(tick) for tick in ticks])
        axes.set(xlabel="batch size", ylabel=label)
    _legend(figure, [left, right])
    return figure
