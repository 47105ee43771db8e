"""Accuracy and time against batch size: one line per optimizer, published values in the same colour."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt

from .cells import Cell
from .drawing import INK, MARKERS, MOST_PANELS, legend, parts, style, styled
from .panels import words
from .published import AXES, FORM
from .statistics import Interval, mean_interval

# A published table and its later revisions; from the fourth on they repeat.
PUBLISHED_MARKERS = ("o", "+", "x")


@styled
def batch_size(cells: Sequence[Cell], published: Sequence[Mapping[str, Any]] = ()) -> Iterator[plt.Figure]:
    """Test accuracy and time of training against batch size; a row of panels per form, schedule and other settings.

    Args:
        published: comparisons with published values (`published.compare`). Where a cell has some, our value is of the
            metric that was published; elsewhere it is the final test accuracy. A published value of another metric,
            which cannot be laid over ours, stands in the table alone.
    """
    compared: dict[str, list[Mapping[str, Any]]] = {}
    for entry in published:
        entries = compared.setdefault(str([entry[axis] for axis in AXES]), [])
        if not entries or entry["metric"] == entries[0]["metric"]:
            entries.append(entry)
    styles = {
        name: index for index, name in enumerate(dict.fromkeys(cell.axes["optimizer"] for cell in cells))
    }
    for rows in parts(list(_rows(cells).items()), MOST_PANELS // 2):
        yield _figure(rows, styles, compared)


def _figure(
    rows: Sequence[tuple[str, Mapping[str, Sequence[Cell]]]],
    styles: Mapping[str, int],
    compared: Mapping[str, Sequence[Mapping[str, Any]]],
) -> plt.Figure:
    figure, grid = plt.subplots(len(rows), 2, figsize=(8.4, 0.4 + 2.6 * len(rows)), squeeze=False)
    for (left, right), (title, lines) in zip(grid, rows, strict=True):
        for name, members in lines.items():
            # Published values belong to the cells as published; one put right may have the same axes.
            found = [
                (cell, compared.get(str([cell.axes[axis] for axis in AXES]), []) if cell.form == FORM else [])
                for cell in members
            ]
            _accuracies(left, name, found, styles[name])
            _times(right, name, found, styles[name])
        ticks = sorted({cell.axes["batch_size"] for members in lines.values() for cell in members})
        for axes, label in ((left, "test accuracy (%)"), (right, "time to train (s)")):
            axes.set_xscale("log", base=2)
            axes.set_xticks(ticks, [str(tick) for tick in ticks])
            axes.set(xlabel="batch size", ylabel=label)
        left.set_title(title)
        right.set_ylim(bottom=0)  # half the height is half the time
    legend(figure, grid.flat)
    return figure


def _rows(cells: Sequence[Cell]) -> dict[str, dict[str, list[Cell]]]:
    """Cells with runs by title and optimizer, in order of batch size; only where batch sizes are compared.

    Where a row has several LRs for a batch size, each LR that was trained at several batch sizes has a row of its own,
    else one line would go up and down through them.
    """
    rows: dict[str, list[Cell]] = {}
    for cell in cells:
        if cell.runs:
            rows.setdefault(_title(cell, "optimizer", "batch_size", "lr"), []).append(cell)
    found = {}
    for title, members in rows.items():
        by_lr: dict[str, list[Cell]] = {}
        for cell in members:
            by_lr.setdefault(_title(cell, "optimizer", "batch_size"), []).append(cell)
        lines = {name: _lines(of_one) for name, of_one in by_lr.items()}
        several = len({(cell.axes["optimizer"], cell.axes["batch_size"]) for cell in members}) < len(members)
        found |= lines if several and any(lines.values()) else {title: _lines(members)}
    return {title: lines for title, lines in found.items() if lines}


def _title(cell: Cell, *apart: str) -> str:
    """What a cell is, but for these axes."""
    others = [words(axis, value) for axis, value in cell.axes.items() if axis not in apart]
    return " · ".join(others) + (f" ({cell.form})" if cell.form else "")


def _lines(members: Sequence[Cell]) -> dict[str, list[Cell]]:
    """Cells by optimizer, in order of batch size, where it has more than one."""
    lines: dict[str, list[Cell]] = {}
    for cell in members:
        lines.setdefault(cell.axes["optimizer"], []).append(cell)
    return {
        name: sorted(line, key=lambda cell: cell.axes["batch_size"])
        for name, line in lines.items()
        if len({cell.axes["batch_size"] for cell in line}) > 1
    }


def _accuracies(axes: plt.Axes, name: str, found: Sequence[tuple[Cell, list]], index: int) -> None:
    points: list[tuple[int, Interval]] = []
    for cell, entries in found:
        ours = (
            entries[0]["ours"]
            if entries
            else mean_interval(list(cell.values("final_test_accuracy").values()))
        )
        if ours.mean is not None:
            points.append((cell.axes["batch_size"], ours))
    sizes = [size for size, _ in points]
    axes.plot(sizes, [100 * ours.mean for _, ours in points], label=name, **_marked(index))
    if points and all(ours.low is not None for _, ours in points):
        # An interval of few seeds can leave what an accuracy can be.
        low = [100 * max(ours.low, 0) for _, ours in points]
        high = [100 * min(ours.high, 1) for _, ours in points]
        axes.fill_between(sizes, low, high, color=style(index)["color"], alpha=0.15, linewidth=0)
    for cell, _ in found:
        if cell.diverged():
            axes.plot(
                cell.axes["batch_size"], 0.02 + 0.05 * index, transform=axes.get_xaxis_transform(), marker="X",
                linestyle="", color=style(index)["color"], label="a run diverged",
            )  # fmt: skip
    _published(axes, found, index, lambda entry: 100 * entry["published"], "published")


def _times(axes: plt.Axes, name: str, found: Sequence[tuple[Cell, list]], index: int) -> None:
    points = []
    for cell, _ in found:
        seconds = [sum(e["train_s"] for e in run["machine"]["epochs"]) for run in cell.completed().values()]
        if seconds:
            points.append((cell.axes["batch_size"], mean_interval(seconds).mean))
    if points:
        axes.plot(*zip(*points, strict=True), label=name, **_marked(index))
    _published(axes, found, index, lambda entry: entry["train_seconds"], "train_seconds")


def _published(axes: plt.Axes, found: Sequence[tuple[Cell, list]], index: int, value: Any, key: str) -> None:
    """Published values as hollow marks on a thin line in the colour of ours; a later revision as marks alone."""
    series: dict[str, list[tuple[int, float]]] = {}
    for cell, entries in found:
        for entry in entries:
            if entry[key] is not None:
                series.setdefault(entry["revision"], []).append((cell.axes["batch_size"], value(entry)))
    for position, (revision, points) in enumerate(series.items()):
        marker = PUBLISHED_MARKERS[position % len(PUBLISHED_MARKERS)]
        look = {"color": style(index)["color"], "marker": marker, "markersize": 6}
        line = {"linestyle": ":", "linewidth": 1.0, "alpha": 0.8} if position == 0 else {"linestyle": ""}
        axes.plot(*zip(*points, strict=True), fillstyle="none", **look, **line)
        # The legend's mark belongs to every optimizer.
        axes.plot([], [], label=f"published ({revision})", **look | {"color": INK}, **line, fillstyle="none")


def _marked(index: int) -> dict[str, Any]:
    return {"marker": MARKERS[index % len(MARKERS)], "markersize": 4} | style(index)
