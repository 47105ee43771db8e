"""The comparison of two folders of results as pages: its tables written out, HTML and Markdown."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import Markup

from . import __version__, comparison, formats, report
from .collection import Collection
from .shown import interval_of, shown_table
from .statistics import Interval, is_real

ENDS = {"lr_min": "lowest", "suggested_lr": "suggested", "lr_max": "highest"}


def _ratio(row: pd.Series, name: str) -> tuple[str, float | None]:
    """A ratio with its interval, and its sort key: 1.03 (0.98 to 1.09)."""
    found = interval_of(row, name)
    if found.mean is None:
        return formats.MISSING, None
    ends = "" if found.low is None else f" ({found.low:.3g} to {found.high:.3g})"
    return f"{found.mean:.3g}{ends}", found.mean


def _verdict(difference: Interval) -> str:
    if difference.mean is None:
        return formats.MISSING
    real = is_real(difference)
    if real is None:
        return "no interval"
    return ("A higher" if difference.mean > 0 else "B higher") if real else "not told apart"


def _whole(text: str) -> bool:
    """Whether all runs of a common seed agree: "2/2"; nothing to disagree counts too."""
    same, _, of = text.partition("/")
    return same == of


def _cell_table(frame: pd.DataFrame, name: str) -> dict[str, Any]:
    """The cells that both have, in as few columns as tell them apart."""
    axes = list(frame.columns[: list(frame.columns).index("A")])
    axes = [axis for axis in axes if axis != "form" or frame["form"].astype(bool).any()]
    constant = {axis: frame[axis].iloc[0] for axis in axes if len(frame) > 1 and frame[axis].nunique() == 1}
    axes = [axis for axis in axes if axis not in constant]
    hows, parameters = set(frame["how"]), set(frame["parameters"])
    happened = frame[[f"{side}_status" for side in comparison.SIDES]].ne("completed").any(axis=None)
    rows = []
    for _, row in frame.iterrows():
        shown: dict[str, Any] = {axis.replace("_", " "): row[axis] for axis in axes}
        found = interval_of(row, "difference")
        # What is asked for comes first: a phone shows no more without scrolling.
        shown["A − B (points)"] = (formats.points(found), found.mean)
        shown["told apart"] = {"not told apart": "no"}.get(_verdict(found), _verdict(found))
        for side in comparison.SIDES:
            found = interval_of(row, side)
            shown[f"{side} (%)"] = (formats.percent_interval(found), found.mean)
        if len(hows) > 1:
            shown["made"] = row["how"]
        shown["same bits"] = row["identical"]
        if not all(map(_whole, parameters)):
            shown["same parameters"] = row["parameters"]
        shown["time A / B"] = _ratio(row, "time_ratio")
        if happened:
            told = {side: row[f"{side}_status"] for side in comparison.SIDES}
            shown["what happened"] = "; ".join(
                f"{side}: {text}" for side, text in told.items() if text != "completed"
            )
        rows.append(shown)
    caption = (
        "Final test accuracy of the cells that both have, mean over seeds ± half the 95 % interval (Student's t). "
        "Their difference is paired over the seeds that both have, or Welch's where fewer than two are common"
        f"{'; here ' + hows.pop() if len(hows) == 1 else ''}. "
        "“Same bits” counts the runs of a common seed whose epochs.csv and steps.csv are equal byte for byte; their "
        f"resolved parameters are {'all the same' if all(map(_whole, parameters)) else 'counted likewise'}. "
        "Times: geometric means of training seconds."
    )
    if constant:
        same = ", ".join(f"{axis.replace('_', ' ')} {value}" for axis, value in constant.items())
        caption += f" Everywhere: {same}."
    return shown_table(rows, caption, f"{name}-cells", "Cells of both", identity=len(axes))


def _range_table(frame: pd.DataFrame, name: str) -> dict[str, Any]:
    rows = []
    for _, row in frame.iterrows():
        for key, word in ENDS.items():
            shown: dict[str, Any] = {"range test": row["range_test"], "learning rate": word}
            for side in comparison.SIDES:
                value = row[f"{side}_{key}"]
                value = None if pd.isna(value) else value
                status = (
                    "" if row[f"{side}_status"] == "ok" else f" ({row[f'{side}_status'].replace('_', ' ')})"
                )
                shown[side] = (formats.learning_rate(value) + status, value)
            shown["A / B"] = _ratio(row, f"{key}_ratio")
            shown["made"] = row[f"{key}_how"]
            rows.append(shown)
    caption = "LR ranges of both, and their ratio with its 95 % interval over the logarithms of the seeds' own answers."
    return shown_table(rows, caption, f"{name}-ranges", "LR ranges of both", identity=2)


def _origin_table(frame: pd.DataFrame, name: str) -> dict[str, Any]:
    rows = [
        {"what": row["what"], "A": row["A"], "B": row["B"], "same": "yes" if row["same"] else "no"}
        for _, row in frame.iterrows()
    ]
    caption = (
        "What computed the records of both sides: more than one value means that a side is mixed itself."
    )
    return shown_table(rows, caption, f"{name}-provenance", "Provenance")


def _answer(frame: pd.DataFrame) -> str:
    """What the cells say, in one sentence."""
    if frame.empty:
        return "no cell in common"
    verdicts = [_verdict(interval_of(row, "difference")) for _, row in frame.iterrows()]
    counts = [f"{verdicts.count(word)} {word}" for word in dict.fromkeys(verdicts)]
    same = [text.split("/") for text in frame["identical"] if text]
    equal, of = (sum(int(pair[side]) for pair in same) for side in (0, 1))
    bits = f"; {equal} of {of} runs of a common seed have the same bits"
    return f"{len(frame)} cells in common: {', '.join(counts)}" + (
        bits if same else "; no run of a common seed"
    )


def context(
    studies: Mapping[str, tuple[Collection, Collection]],
    names: Sequence[str],
    alone: Sequence[tuple[str, str]] = (),
) -> dict[str, Any]:
    """Everything the templates show.

    Args:
        studies: the two sides of every study that both have.
        names: what A and B are called.
        alone: (side, study) of each study that one side alone has.
    """
    entries = []
    for name, pair in studies.items():
        frames = [function(*pair) for function in (comparison.cells, comparison.ranges, comparison.origins)]
        key = re.sub(r"[^A-Za-z0-9_-]", "-", name)
        makers = (_cell_table, _range_table, _origin_table)
        entries.append(
            {
                "key": key,
                "name": name,
                "title": pair[0].study["title"],
                "trial": any(side.study["trial"] for side in pair),
                "answer": _answer(frames[0]),
                "tables": [m(f, key) for m, f in zip(makers, frames, strict=True) if not f.empty],
                "only": comparison.only(*pair),
            }
        )
    return {"studies": entries, "names": list(names), "alone": list(alone), "version": __version__}


def pages(context: Mapping[str, Any], text: str, name: str, templates: Path) -> dict[str, str]:
    """The Markdown (``md``) and HTML (``html``) page.

    Args:
        text: of the CSV file, which both lead to.
        name: of the files, without their ending.
    """
    both = {**context, "text": text, "file": f"{name}.csv", "csv": {}}
    parts = {
        "style": Markup((templates / "style.css").read_text()),
        "script": Markup((templates / "table.js").read_text()),
    }
    markdown = report.environment(templates, html=False).get_template("comparison.md.j2").render(both)
    html = report.environment(templates, html=True).get_template("comparison.html.j2").render(both, **parts)
    return {"md": re.sub(r"\n{3,}", "\n\n", markdown), "html": html}
