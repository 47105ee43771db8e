"""One page over all studies of a results folder, read from the tables beside their reports."""

from __future__ import annotations

import csv
import itertools
import re
from collections import Counter
from pathlib import Path
from typing import Any

from markupsafe import Markup

from . import __version__, formats, records, report
from .panels import words
from .shown import shown_table

CAPTION = (
    "Every study that has a report here. The best is the highest mean of the final test accuracy among cells without a "
    "diverged or missing run; whether it differs from the next is in the report."
)


def rows(results: Path | str) -> list[dict[str, Any]]:
    """One row for each study with a report, by name.

    Args:
        results: folder of results.

    Raises:
        InputError: a study's record or one of its tables is missing or damaged.
    """
    folders = sorted(
        path.parent for path in Path(results).glob("*/report.html") if (path.parent / "study.json").is_file()
    )
    return [_row(folder) for folder in folders]


def _row(folder: Path) -> dict[str, Any]:
    study = records.read_json(folder / "study.json", "study")
    tables = records.read_derived(folder / "tables")
    ends = Counter(row["status"] for row in _rows(tables["runs.csv"]))
    ranges = [
        f"{row['range_test']} {formats.learning_rate(float(row['suggested_lr']))}" if row["suggested_lr"] else
        f"{row['range_test']} {row['status'].replace('_', ' ')}"
        for row in _rows(tables["lr_ranges.csv"])
    ]  # fmt: skip
    title = study["title"] + (" (trial)" if study["trial"] else "")
    return {
        "study": (title, title, f"{folder.name}/report.html"),
        "best": _best(_rows(tables["accuracy.csv"])),
        "suggested LR": ", ".join(ranges),
        "runs done": (f"{ends['completed'] + ends['diverged']} of {len(study['runs'])}", ends["completed"]),
        "diverged": ends["diverged"],
        "folder": folder.name,
    }


def _best(cells: list[dict[str, str]]) -> tuple[str, float]:
    """The cell of the highest mean with its interval; nothing where no cell is complete."""
    whole = [row for row in cells if row["completed"] == row["runs"] and row["final_test_accuracy"]]
    if not whole:
        return ("", -1.0)
    best = max(whole, key=lambda row: float(row["final_test_accuracy"]))
    mean = float(best["final_test_accuracy"])
    half = float(best["final_test_accuracy_high"]) - mean if best["final_test_accuracy_high"] else None
    axes = itertools.takewhile(lambda name: name != "learning_rate", best)  # those that vary in the study
    parts = [words(axis, best[axis]) for axis in axes if axis != "form"] + [best["form"]]
    value = f"{formats.percent(mean)} %" if half is None else f"{100 * mean:.2f} ± {100 * half:.2f} %"
    return (f"{' · '.join(filter(None, parts))}: {value}", mean)


def _rows(table: str) -> list[dict[str, str]]:
    return list(csv.DictReader(table.splitlines(), strict=True))


def pages(results: Path | str, templates: Path) -> dict[str, str]:
    """The Markdown (``md``) and HTML (``html``) page over a folder of results."""
    table = shown_table(rows(results), CAPTION, "studies", "Studies")
    both = {"table": table, "csv": {}, "version": __version__}
    parts = {
        "style": Markup((templates / "style.css").read_text()),
        "script": Markup((templates / "table.js").read_text()),
    }
    markdown = report.environment(templates, html=False).get_template("index.md.j2").render(both)
    html = report.environment(templates, html=True).get_template("index.html.j2").render(both, **parts)
    return {"md": re.sub(r"\n{3,}", "\n\n", markdown), "html": html}


def write(results: Path | str, templates: Path) -> None:
    """Write index.html and index.md into a folder of results that has reports."""
    for kind, text in pages(results, templates).items():
        records.write_text(Path(results) / f"index.{kind}", text)
