"""Readable identifiers: a run's id, which names its folder, and the key of a prepared data set."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from .runs import digest

# A run's name is that of files and folders, with up to 40 characters of ours around it; theirs may have 255.
MOST_NAME = 200
PREFIXES = {"as-published": "published", "put-right": "right"}
# The axes that every cell has; the others are part of an id where a sweep varies them.
AXES = ("optimizer", "schedule", "batch_size", "lr")


def cell(prefix: str | None, axes: Mapping[str, Any], varied: Collection[str]) -> str:
    """What begins the ids of a cell's runs; the seed follows.

    Args:
        axes: the cell's settings as the study writes them.
        varied: the axes that tell the cells of its sweep apart.
    """
    parts = [prefix] if prefix else []
    parts += [axes["optimizer"], axes["schedule"], f"bs{axes['batch_size']}"]
    if "lr" in varied:
        parts.append(f"lr{_slug(axes['lr'])}")
    parts += [
        f"{_slug(axis)}{_slug(value)}" for axis, value in axes.items() if axis in varied and axis not in AXES
    ]
    return "-".join(parts)


def dataset_key(prepared: Mapping[str, Any]) -> str:
    """The key of a prepared data set: its name, its size where it is resized, and a digest where there is more to it.

    Args:
        prepared: what the prepared files depend on.
    """
    name = prepared["name"]
    readable = re.sub(
        r"[^A-Za-z0-9]+",
        "-",
        Path(prepared.get("path") or name).stem if "." in name or "path" in prepared else name,
    )
    key = readable.strip("-") or "data"
    if prepared.get("resize"):
        key += f"-{prepared['resize']}x{prepared['resize']}"
    if set(prepared) - {"name", "resize"}:
        key += f"-{digest(prepared)[:8]}"
    return key


def _slug(value: Any) -> str:
    """A value as part of a run's id."""
    if isinstance(value, float):
        value = f"{value:g}"
    text = json.dumps(value) if isinstance(value, dict | list) else str(value)
    text = (
        text.replace("*", "x")
        .replace("×", "x")
        .replace("/", "_over_")
        .replace("÷", "_over_")
        .replace(" ", "")
    )
    return re.sub(r"[^A-Za-z0-9._]+", "_", text).strip("_")
