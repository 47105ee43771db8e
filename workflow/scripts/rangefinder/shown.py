"""A table as both pages show it: each cell its text, a sort key, and links to the records behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from . import formats
from .statistics import Interval

# What a word of a status or verdict means at a glance; the word itself is always written too.
KINDS = {
    "good": ("reproduced", "better", "best", "within one point", "yes"),
    "bad": ("diverged", "did not train", "worse", "failed"),
    "warn": ("missing", "undecided", "not reached"),
}
# Sorts after every time.
NEVER = 1e300
JUDGED = ("status", "verdict", "real", "sure")


def plain(value: Any) -> Any:
    """A value of a data frame as Python has it; None for what is missing."""
    if value is None or value is pd.NA or (isinstance(value, float) and value != value):
        return None
    return value.item() if hasattr(value, "item") else value


def interval_of(row: pd.Series, name: str) -> Interval:
    """A mean of a data frame's row with the ends of its interval."""
    mean, low, high = (plain(row[key]) for key in (name, f"{name}_low", f"{name}_high"))
    return Interval(0 if mean is None else 1 if low is None else 2, mean, low, high)


def shown_table(
    rows: Sequence[Mapping[str, Any]],
    caption: str,
    name: str,
    title: str | None = None,
    *,
    identity: int = 1,
    notes: Sequence[str] = (),
) -> dict[str, Any]:
    """A table for the templates: each cell is its text, a sort key and optional links.

    Args:
        rows: mappings from heading to text, number, or (text, sort key[, link]); a link is an address, or a list of
            (text, address, description) that follow the cell's text.
        name: of the CSV file with the same rows.
        title: by default the name.
        identity: how many columns from the left say which row it is.
        notes: remarks listed under the table.
    """
    headings = list(rows[0]) if rows else []
    body = []
    for row in rows:
        line = []
        for column, heading in enumerate(headings):
            value = row[heading]
            text, key, link = (*value, None)[:3] if isinstance(value, tuple) else (value, value, None)
            several = isinstance(link, list)
            line.append(
                {
                    "text": formats.MISSING if text is None or text == "" else str(text),
                    "key": "" if key is None else key,
                    "number": isinstance(key, int | float) and not isinstance(key, bool),
                    "link": None if several else link,
                    "records": link if several else [],
                    "identity": column < identity,
                    "kind": _kind(str(text)) if heading in JUDGED else "",
                }
            )
        body.append(line)
    numeric = [
        bool(column) and all(cell["number"] or cell["text"] == formats.MISSING for cell in column)
        for column in zip(*body, strict=True)
    ]
    return {
        "headings": headings,
        "numeric": numeric,
        "rows": body,
        "caption": caption,
        "name": name,
        "title": title or name.replace("_", " ").capitalize(),
        "notes": list(notes),
    }


def _kind(text: str) -> str:
    return next((kind for kind, words in KINDS.items() if any(word in text for word in words)), "")
