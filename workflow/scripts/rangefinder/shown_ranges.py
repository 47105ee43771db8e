"""The tables of LR ranges as the report shows them: the ranges, other finders' answers, and what short runs confirm."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from . import formats, verdicts
from .finder_rules import RULES
from .shown import interval_of, plain, shown_table

OURS = "rangefinder"


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
        "From lr_min, where half of the descent is still to come, to lr_max, where the sweep turns unstable: a bound "
        "for the peak of a one-cycle schedule, not an LR to train at. Geometric mean over seeds, ×/÷ the factor of the "
        "95 % interval (t in log10)."
    )
    return shown_table(rows, caption, "lr_ranges", "LR ranges") if rows else None


def finder_table(frame: pd.DataFrame) -> dict[str, Any] | None:
    """The answers of the well-known finders, a column per range test; what is known of them as notes."""
    if frame.empty:
        return None
    tests = list(dict.fromkeys(frame["range_test"]))
    values = {(row["range_test"], row["rule"]): plain(row["value"]) for _, row in frame.iterrows()}
    rows = []
    for rule in dict.fromkeys(frame["rule"]):
        row: dict[str, Any] = {"rule": RULES[rule].title if rule in RULES else rule}
        for test in tests:
            value, ours = values.get((test, rule)), values.get((test, OURS))
            text = formats.learning_rate(value) if value is not None else "no answer"
            if value is not None and ours and rule != OURS:
                text += f" ({formats.ratio(value / ours)} × ours)"
            row[f"LR, {test}"] = (text, value, f"lr_range/{test}/range.json")
        rows.append(row)
    caption = "What other finders' published rules answer on the same sweeps."
    remarks: dict[str, list[str]] = {}
    for rule, note in dict.fromkeys(zip(frame["rule"], frame["note"], strict=True)):
        for sentence in re.findall(r".+?\.(?=\s|$)", note):
            title = RULES[rule].title if rule in RULES else rule
            remarks.setdefault(sentence.strip(), []).append(title)
    notes = [f"{', '.join(titles)}: {sentence}" for sentence, titles in remarks.items()]
    return shown_table(rows, caption, "finders", "Answers of other finders", notes=notes)


def confirmation_table(confirmations: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Every rule's answer with what short runs at it came to."""
    frame, rows = verdicts.table(confirmations), []
    if frame.empty:
        return None
    for _, row in frame.iterrows():
        accuracy, difference = interval_of(row, "accuracy"), interval_of(row, "difference")
        test, value = row["range_test"], plain(row["learning_rate"])
        links = [
            (
                str(seed),
                f"lr_range/{test}/confirmation/seed{seed}/confirmation.json",
                f"record of {test}, seed {seed}",
            )
            for seed in (entry["seed"] for entry in confirmations if entry["range_test"] == test)
        ]
        rows.append(
            {
                "range test": test,
                "rule": verdicts.TITLES.get(row["rule"], row["rule"]),
                "learning rate": (formats.learning_rate(value), value),
                "seeds": (f"{row['trained']}/{row['seeds']}", int(row["trained"]), links),
                "accuracy (%)": (formats.percent_interval(accuracy), accuracy.mean),
                "measured on": row["split"],
                "less the best (points)": (formats.points(difference), difference.mean),
                "verdict": row["verdict"],
            }
        )
    steps = sorted({entry["parameters"]["steps"] for entry in confirmations})
    caption = (
        f"Short runs ({' or '.join(map(str, steps))} steps, constant learning rate) at every rule's answer; those of "
        "one seed start alike and see the same batches. Mean ± half the 95 % interval over seeds; the difference to "
        "the best learning rate is paired by seed. “Within one point” and “worse” are said where the whole interval "
        "lies on that side of one percentage point below the best (with one seed, the difference itself). The best of "
        "several is chosen after the fact, which favours it. A run that diverged, or did not train (its loss ended no "
        "lower than it began), is counted, never averaged in."
    )
    return shown_table(rows, caption, "confirmation", "Answers confirmed by short runs", identity=2)
