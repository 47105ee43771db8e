"""Which cells of a study share a panel of a figure, and as which line: as its sweeps lay them out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from .cells import Cell, varying

# What the lines of a panel stand for: the first of these that a sweep varies.
LINES = ("schedule", "batch_size")
WORDS = {"batch_size": "batch", "lr": "LR"}


@dataclass
class Panel:
    """One panel.

    Attributes:
        line: the axis in which its lines differ.
        title: what its cells have in common and other panels have not.
        lines: its cells by the label of their line.
    """

    line: str
    title: str
    lines: dict[str, Cell] = field(default_factory=dict)


def words(axis: str, value: object) -> str:
    """An axis and its value as a label; optimizers and schedules speak for themselves."""
    return str(value) if axis in ("optimizer", "schedule") else f"{WORDS.get(axis, axis)} {value}"


def by_sweep(cells: Sequence[Cell]) -> list[Panel]:
    """Panels of the cells that have runs, those of one line only where no sweep compares anything.

    A sweep's lines are its schedules; in one of a single schedule its batch sizes; else whatever it varies. What
    follows from the line (each schedule at an LR of its own) does not part a panel, all else does. Where one of
    neither tries settings one at a time, not as a grid, each cell is a line, named by what it does otherwise than the
    first.
    """
    panels: dict[tuple, Panel] = {}
    names = dict.fromkeys(name for cell in cells for name in cell.sweeps)
    axes_of_study = varying(cells)
    for name in names:
        members = [cell for cell in cells if name in cell.sweeps and cell.runs]
        if not members:
            continue
        changing = [
            axis for axis in varying(members) if len({str(cell.axes.get(axis)) for cell in members}) > 1
        ]
        if not set(changing) & {*LINES, "optimizer"} and not _is_grid(changing, members):
            title = " · ".join(words(axis, members[0].axes[axis]) for axis in ("optimizer", "schedule"))
            panels[name,] = Panel(
                name, title, {_otherwise(cell, members[0], changing): cell for cell in members}
            )
            continue
        line = next((axis for axis in (*LINES, *changing) if axis in changing), LINES[0])
        apart = [axis for axis in changing if axis != line and not _follows(axis, line, members)]
        shown = [axis for axis in axes_of_study if axis != line and (axis in apart or axis not in changing)]
        for cell in members:
            parts = [words(axis, cell.axes[axis]) for axis in shown if axis in cell.axes]
            key = (cell.form, line, *parts)
            title = " · ".join(parts) + (f" ({cell.form})" if cell.form else "")
            panels.setdefault(key, Panel(line, title)).lines[words(line, cell.axes.get(line))] = cell
    larger = [panel for panel in panels.values() if len(panel.lines) > 1]
    return larger or list(panels.values())


def _is_grid(axes: Sequence[str], members: Sequence[Cell]) -> bool:
    """Whether the cells are all combinations of the axes' values."""
    return len(members) == math.prod(len({str(cell.axes.get(axis)) for cell in members}) for axis in axes)


def _otherwise(cell: Cell, first: Cell, axes: Sequence[str]) -> str:
    """What a cell does otherwise than the first one; of the first, all."""
    own = [axis for axis in axes if axis in cell.axes]
    other = [axis for axis in own if cell.axes[axis] != first.axes.get(axis)]
    return ", ".join(words(axis, cell.axes[axis]) for axis in other or own)


def _follows(axis: str, line: str, members: Sequence[Cell]) -> bool:
    """Whether the axis has one value for each value of the line's."""
    if axis == "optimizer":
        return False
    pairs = {(str(cell.axes.get(line)), str(cell.axes.get(axis))) for cell in members}
    return len(pairs) == len({value for value, _ in pairs})


def positions(panels: Sequence[Panel]) -> dict[str, int]:
    """The style of every line: the same label looks the same in every panel, each kind of line has all styles."""
    labels = dict.fromkeys((panel.line, label) for panel in panels for label in panel.lines)
    kinds = {line: [label for kind, label in labels if kind == line] for line, _ in labels}
    return {label: position for names in kinds.values() for position, label in enumerate(names)}
