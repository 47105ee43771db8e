"""What a user came for, in sentences: the LR range, the best schedule, the largest batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from . import formats
from .cells import FORMS, Cell
from .statistics import mean_interval

STATUS_WORDS = {
    "ok": "found",
    "no_descent": "the loss never fell: no learning rate can be suggested",
    "right_censored": "the loss still fell at the end of the sweep: raise end_lr",
    "left_censored": "the best is at the start of the sweep: lower start_lr",
    "diverged": "the loss was not finite from the start",
    "too_few_points": "too few steps to tell: raise steps_per_decade",
}


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
