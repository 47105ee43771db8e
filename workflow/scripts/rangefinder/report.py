"""The report of a study, Markdown and HTML, rendered from records alone: no clock, no host, no path."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup
from tabulate import tabulate

from . import drawing, formats, shown_findings, shown_ranges, shown_tables, tables, verdicts
from .cells import Cell
from .findings import Finding
from .summary import summary

SECTIONS = (
    ("range", "Learning-rate range"),
    ("schedules", "Schedules"),
    ("curves", "Training curves"),
    ("batch", "Batch size"),
    ("replay", "Over the published curves"),
)


def provenance(runs: Sequence[Mapping[str, Any]], ranges: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Where the numbers come from; more than one engine digest is a warning."""
    records = [run["run"]["provenance"] for run in runs] + [entry["provenance"] for entry in ranges]
    environments = [run["machine"]["environment"] for run in runs]
    return {
        "engine": sorted({record["engine_digest"][:12] for record in records}),
        "data": sorted({record["data_digest"][:12] for record in records}),
        "version": sorted({record["version"] for record in records}),
        "devices": sorted({run["machine"]["device"] for run in runs}),
        "software": sorted({f"Python {entry['python']}, torch {entry['torch']}" for entry in environments}),
        "resumed": sum(run["machine"]["resumed"] for run in runs),
    }


def markdown_text(text: Any) -> str:
    """User text made harmless in Markdown: no markup, no table cells, one line."""
    flat = " ".join(str(text).split())
    return re.sub(r"([\\`*_{}\[\]<>|#~&$])", r"\\\1", flat)


def _markdown_cell(cell: Mapping[str, Any]) -> str:
    """Links to other rows of a page are left out: Markdown has no rows to lead to."""
    text = markdown_text(cell["text"])
    if cell["link"] and not cell["link"].startswith("#"):
        text = f"[{text}]({cell['link']})"
    return " ".join([text, *(f"[{markdown_text(name)}]({address})" for name, address, _ in cell["records"])])


def _markdown_table(table: Mapping[str, Any]) -> str:
    rows = [[_markdown_cell(cell) for cell in row] for row in table["rows"]]
    aligns = ["right" if numeric else "left" for numeric in table["numeric"]]
    return tabulate(
        rows, headers=table["headings"], tablefmt="pipe", colalign=aligns or None, disable_numparse=True
    )


def environment(templates: Path, *, html: bool) -> jinja2.Environment:
    """Where templates are rendered: undefined names are errors, HTML is escaped."""
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(templates),
        undefined=jinja2.StrictUndefined,
        autoescape=html,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["md"] = markdown_text
    made.filters["md_table"] = _markdown_table
    made.filters["base64"] = lambda text: base64.b64encode(text.encode()).decode()
    return made


def render_markdown(context: Mapping[str, Any], templates: Path) -> str:
    """report.md from the context of `context`."""
    text = environment(templates, html=False).get_template("report.md.j2").render(context)
    return re.sub(r"\n{3,}", "\n\n", text)


def render_html(context: Mapping[str, Any], figures: Mapping[str, str], templates: Path) -> str:
    """report.html: one file that holds its style, script and figures.

    Args:
        figures: SVG text by file name; ids are made unique, so that figures cannot draw with each other's glyphs.
    """
    inline = {name: Markup(_inline(text, Path(name).stem)) for name, text in figures.items()}
    rendered = environment(templates, html=True)
    parts = {
        "style": Markup((templates / "style.css").read_text()),
        "script": Markup((templates / "table.js").read_text()),
    }
    return rendered.get_template("report.html.j2").render(context, svg=inline, **parts)


