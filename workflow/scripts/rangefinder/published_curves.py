"""Published loss curves: read, matched to cells, laid over our runs step by step."""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from . import validation
from .errors import InputError
from .published import AXES, DIRECTORY, is_planned, planned, unknown_cell, written

# The unit in which a curve's x counts, and the column that our records have for it.
QUANTITIES = {"train_loss": ("step", "steps", "loss"), "test_loss": ("epoch", "epochs", "test_loss")}
ENTRY_KEYS = (*AXES, "quantity", "file", "source", "revision")


@dataclass(frozen=True)
class Curve:
    """One published curve.

    Attributes:
        axes: optimizer, schedule, batch_size and lr of its cell.
        quantity: ``train_loss`` of each step's batch (x: step from 0) or ``test_loss`` of each epoch (x: epoch from 1).
        x: int64 [points].
        y: float64 [points], nats.
        source, revision: where it was published.
    """

    axes: dict[str, Any]
    quantity: str
    x: np.ndarray
    y: np.ndarray
    source: str
    revision: str

    def of(self, run: Mapping[str, Any]) -> np.ndarray:
        """The same quantity of a run (`records.read_run`) at the curve's points; NaN where the run has none."""
        unit, table, column = QUANTITIES[self.quantity]
        values = dict(zip(run[table][unit].astype(np.int64), run[table][column], strict=True))
        return np.array([values.get(point, np.nan) for point in self.x], dtype=np.float64)


def read(
    name: str, study: Mapping[str, Any] | None = None, *, directory: Path | str = DIRECTORY
) -> list[Curve]:
    """The curves published beside the numbers of this name; none where there is no ``curves/<name>.yaml``.

    Args:
        name: the file's stem.
        study: content of study.json; every curve must then be of one of its cells in the form as-published.
        directory: where ``curves`` is.

    Raises:
        InputError: the list or a file of it cannot be used, or it names an unknown cell.
    """
    index = Path(directory) / "curves" / f"{name}.yaml"
    if not index.is_file():
        return []
    entries = validation.read_yaml(index)
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise InputError("is not a list of curves", file=index)
    known = None if study is None else planned(study)
    curves = []
    for position, entry in enumerate(entries):
        for key in (*entry, *ENTRY_KEYS):
            if key not in ENTRY_KEYS or key not in entry:
                message = "unknown key" if key not in ENTRY_KEYS else "the key is missing"
                raise InputError(message, file=index, key=f"[{position}]", value=key, allowed=ENTRY_KEYS)
        for key in ("quantity", "file", "source", "revision"):
            if not isinstance(entry[key], str):
                place = f"[{position}].{key}"
                raise InputError("not usable", file=index, key=place, value=entry[key], allowed="text")
        if entry["quantity"] not in QUANTITIES:
            key = f"[{position}].quantity"
            raise InputError(
                "unknown quantity", file=index, key=key, value=entry["quantity"], allowed=QUANTITIES
            )
        for axis in AXES:
            if not isinstance(entry[axis], str | int | float) or isinstance(entry[axis], bool):
                place = f"[{position}].{axis}"
                raise InputError(
                    "not usable", file=index, key=place, value=entry[axis], allowed="text or a number"
                )
        if known is not None and not is_planned(entry, known):
            raise unknown_cell(study, known, written(entry), index, f"[{position}]")
        x, y = _points(index.parent / entry["file"], QUANTITIES[entry["quantity"]][0], entry["quantity"])
        axes = {axis: entry[axis] for axis in AXES}
        curves.append(Curve(axes, entry["quantity"], x, y, entry["source"], entry["revision"]))
    return curves


def _points(path: Path, unit: str, quantity: str) -> tuple[np.ndarray, np.ndarray]:
    try:
        data = path.read_bytes()
        text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode()
        rows = list(csv.DictReader(io.StringIO(text), strict=True))
        x = np.array([int(row[unit]) for row in rows], dtype=np.int64)
        y = np.array([float(row[quantity]) for row in rows], dtype=np.float64)
    except (
        OSError,
        EOFError,
        zlib.error,
        LookupError,
        ArithmeticError,
        ValueError,
        TypeError,
        csv.Error,
    ) as error:
        raise InputError(
            f"is not a curve: {error}", file=path, allowed=f"columns {unit} and {quantity} of numbers"
        ) from error
    if len(x) == 0 or (np.diff(x) <= 0).any():
        raise InputError("has no points, or not in order", file=path, key=unit)
    return x, y


def differences(published: np.ndarray, ours: np.ndarray, steps_per_epoch: int) -> pd.DataFrame:
    """How far two loss curves are apart in each epoch.

    Args:
        published, ours: float [steps], nats, step for step.
        steps_per_epoch: of both.

    Returns:
        One row per epoch: ``epoch`` from 1, ``largest`` and ``mean`` absolute difference (NaN where ours is missing
        at any of its steps), ``at_step`` of the largest (None likewise).
    """
    if len(published) != len(ours):
        raise ValueError(f"{len(published)} published steps and {len(ours)} of ours")
    rows = []
    for first in range(0, len(published), steps_per_epoch):
        apart = np.abs(ours[first : first + steps_per_epoch] - published[first : first + steps_per_epoch])
        largest = float(apart.max())
        rows.append(
            {
                "epoch": first // steps_per_epoch + 1,
                "largest": largest,
                "mean": float(apart.mean()),
                "at_step": None if np.isnan(largest) else first + int(apart.argmax()),
            }
        )
    return pd.DataFrame(rows)


def parts_at(published: np.ndarray, ours: np.ndarray, tolerance: float) -> int | None:
    """The first step at which two curves are more than `tolerance` apart (or ours is missing); None if never."""
    apart = ~(np.abs(ours - published) <= tolerance)
    return int(apart.argmax()) if apart.any() else None
