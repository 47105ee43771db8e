"""The report of a study, Markdown and HTML, rendered from records alone: no clock, no host, no path."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup
from tabulate import tabulate

from . import formats, tables
from .cells import FORMS, Cell
from .statistics import Interval, mean_interval

STATUS_WORDS = {
    "ok": "found",
    "no_descent": "the loss never fell: no learning rate can be suggested",
    "right_censored": "the loss still fell at the end of the sweep: raise end_lr",
    "left_censored": "the best is at the start of the sweep: lower start_lr",
    "diverged": "the loss was not finite from the start",
    "too_few_points": "too few steps to tell: raise steps_per_decade",
}
LABELS = {
    "form": "form",
    "optimizer": "optimizer",
    "schedule": "schedule",
    "batch_size": "batch",
    "lr": "LR as written",
    "learning_rate": "learning rate",
}


# --- what the tables show ------------------------------------------------------------------------------


def shown_table(rows: Sequence[Mapping[str, Any]], caption: str, name: str) -> dict[str, Any]:
    """A table for the templates: each cell is its text, a sort key and an optional link.

    Args:
        rows: mappings from heading to text, number, or (text, sort key[, link]).
    """
    headings = list(rows[0]) if rows else []
    body = []
    for row in rows:
        line = []
        for heading in headings:
            value = row[heading]
            text, key, link = (*value, None)[:3] if isinstance(value, tuple) else (value, value, None)
            number = isinstance(key, int | float) and not isinstance(key, bool)
            line.append(
                {
                    "text": formats.MISSING if text is None or text == "" else str(text),
                    "key": "" if key is None else key,
                    "number": number,
                    "link": link,
                }
            )
        body.append(line)
    return {"headings": headings, "rows": body, "caption": caption, "name": name}


def _cell_columns(row: pd.Series, axes: Sequence[str]) -> dict[str, Any]:
    return {LABELS.get(axis, axis): _plain(row[axis]) for axis in axes}


def _plain(value: Any) -> Any:
    if value is None or value is pd.NA or (isinstance(value, float) and value != value):
        return None
    return value.item() if hasattr(value, "item") else value


def _interval(row: pd.Series, name: str) -> Interval:
    mean, low, high = (_plain(row[key]) for key in (name, f"{name}_low", f"{name}_high"))
    return Interval(0 if mean is None else 1 if low is None else 2, mean, low, high)


def _axes_of(frame: pd.DataFrame, first: str) -> list[str]:
    axes = list(frame.columns[: list(frame.columns).index(first)])
    return [axis for axis in axes if axis != "form" or frame["form"].astype(bool).any()]


def accuracy_table(frame: pd.DataFrame, cells: Sequence[Cell]) -> dict[str, Any]:
    """The accuracy table with links to the records of each cell's first run."""
    axes, rows = _axes_of(frame, "learning_rate"), []
    for (_, row), cell in zip(frame.iterrows(), cells, strict=True):
        first = next(iter(cell.runs), None)
        link = f"runs/{cell.ids[first]}/run.json" if first is not None else None
        shown = _cell_columns(row, axes)
        rate = _plain(row["learning_rate"])
        shown["learning rate"] = (formats.learning_rate(rate), rate)
        shown["seeds"] = (f"{row['completed']}/{row['runs']}", int(row["completed"]), link)
        for metric, heading in (
            ("final_test_accuracy", "final test accuracy (%)"),
            ("test_accuracy_at_best_validation", "test accuracy at best validation (%)"),
            ("best_test_accuracy", "best on test (%)"),
        ):
            interval = _interval(row, metric)
            shown[heading] = (formats.percent_interval(interval), interval.mean)
        interval = _interval(row, "final_test_loss")
        shown["final test loss"] = (formats.loss(interval.mean), interval.mean)
        shown["status"] = row["status"]
        rows.append(shown)
    caption = (
        "Accuracy on the test set: mean over seeds ± half the 95 % interval (Student's t). "
        + "; ".join(f"“{name.replace('_', ' ')}” is measured {text}" for name, text in tables.METRICS.items())
        + ". Diverged runs are counted, never averaged in."
    )
    return shown_table(rows, caption, "accuracy")