def _inline(svg: str, stem: str) -> str:
    prefix = re.sub(r"[^A-Za-z0-9]", "-", stem)
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{prefix}-\1"', svg)
    svg = re.sub(r'(xlink:href|href)="#([^"]+)"', rf'\1="#{prefix}-\2"', svg)
    svg = re.sub(r"url\(#([^)]+)\)", rf"url(#{prefix}-\1)", svg)
    svg = svg.replace(drawing.THEME, "", 1)  # the page has its own
    for index, colour in enumerate(drawing.COLOURS):
        svg = re.sub(rf"(?i){colour}\b", f"var(--series-{index})", svg)
    # The style sheet scales all figures alike, so that their words are of one size.
    width = re.search(r'<svg [^>]*?\bwidth="([\d.]+)pt"', svg)
    size = f' style="--points: {round(float(width[1]))}"' if width else ""
    # The element around it is the image that a screen reader tells.
    return re.sub(r"<svg ", f'<svg aria-hidden="true" focusable="false"{size} ', svg, count=1)


def context(
    study: Mapping[str, Any],
    cells: Sequence[Cell],
    runs: Sequence[Mapping[str, Any]],
    ranges: Sequence[Mapping[str, Any]],
    figures: Sequence[Mapping[str, str]],
    comparisons: Sequence[Mapping[str, Any]] = (),
    confirmations: Sequence[Mapping[str, Any]] = (),
    frames: Mapping[str, pd.DataFrame] | None = None,
    findings: Sequence[Finding] = (),
    unfinished: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Everything the templates show.

    Args:
        study: content of study.json.
        cells, runs, ranges: its records.
        comparisons: published numbers against ours (`published.compare`).
        confirmations: content of every confirmation.json.
        frames: every table by name, which the page offers for download (`collection.Collection.frames`); those that
            follow from the other arguments are made where none are given.
        findings: the write-up's claims, answered.
        unfinished: why runs that were begun have no record (`unfinished.reasons`).
        figures: ``{"file", "title", "caption", "section"}`` of each figure that was drawn.
    """
    frames = frames or {
        "accuracy": tables.accuracy(cells),
        "time": tables.time(cells),
        "differences": tables.differences(cells),
        "largest_batch": tables.largest_batch(cells),
        "finders": tables.finders(ranges),
        "runs": tables.runs(study, runs),
    }
    finished = {run["run"]["run"] for run in runs}
    missing = [entry["run"] for entry in study["runs"] if entry["run"] not in finished]
    reasons = {run: f" ({reason})" for run, reason in (unfinished or {}).items()}
    diverged = [run["run"] for run in runs if run["run"]["status"] == "diverged"]
    return {
        "study": study,
        "summary": summary(
            ranges,
            cells,
            frames,
            verdicts.sentences(confirmations, study["confirmations"]),
            {
                run["run"]["lr"]["range_test"]: run["run"]["parameters"]["stand_in_lr"]
                for run in runs
                if "stand_in_lr" in run["run"]["parameters"]
            },
        ),
        "range_table": shown_ranges.range_table(ranges),
        "finder_table": shown_ranges.finder_table(frames["finders"]),
        "confirmation_table": shown_ranges.confirmation_table(confirmations),
        "accuracy_table": shown_tables.accuracy_table(frames["accuracy"], cells),
        "time_table": shown_tables.time_table(frames["time"], cells),
        "difference_table": shown_tables.difference_table(
            frames["differences"], shown_tables.row_anchors(frames["accuracy"])
        ),
        "batch_table": shown_tables.largest_batch_table(frames["largest_batch"]),
        "run_table": shown_tables.run_table(frames["runs"]),
        "published_table": shown_tables.published_table(comparisons, cells),
        "findings": shown_findings.shown(findings),
        "figures": list(figures),
        "missing": [run + reasons.get(run, "") for run in missing],
        "diverged": [
            {
                "run": run["run"],
                **run["divergence"],
                "loss": formats.loss(run["divergence"]["last_finite_loss"]),
            }
            for run in diverged
        ],
        "planned": len(study["runs"]),
        "finished": len(runs),
        "provenance": provenance(runs, [*ranges, *confirmations]),
        "sections": SECTIONS,
        "csv": {name: tables.csv(frame) for name, frame in frames.items()},
    }
