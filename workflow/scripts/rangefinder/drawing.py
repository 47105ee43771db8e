"""How every figure is drawn: style, palette, panels, and SVG text that is the same on every machine."""

from __future__ import annotations

import functools
import io
import math
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt

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
# Panels of one figure: what a reader can look at, and what drawing holds in memory at once.
MOST_PANELS = 24
# Ink in the light page; the page's style sheet gives it the theme's own colour.
INK = "#1c2330"
# Ink of a figure that is shown by itself, as Markdown does: light where the reader's system is dark.
THEME = f"<style>svg{{color:{INK}}}@media (prefers-color-scheme: dark){{svg{{color:#e4e8ef}}}}</style>"


def _svg(figure: plt.Figure) -> str:
    """The figure's SVG without anything that changes from run to run, its ink following the page's colour."""
    buffer = io.BytesIO()
    figure.savefig(
        buffer, format="svg", metadata={"Date": None, "Creator": None}, bbox_inches="tight", pad_inches=0.05
    )
    plt.close(figure)
    text = buffer.getvalue().decode()
    text = re.sub(rf"(?i){INK}\b", "currentColor", text[text.index("<svg") :])
    return re.sub(r"(<svg[^>]*>)", rf"\1\n{THEME}", text, count=1).strip() + "\n"


def styled(draw: Callable[..., Iterator[plt.Figure]]) -> Callable[..., list[str]]:
    """Draw in the committed style, whatever matplotlibrc the machine has: the SVG of each figure that is yielded.

    Each is written and closed before the next is asked for.
    """

    @functools.wraps(draw)
    def drawn(*args: Any, **kwargs: Any) -> list[str]:
        with matplotlib.rc_context():
            matplotlib.rcdefaults()
            matplotlib.rc_file(STYLE)
            for key in ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"):
                matplotlib.rcParams[key] = INK
            return [_svg(figure) for figure in draw(*args, **kwargs)]

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


def parts(items: Sequence[Any], most: int) -> Iterator[Sequence[Any]]:
    """The items in order, as few parts of at most `most` as there can be, and none much smaller than the others."""
    if items:
        size = math.ceil(len(items) / math.ceil(len(items) / most))
        for start in range(0, len(items), size):
            yield items[start : start + size]


def grid(count: int, height: float = 2.7) -> tuple[plt.Figure, list[plt.Axes]]:
    """A figure of `count` panels, two in a row, three where there are many."""
    columns = min(count, 3 if count > 6 else 2)
    rows = math.ceil(count / columns)
    width = 3.9 * columns + 0.6 if columns < 3 else 10.2
    figure, axes = plt.subplots(rows, columns, figsize=(width, height * rows), squeeze=False)
    flat = list(axes.flat)
    for unused in flat[count:]:
        unused.set_visible(False)
    return figure, flat[:count]


def legend(figure: plt.Figure, axes: Sequence[plt.Axes], kinds: Sequence[str] = ()) -> None:
    """One legend under all panels, every label once.

    Args:
        kinds: what the lines of each panel stand for. Where panels differ in it, the same colour has several
            meanings: each kind has a legend of its own, under its name.
    """
    groups: dict[str, dict[str, Any]] = {}
    known: set[str] = set()
    for axis, kind in zip(axes, kinds or [""] * len(axes), strict=True):
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            if label not in known:
                known.add(label)
                groups.setdefault(kind, {})[label] = handle
    figure.tight_layout()
    columns = 6 if figure.get_figwidth() > 6 else 4
    top = 0.0
    for kind, entries in groups.items():
        title = kind if len(groups) > 1 else None
        drawn = figure.legend(
            entries.values(),
            entries.keys(),
            title=title,
            loc="upper center",
            bbox_to_anchor=(0.5, top),
            ncols=columns,
        )
        top = drawn.get_window_extent().transformed(figure.transFigure.inverted()).y0
