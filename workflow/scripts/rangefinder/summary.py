"""What a user came for, in sentences, and how sure it is: the LR range, the best schedule, the largest batch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from . import formats
from .cells import Cell
from .statistics import is_real, mean_interval, paired_difference

METRIC = "final_test_accuracy"
STATUS_WORDS = {
    "no_descent": "the loss never fell: no learning rate can be suggested",
    "right_censored": "the loss still fell at the end of the sweep: raise end_lr",
    "left_censored": "the best is at the start of the sweep: lower start_lr",
    "diverged": "the loss exploded, or was not finite, before it fell: lower start_lr, or raise steps_per_decade",
    "too_few_points": "too few steps to tell: raise steps_per_decade",
}
MOST_NAMED = 3  # schedules that tie are named in the headline up to this many
MOST_ANSWERS = 6  # to one question; more batch sizes are told in one sentence


def summary(
    ranges: Sequence[Mapping[str, Any]],
    cells: Sequence[Cell],
    frames: Mapping[str, pd.DataFrame],
    confirmed: Sequence[Mapping[str, Any]] = (),
    stand_ins: Mapping[str, float] | None = None,
) -> list[dict[str, Any]]:
    """The answers by question; a question that the study does not ask is left out.

    Args:
        confirmed: answers of `verdicts.sentences`.
        stand_ins: LR that a trial's runs took in place of one that a range test did not find, by range test.

    Returns:
        Mappings with ``question``, ``section`` (of the page, which shows more) and ``answers``: each has ``topic``,
        ``headline``, ``text``, ``link`` (to the record, or to the row of a table, with "#"), and ``sure``, which is
        ("good" or "warn", words). An answer may have ``topic`` and ``text`` alone.
    """
    questions = [
        ("Which learning rate?", "range", [_range_answer(entry, stand_ins or {}) for entry in ranges]),
        ("Which rule was right?", "range", list(confirmed)),
        ("Which schedule?", "results", _schedule_answers(cells)),
        ("How large a batch?", "batch", _batch_answers(frames["largest_batch"])),
    ]
    return [
        {"question": question, "section": section, "answers": answers}
        for question, section, answers in questions
        if answers
    ]


def _quoted(names: Sequence[str]) -> str:
    """Names as names: a schedule may be called `none`."""
    return ", ".join(f"“{name}”" for name in names)


def _counted(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


def _range_answer(entry: Mapping[str, Any], stand_ins: Mapping[str, float]) -> dict[str, Any]:
    seeds = _counted(len(entry["seeds"]), "seed")
    suggested, sound = entry["suggested_lr"], entry["status"] == "ok"
    answer = {
        "topic": f"{entry['range_test']} ({entry['optimizer']}, batch {entry['batch_size']})",
        "link": f"lr_range/{entry['range_test']}/range.json",
    }
    if not suggested:
        text = f"{STATUS_WORDS[entry['status']]} ({seeds})"
        if entry["range_test"] in stand_ins:
            taken = formats.learning_rate(stand_ins[entry["range_test"]])
            text += f"; runs of this trial took {taken}, the middle of the sweep, in its place"
        answer |= {"headline": "no answer", "text": text}
        return answer | {"sure": ("warn", entry["status"].replace("_", " "))}
    ends = [
        formats.range_value(entry[end]) if entry[end] else "an unknown LR" for end in ("lr_min", "lr_max")
    ]
    text = f"the loss falls from {ends[0]} (lr_min) on; at {ends[1]} (lr_max) the sweep turns unstable: "
    text += "a bound for a one-cycle peak, not an LR to train at"
    if suggested["low"] is not None:
        low, high = (formats.learning_rate(suggested[side]) for side in ("low", "high"))
        text += f"; 95 % interval of the suggestion {low} to {high} over {seeds}"
    else:
        text += "; one seed, so no interval"
    if not sound:
        text += f"; {STATUS_WORDS[entry['status']]}"
    if not sound:
        sure = ("warn", entry["status"].replace("_", " "))
    elif suggested["low"] is None:
        sure = ("warn", "one seed")
    else:
        inside = (
            entry["lr_min"]["value"] <= suggested["low"] and suggested["high"] <= entry["lr_max"]["value"]
        )
        # An interval that leaves the range says that the seeds disagree on where it is.
        sure = ("good", "found") if inside else ("warn", "uncertain")
    return answer | {"headline": formats.range_value(suggested), "text": text, "sure": sure}


def _mean(cell: Cell) -> float:
    return mean_interval(list(cell.values(METRIC).values())).mean


def _schedule_answers(cells: Sequence[Cell]) -> list[dict[str, Any]]:
    """Schedules compared at the same form, optimizer, batch size and other settings, each at its best LR.

    Of more than `MOST_ANSWERS` answers those that differ in the batch size alone become one, the best batch's.
    """
    groups: dict[str, list[Cell]] = {}
    for cell in cells:
        others = {axis: value for axis, value in cell.axes.items() if axis not in ("schedule", "lr")}
        groups.setdefault(json.dumps([cell.form, others], sort_keys=True), []).append(cell)
    answers: dict[str, list[tuple[Cell, dict[str, Any]]]] = {}
    for members in groups.values():
        tried = {cell.axes["schedule"] for cell in members}
        whole = [cell for cell in members if cell.values(METRIC) and not cell.diverged()]
        best_of: dict[str, Cell] = {}
        for cell in sorted(whole, key=_mean, reverse=True):
            best_of.setdefault(cell.axes["schedule"], cell)
        if len(tried) > 1 and len(best_of) > 1:
            several = len({json.dumps(cell.axes.get("lr")) for cell in members}) > 1
            left = [
                name for name in dict.fromkeys(c.axes["schedule"] for c in members) if name not in best_of
            ]
            ranked = list(best_of.values())
            row = next(number for number, cell in enumerate(cells, start=1) if cell is ranked[0])
            answer = _schedule_answer(ranked, left, several) | {"link": f"#accuracy-{row}"}
            others = {
                axis: value
                for axis, value in ranked[0].axes.items()
                if axis not in ("schedule", "lr", "batch_size")
            }
            key = json.dumps([ranked[0].form, others], sort_keys=True)
            answers.setdefault(key, []).append((ranked[0], answer))
    if sum(map(len, answers.values())) > MOST_ANSWERS:
        return [_over_batches(found) for found in answers.values()]
    return [answer for found in answers.values() for _, answer in found]


def _over_batches(found: Sequence[tuple[Cell, dict[str, Any]]]) -> dict[str, Any]:
    """One answer for several batch sizes: that of the best batch, and which schedule is highest at the others.

    Args:
        found: best cell and answer of each batch size.
    """
    best, answer = max(found, key=lambda entry: _mean(entry[0]))
    others = [cell for cell, _ in found if cell is not best]
    if not others:
        return answer
    highest: dict[str, list[str]] = {}
    for cell in sorted(others, key=lambda cell: cell.axes["batch_size"]):
        highest.setdefault(cell.axes["schedule"], []).append(str(cell.axes["batch_size"]))
    told = ", ".join(f"“{name}” (batch {', '.join(sizes)})" for name, sizes in highest.items())
    real = sum(entry["sure"][1] == "real" for cell, entry in found if cell is not best)
    text = f"{answer['text']}; highest at the other batch sizes: {told}, really so at {real} of {len(others)}"
    return answer | {"text": text, "topic": answer["topic"].replace("batch ", "best at batch ", 1)}


def _schedule_answer(ranked: Sequence[Cell], left: Sequence[str], several: bool) -> dict[str, Any]:
    """The answer from each schedule's best cell, highest first.

    Args:
        left: schedules of which no setting is without a diverged run.
        several: whether schedules were tried at several LRs.
    """
    best, rivals = ranked[0], ranked[1:]
    name = best.axes["schedule"]
    differences = {
        cell.axes["schedule"]: paired_difference(best.values(METRIC), cell.values(METRIC)) for cell in rivals
    }
    verdicts = {schedule: is_real(difference) for schedule, difference in differences.items()}
    beaten = [schedule for schedule, real in verdicts.items() if real]
    tied = [schedule for schedule, real in verdicts.items() if not real]
    score = mean_interval(list(best.values(METRIC).values()))
    text = f"highest is “{name}” with {formats.percent_interval(score)} % final test accuracy "
    text += f"({_counted(score.n, 'seed')}, LR {formats.learning_rate(best.learning_rate())}"
    text += ", the best of several for each schedule)" if several else ")"
    second = rivals[0].axes["schedule"]
    text += f"; {formats.points(differences[second])} points over “{second}”, the next"
    if beaten:
        text += f"; really better than {_quoted(beaten)}"
    if tied:
        text += f"; not told apart from {_quoted(tied)}"
    if all(real is None for real in verdicts.values()):
        text += "; one pair of seeds has no interval"
    if left:
        text += f"; left out, since a run diverged or is missing: {_quoted(left)}"
    if not tied:
        headline, sure = name, ("good", "real")
    elif len(tied) < MOST_NAMED:
        headline, sure = " or ".join([name, *tied]), ("warn", "not told apart")
    else:
        headline, sure = "no clear winner", ("warn", "not told apart")
    topic = f"{best.axes['optimizer']}, batch {best.axes['batch_size']}" + (
        f", {best.form}" if best.form else ""
    )
    return {"topic": topic, "headline": headline, "text": text, "sure": sure}


def _batch_answers(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Per form and optimizer: the schedule with which the largest batch holds the smallest one's accuracy."""
    if frame.empty:
        return []
    answers = []
    for (form, optimizer), rows in frame.groupby(["form", "optimizer"], sort=False):
        row = rows.sort_values("largest_batch", ascending=False, kind="stable").iloc[0]
        topic = f"{optimizer}, {row['schedule']}" + (f", {form}" if form else "")
        text = (
            f"of {row['baseline_batch']} to {row['of']} tried, the largest that holds the accuracy of batch "
        )
        text += f"{row['baseline_batch']} ({formats.percent(row['baseline'])} %) within one point"
        answer = {
            "topic": topic,
            "headline": str(row["largest_batch"]),
            "text": text,
            "sure": ("warn", "none larger"),
        }
        if row["sure"]:
            half = None if row["sure"] == "one pair" else row["difference_high"] - row["difference"]
            points = formats.signed_points(row["difference"], half)
            answer["text"] += f"; it differs by {points} points"
            words = {
                "yes": "sure",
                "no": "uncertain",
                "one pair": "one pair of seeds",
            }
            answer["sure"] = ("good" if row["sure"] == "yes" else "warn", words[row["sure"]])
        answers.append(answer | {"link": f"#largest_batch-{row.name + 1}"})
    return answers
