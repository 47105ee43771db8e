"""Print how far the runs of a study are from its published training losses, epoch by epoch, as Markdown.

Of the runs as published whose losses were not published it prints what they did instead.

PYTHONPATH=workflow/scripts python -m rangefinder.replay results/sgd-schedules [--published config/published]
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path

from . import formats, published, published_curves, records
from .errors import InputError

TOLERANCES = (1e-4, 5e-4, 1e-3)


def tables(folder: Path, directory: Path = published.DIRECTORY) -> str:
    """One table for each run as published that has a record; first those with a published curve of training losses.

    Args:
        folder: results of the study.
        directory: of the published numbers that the study names, beside the folder of its study files.

    Raises:
        InputError: a record or a curve cannot be used, or no run as published has a record.
    """
    study = records.read_json(folder / "study.json", "study")
    if not study["published"]:
        raise InputError("names no published numbers to be laid over", file=folder / "study.json")
    published.file(study["published"], directory)
    found = published_curves.read(study["published"], study, directory=directory)
    curves = [curve for curve in found if curve.quantity == "train_loss"]
    compared, alone = [], []
    for entry in study["runs"]:
        place = folder / "runs" / entry["run"]
        if entry["form"] != published.FORM or not (place / "run.json").is_file():
            continue
        run, axes = records.read_run(place), dict(entry["axes"])
        curve = next((c for c in curves if all(axes[axis] == value for axis, value in c.axes.items())), None)
        if curve is None:
            alone.append(_own(entry["run"], run))
        else:
            compared.append(_table(entry["run"], curve, run))
    if not compared and not alone:
        raise InputError("no run as published has a record yet", file=folder)
    return "\n".join([*compared, *alone])


def _table(name: str, curve: published_curves.Curve, run: dict) -> str:
    ours = curve.of(run)
    lines = [f"### {name}", "", f"{curve.source}, {len(curve.x):,} steps.", ""]
    for tolerance in TOLERANCES:
        step = published_curves.parts_at(curve.y, ours, tolerance)
        lines.append(f"- within {tolerance:g} up to " + ("the end" if step is None else f"step {step:,}"))
    lines += ["", "| epoch | LR | largest difference | mean difference |", "| --: | --: | --: | --: |"]
    apart = published_curves.differences(curve.y, ours, run["run"]["steps_per_epoch"])
    lrs = dict(zip(run["epochs"]["epoch"], run["epochs"]["lr"], strict=True))  # a run that diverged has fewer
    for row in apart.itertuples():
        lr = f"{lrs[row.epoch]:.3g}" if row.epoch in lrs else formats.MISSING
        lines.append(f"| {row.epoch} | {lr} | {_or_missing(row.largest)} | {_or_missing(row.mean)} |")
    return "\n".join([*lines, ""])


def _or_missing(apart: float) -> str:
    return formats.MISSING if math.isnan(apart) else f"{apart:.2g}"


def _own(name: str, run: dict) -> str:
    """What a run without published losses did."""
    epochs, steps = run["epochs"], len(run["steps"]["step"])
    columns = ("lr", "train_loss", "test_loss")
    lines = [f"### {name}", "", f"No losses were published; ours over {steps:,} steps.", ""]
    lines += [
        "| epoch | LR | training loss | test loss | test accuracy (%) |",
        "| --: | --: | --: | --: | --: |",
    ]
    for place, epoch in enumerate(epochs["epoch"]):
        lr, train, test = (f"{epochs[column][place]:.3g}" for column in columns)
        lines.append(
            f"| {epoch:.0f} | {lr} | {train} | {test} | {100 * epochs['test_accuracy'][place]:.2f} |"
        )
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="results of the study, results/sgd-schedules")
    parser.add_argument(
        "--published",
        type=Path,
        default=published.DIRECTORY,
        metavar="FOLDER",
        help="of the published numbers and curves (default: config/published of this checkout)",
    )
    arguments = parser.parse_args()
    try:
        print(tables(arguments.folder, arguments.published))
    except (InputError, OSError) as error:
        sys.exit(str(error))
