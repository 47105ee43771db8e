"""Print how far the runs of a study are from its published training losses, epoch by epoch, as Markdown.

PYTHONPATH=workflow/scripts python -m rangefinder.replay results/sgd-schedules
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from . import published, published_curves, records
from .errors import InputError

TOLERANCES = (1e-4, 5e-4, 1e-3)


def tables(folder: Path) -> str:
    """One table per published curve of training losses that the folder has a run of."""
    study = records.read_json(folder / "study.json", "study")
    parts = []
    for curve in published_curves.read(study["published"]):
        if curve.quantity != "train_loss":
            continue
        for run in study["runs"]:
            name, axes = run["run"], dict(run["axes"])
            same = all(axes[axis] == value for axis, value in curve.axes.items())
            if run["form"] == published.FORM and same:
                parts.append(_table(name, curve, records.read_run(folder / "runs" / name)))
    return "\n".join(parts)


def _table(name: str, curve: published_curves.Curve, run: dict) -> str:
    ours = curve.of(run)
    lines = [f"### {name}", "", f"{curve.source}, {len(curve.x):,} steps.", ""]
    for tolerance in TOLERANCES:
        step = published_curves.parts_at(curve.y, ours, tolerance)
        lines.append(f"- within {tolerance:g} up to " + ("the end" if step is None else f"step {step:,}"))
    lines += ["", "| epoch | LR | largest difference | mean difference |", "| --: | --: | --: | --: |"]
    apart = published_curves.differences(curve.y, ours, run["run"]["steps_per_epoch"])
    for row, lr in zip(apart.itertuples(), run["epochs"]["lr"], strict=True):
        lines.append(f"| {row.epoch} | {lr:.3g} | {row.largest:.2g} | {row.mean:.2g} |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="results of the study, results/sgd-schedules")
    try:
        print(tables(parser.parse_args().folder))
    except (InputError, OSError) as error:
        sys.exit(str(error))