def time_table(frame: pd.DataFrame) -> dict[str, Any]:
    """The time table."""
    axes, rows = _axes_of(frame, "completed"), []
    for _, row in frame.iterrows():
        shown = _cell_columns(row, axes)
        for column, heading in (
            ("to_train_s", "time to train (s)"),
            ("to_best_s", "time to best (s)"),
            ("to_baseline_s", "time to baseline (s)"),
            ("per_epoch_s", "per epoch (s)"),
            ("images_per_s", "images/s"),
        ):
            value = _plain(row[column])
            shown[heading] = value if isinstance(value, str) else (formats.seconds(value), value)
        shown["device"] = row["device"]
        rows.append(shown)
    caption = (
        "Seconds of training alone, mean over completed runs: no evaluation, data preparation, start-up or waiting. "
        "“Best” is the best epoch on the validation split; “baseline” is the best mean final test accuracy at the "
        "smallest batch size, less one percentage point."
    )
    return shown_table(rows, caption, "time")


def difference_table(frame: pd.DataFrame) -> dict[str, Any] | None:
    """Each schedule against the best of its group."""
    if frame.empty:
        return None
    axes, rows = _axes_of(frame, "best_schedule"), []
    for _, row in frame.iterrows():
        interval = _interval(row, "difference")
        shown = _cell_columns(row, axes) | {"best": row["best_schedule"], "compared": row["schedule"]}
        shown["difference (points)"] = (formats.points(interval), interval.mean)
        rows.append(shown | {"pairs": int(row["pairs"]), "real": row["real"]})
    caption = (
        "Final test accuracy of each schedule less that of the best one at the same setting, paired by seed, "
        "± half the 95 % interval. “Real” says whether the interval leaves out zero; the best of several is chosen "
        "after the fact, which favours it."
    )
    return shown_table(rows, caption, "differences")


def range_table(ranges: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The LR ranges."""
    rows = []
    for entry in ranges:
        row: dict[str, Any] = {
            "range test": (
                entry["range_test"],
                entry["range_test"],
                f"lr_range/{entry['range_test']}/range.json",
            )
        }
        row |= {"optimizer": entry["optimizer"], "batch": entry["batch_size"], "seeds": len(entry["seeds"])}
        for name in ("lr_min", "suggested_lr", "lr_max"):
            value = entry[name]
            row[name] = (formats.range_value(value), value["value"] if value else None)
        row["steps per decade"] = (f"{entry['steps_per_decade']:.0f}", entry["steps_per_decade"])
        rows.append(row | {"status": entry["status"]})
    caption = (
        "The usable LR range: geometric mean over seeds, ×/÷ the factor of the 95 % interval (t in log10)."
    )
    return shown_table(rows, caption, "lr_ranges") if rows else None


def finder_table(frame: pd.DataFrame) -> dict[str, Any] | None:
    """The answers of the well-known finders."""
    if frame.empty:
        return None
    rows = []
    for _, row in frame.iterrows():
        value = _plain(row["value"])
        rows.append(
            {
                "range test": row["range_test"],
                "rule": row["rule"],
                "learning rate": (formats.learning_rate(value) if value is not None else "no answer", value),
                "note": row["note"],
            }
        )
    return shown_table(rows, "What other finders' published rules answer on the same sweeps.", "finders")


def published_table(comparisons: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Each published number beside ours, with verdict and footnote."""
    rows = []
    for entry in comparisons:
        accuracy = entry["metric"].endswith("accuracy")
        write = formats.percent if accuracy else formats.loss
        ours, difference = entry["ours"], entry["difference"]
        row: dict[str, Any] = {
            LABELS.get(axis, axis): entry[axis] for axis in ("optimizer", "schedule", "batch_size", "lr")
        }
        row |= {
            "metric": entry["metric"].replace("_", " ") + (" (%)" if accuracy else ""),
            "revision": entry["revision"],
        }
        row["published"] = (write(entry["published"]), entry["published"])
        text = formats.percent_interval(ours) if accuracy else formats.loss(ours.mean)
        row["ours"] = (text, ours.mean)
        shown = formats.points(Interval(1, difference, None, None)) if accuracy else formats.loss(difference)
        row["difference"] = (shown, difference)
        rows.append(row | {"verdict": entry["verdict"], "note": entry["footnote"]})
    caption = (
        "Published numbers beside ours. “Reproduced”: the published value lies in the 95 % interval over our seeds, or "
        "within 0.2 points; one seed has no interval. Differences of accuracies are in percentage points."
    )
    return shown_table(rows, caption, "published") if rows else None


def run_table(frame: pd.DataFrame) -> dict[str, Any]:
    """Every planned run with its record."""
    rows = []
    for _, row in frame.iterrows():
        step = _plain(row["diverged_at_step"])
        link = None if row["status"] == "missing" else f"runs/{row['run']}/run.json"
        shown: dict[str, Any] = {"run": (row["run"], row["run"], link)}
        shown["status"] = row["status"] if step is None else f"diverged at step {step}"
        for column, heading in (
            ("final_test_accuracy", "final test (%)"),
            ("test_accuracy_at_best_validation", "test at best validation (%)"),
            ("best_test_accuracy", "best on test (%)"),
        ):
            value = _plain(row[column])
            shown[heading] = (formats.percent(value), value)
        rows.append(shown)
    return shown_table(rows, "Every run that the study plans, with its record.", "runs")


# --- the summary ---------------------------------------------------------------------------------------


def summary(
    ranges: Sequence[Mapping[str, Any]], cells: Sequence[Cell], frames: Mapping[str, pd.DataFrame]
) -> list[dict[str, str]]:
    """What a user came for, in sentences: the LR range, the best schedule, the largest batch."""
    sentences = []
    for entry in ranges:
        seeds = f"{len(entry['seeds'])} seed{'s' if len(entry['seeds']) > 1 else ''}"
        if entry["suggested_lr"]:
            low, high = (
                formats.learning_rate(entry[key]["value"]) if entry[key] else "?"
                for key in ("lr_min", "lr_max")
            )
            text = f"suggested LR {formats.range_value(entry['suggested_lr'])}, usable from {low} to {high} ({seeds}"
            text += ")" if entry["status"] == "ok" else f"; {STATUS_WORDS[entry['status']]})"
        else:
            text = f"{STATUS_WORDS[entry['status']]} ({seeds})"
        sentences.append({"topic": f"LR range, {entry['range_test']}", "text": text})
    for form in FORMS:
        for optimizer in dict.fromkeys(cell.axes["optimizer"] for cell in cells if cell.form == form):
            members = [
                c
                for c in cells
                if c.form == form and c.axes["optimizer"] == optimizer and c.values("final_test_accuracy")
            ]
            if len({cell.axes["schedule"] for cell in members}) < 2:
                continue
            best = max(
                members,
                key=lambda cell: mean_interval(list(cell.values("final_test_accuracy").values())).mean,
            )
            score = mean_interval(list(best.values("final_test_accuracy").values()))
            rate = formats.learning_rate(best.learning_rate())
            text = f"{best.axes['schedule']} at batch {best.axes['batch_size']}, LR {rate}: "
            text += f"{formats.percent_interval(score)} % final test accuracy"
            rivals = _rivals(frames["differences"], best)
            if rivals is not None:
                text += (
                    "; no other schedule there is told apart from it"
                    if not rivals
                    else f"; really better there than {', '.join(rivals)}"
                )
            topic = f"Best schedule, {optimizer}" + (f" ({form})" if form else "")
            sentences.append({"topic": topic, "text": text})
    for _, row in frames["largest_batch"].iterrows():
        topic = f"Largest batch, {row['optimizer']} with {row['schedule']}" + (
            f" ({row['form']})" if row["form"] else ""
        )
        text = (
            f"{row['largest_batch']} of {row['of']} holds the accuracy of batch {row['baseline_batch']} "
            f"({formats.percent(row['baseline'])} %) within one point"
        )
        sentences.append({"topic": topic, "text": text})
    return sentences


def _rivals(frame: pd.DataFrame, best: Cell) -> list[str] | None:
    """Schedules that the best one really beats at its own setting; None where nothing was compared."""
    if frame.empty:
        return None
    rows = frame[(frame["best_schedule"] == best.axes["schedule"]) & (frame["form"] == (best.form or ""))]
    for axis, value in best.axes.items():
        if axis != "schedule" and axis in rows.columns:
            rows = rows[rows[axis] == value]
    if rows.empty or (rows["real"] == "one pair").all():
        return None
    return list(rows[rows["real"] == "yes"]["schedule"])


# --- rendering -----------------------------------------------------------------------------------------


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
    return re.sub(r"([\\`*_{}\[\]<>|#~])", r"\\\1", flat)


def _markdown_table(table: Mapping[str, Any]) -> str:
    rows = [
        [
            f"[{markdown_text(cell['text'])}]({cell['link']})"
            if cell["link"]
            else markdown_text(cell["text"])
            for cell in row
        ]
        for row in table["rows"]
    ]
    aligns = [
        (
            "right"
            if row_cells and all(cell["number"] or cell["text"] == formats.MISSING for cell in row_cells)
            else "left"
        )
        for row_cells in zip(*table["rows"], strict=True)
    ]
    return tabulate(
        rows, headers=table["headings"], tablefmt="pipe", colalign=aligns or None, disable_numparse=True
    )


def _environment(templates: Path, *, html: bool) -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(templates),
        undefined=jinja2.StrictUndefined,
        autoescape=html,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["md"] = markdown_text
    environment.filters["md_table"] = _markdown_table
    return environment


def render_markdown(context: Mapping[str, Any], templates: Path) -> str:
    """report.md from the context of `context`."""
    text = _environment(templates, html=False).get_template("report.md.j2").render(context)
    return re.sub(r"\n{3,}", "\n\n", text)


def render_html(context: Mapping[str, Any], figures: Mapping[str, str], templates: Path) -> str:
    """report.html: one file that holds its style, script and figures.

    Args:
        figures: SVG text by file name; ids are made unique, so that figures cannot draw with each other's glyphs.
    """
    inline = {name: Markup(_unique_ids(text, Path(name).stem)) for name, text in figures.items()}
    environment = _environment(templates, html=True)
    parts = {
        "style": Markup((templates / "style.css").read_text()),
        "script": Markup((templates / "table.js").read_text()),
    }
    return environment.get_template("report.html.j2").render(context, svg=inline, **parts)


def _unique_ids(svg: str, stem: str) -> str:
    prefix = re.sub(r"[^A-Za-z0-9]", "-", stem)
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{prefix}-\1"', svg)
    svg = re.sub(r'(xlink:href|href)="#([^"]+)"', rf'\1="#{prefix}-\2"', svg)
    svg = re.sub(r"url\(#([^)]+)\)", rf"url(#{prefix}-\1)", svg)
    return re.sub(r"<svg ", '<svg aria-hidden="true" focusable="false" ', svg, count=1)


def context(
    study: Mapping[str, Any],
    cells: Sequence[Cell],
    runs: Sequence[Mapping[str, Any]],
    ranges: Sequence[Mapping[str, Any]],
    figures: Sequence[Mapping[str, str]],
    comparisons: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """Everything the templates show.

    Args:
        study: content of study.json.
        cells, runs, ranges: its records.
        comparisons: published numbers against ours (`published.compare`).
        figures: ``{"file", "title", "caption", "section"}`` of each figure that was drawn.
    """
    frames = {
        "accuracy": tables.accuracy(cells),
        "time": tables.time(cells),
        "differences": tables.differences(cells),
        "largest_batch": tables.largest_batch(cells),
        "finders": tables.finders(ranges),
        "runs": tables.runs(study, runs),
    }
    finished = {run["run"]["run"] for run in runs}
    missing = [entry["run"] for entry in study["runs"] if entry["run"] not in finished]
    diverged = [run["run"] for run in runs if run["run"]["status"] == "diverged"]
    return {
        "study": study,
        "summary": summary(ranges, cells, frames),
        "range_table": range_table(ranges),
        "finder_table": finder_table(frames["finders"]),
        "accuracy_table": accuracy_table(frames["accuracy"], cells),
        "time_table": time_table(frames["time"]),
        "difference_table": difference_table(frames["differences"]),
        "run_table": run_table(frames["runs"]),
        "published_table": published_table(comparisons),
        "figures": list(figures),
        "missing": missing,
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
        "provenance": provenance(runs, ranges),
        "sections": SECTIONS,
    }


SECTIONS = (
    ("range", "Learning-rate range"),
    ("schedules", "Schedules"),
    ("curves", "Training curves"),
    ("batch", "Batch size"),
    ("replay", "Over the published curves"),
)
