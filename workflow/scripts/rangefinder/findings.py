"""What our runs say to each claim of a write-up: a verdict, the numbers, and the runs they rest on."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from . import claim_metrics, claims, finder_rules
from .cells import Cell
from .claim_metrics import kind, tolerance
from .errors import InputError
from .published import DIRECTORY
from .statistics import Interval, mean_interval, paired_difference

HOLDS, FAILS, UNDECIDED, NOT_RUN = "holds", "does not hold", "undecided", "not run"
# What an LR range test finds itself, beside what the rules of other finders answer on its sweeps.
ANSWERS = ("lr_min", "suggested_lr", "lr_max")


@dataclass(frozen=True)
class Finding:
    """One comparison of a claim, answered.

    Attributes:
        claim: the claim it belongs to (`claims.read`).
        test: the comparison.
        a, b: names of what is compared; b is "" where there is nothing but a span of values.
        ours, theirs: of a and of b, over seeds.
        difference: a less b, paired by seed (a / b for a ratio); without a mean where there is no b.
        verdict: holds, does not hold, undecided (the interval leaves both open), or not run.
        note: what there is to know of it.
        runs: ids of the runs (or the name of the range test) that it rests on.
    """

    claim: Mapping[str, Any]
    test: Mapping[str, Any]
    a: str
    b: str
    ours: Interval
    theirs: Interval
    difference: Interval
    verdict: str
    note: str
    runs: tuple[str, ...]


NOTHING = Interval(0, None, None, None)


def findings(
    study: Mapping[str, Any],
    cells: Sequence[Cell],
    ranges: Sequence[Mapping[str, Any]],
    *,
    directory: Path | str = DIRECTORY,
    partial: bool = False,
) -> list[Finding]:
    """Every claim about the study, each of its tests answered, in the order of the claims' file.

    A trial answers none: its shrunk runs are not those of the claims.

    Args:
        study: content of study.json.
        cells: of the study (`cells.group`), whether run or not.
        ranges: its LR ranges.
        directory: where the claims are.
        partial: whether `ranges` may lack some that the study plans; what is said of them is then not run.

    Raises:
        InputError: the claims cannot be used, or name cells or range tests that the study does not have.
    """
    if not study["published"]:
        return []
    if study["trial"]:
        cells, ranges = [Cell(c.form, c.axes, c.sweeps, c.expected, c.ids) for c in cells], []
    file, found = claims.path(directory), []
    for claim in claims.read(study["name"], directory=directory):
        for test in claim["tests"]:
            if test["relation"] == "range_within":
                known = ranges
                if partial:
                    known = [entry for entry in ranges if entry["range_test"] == test["range_test"]]
                found.append(_of_range(claim, test, known, file))
                continue
            chosen, other = _selected(test, cells, file)
            if test["relation"] == "best_within":
                found.append(_of_best(claim, test, chosen, cells))
            else:
                found.append(_deciding([_of_cells(claim, test, cell, other, cells) for cell in chosen]))
    return found


def check(
    study: Mapping[str, Any],
    cells: Sequence[Cell],
    range_tests: Iterable[str],
    *,
    directory: Path | str = DIRECTORY,
) -> None:
    """Whether every claim about the study names cells, range tests and answers that it will have.

    Args:
        study: content of study.json.
        cells: of the study, none of them run yet.
        range_tests: names of those that it plans.

    Raises:
        InputError: one does not, or the claims cannot be used.
    """
    file = claims.path(directory)
    answers = (*ANSWERS, *finder_rules.RULES)
    for claim in claims.read(study["name"], directory=directory):
        for test in claim["tests"]:
            if test["relation"] == "range_within":
                _named(test, dict.fromkeys(range_tests, answers), file)
            else:
                _selected(test, cells, file)


def _selected(test: Mapping[str, Any], cells: Sequence[Cell], file: Path) -> tuple[list[Cell], Cell | None]:
    """The cells that a test is about, and the one that it holds them against."""
    chosen = claims.select(cells, test["form"], test["a"], file, f"{test['key']}.a")
    if "b" not in test:
        return chosen, None
    return chosen, claims.select_one(cells, test["form"], test["b"], file, f"{test['key']}.b")


def _named(test: Mapping[str, Any], answers: Mapping[str, Iterable[str]], file: Path) -> None:
    """Whether a test names a range test, and an answer of it, by `answers`: those of each range test."""
    if test["range_test"] not in answers:
        key = f"{test['key']}.range_test"
        raise InputError("no such range test", file=file, key=key, value=test["range_test"], allowed=answers)
    allowed = answers[test["range_test"]]
    if test["answer"] not in allowed:
        key = f"{test['key']}.answer"
        raise InputError("no such answer", file=file, key=key, value=test["answer"], allowed=allowed)


# --- verdicts ------------------------------------------------------------------------------------------


def decide(value: Interval, low: float | None, high: float | None, widen: float = 0.0) -> str:
    """Whether a value lies within a span: undecided where its interval, at least ±`widen`, reaches across an end."""
    if value.mean is None:
        return NOT_RUN
    below, above = (
        (value.mean - widen, value.mean + widen)
        if value.low is None
        else (min(value.low, value.mean - widen), max(value.high, value.mean + widen))
    )
    low, high = -math.inf if low is None else low, math.inf if high is None else high
    if low <= below and above <= high:
        return HOLDS
    return FAILS if above < low or below > high else UNDECIDED


def _deciding(found: Sequence[Finding]) -> Finding:
    """Of the findings for several cells the one that decides: a claim about all fails with the first that fails."""
    order = (FAILS, NOT_RUN, UNDECIDED, HOLDS)
    first = min(found, key=lambda finding: order.index(finding.verdict))
    if len(found) == 1:
        return first
    counts = {verdict: sum(finding.verdict == verdict for finding in found) for verdict in order}
    told = ", ".join(f"{verdict} for {count}" for verdict, count in counts.items() if count)
    runs = dict.fromkeys(run for finding in found for run in finding.runs)
    note = "; ".join(filter(None, (f"the deciding one of {len(found)} cells ({told})", first.note)))
    return replace(first, note=note, runs=tuple(runs))


def _of_cells(
    claim: Mapping[str, Any], test: Mapping[str, Any], cell: Cell, other: Cell | None, cells: Sequence[Cell]
) -> Finding:
    compared = [cell] if other is None else [cell, other]
    values = claim_metrics.values(cells, cell, test["metric"])
    others = {} if other is None else claim_metrics.values(cells, other, test["metric"])
    low, high, difference = test["low"], test["high"], NOTHING
    if other is not None:
        difference = paired_difference(values, others)
        if test["relation"] == "ratio":
            seeds = sorted(set(values) & set(others))
            difference = mean_interval([values[seed] / others[seed] for seed in seeds])
        elif test["relation"] == "higher":
            low = test["by"]
        else:
            high = -test["by"]
    decided = mean_interval(list(values.values())) if other is None else difference
    verdict, note = decide(decided, low, high, tolerance(test, cells, compared)), _note(compared)
    if any(cell.diverged() for cell in compared):
        # With a run still to come the other cell may do no better.
        missing = any(cell.missing() for cell in compared)
        verdict = NOT_RUN if missing else _lost(test, cell) if other is None else _diverged(test, cell, other)
    return Finding(
        claim,
        test,
        name(cell),
        "" if other is None else name(other),
        mean_interval(list(values.values())),
        mean_interval(list(others.values())),
        difference,
        verdict,
        note,
        _ids(compared),
    )


def _lost(test: Mapping[str, Any], cell: Cell) -> str:
    """The verdict on a span of values where runs diverged: a cell that lost every run ends behind every value.

    Only of what a run ends with: the best of its epochs, from before it diverged, may have been anywhere.
    """
    metric = test.get("metric", "")
    if set(cell.diverged()) != set(cell.expected) or metric not in ("final_test_accuracy", "final_test_loss"):
        return UNDECIDED
    # An accuracy below every bound, a loss above every one.
    return HOLDS if test["low" if kind(test) == "accuracy" else "high"] is None else FAILS


def _diverged(test: Mapping[str, Any], cell: Cell, other: Cell) -> str:
    """The verdict where runs diverged: a cell that diverged in every run is behind one that completed every run."""
    whole = [set(c.completed()) == set(c.expected) for c in (cell, other)]
    lost = [set(c.diverged()) == set(c.expected) for c in (cell, other)]
    if test["relation"] not in ("higher", "lower") or sorted(zip(whole, lost, strict=True)) != [
        (False, True),
        (True, False),
    ]:
        return UNDECIDED
    # More is better of accuracies, less of losses; other metrics have no better end.
    if {"higher": "accuracy", "lower": "loss"}[test["relation"]] != kind(test):
        return UNDECIDED
    return FAILS if lost[0] else HOLDS


def _of_best(
    claim: Mapping[str, Any], test: Mapping[str, Any], chosen: Sequence[Cell], cells: Sequence[Cell]
) -> Finding:
    low, high = (
        -math.inf if test["low"] is None else test["low"],
        math.inf if test["high"] is None else test["high"],
    )
    sign = -1 if kind(test) == "loss" else 1
    groups: dict[bool, list[Cell]] = {True: [], False: []}
    for cell in chosen:
        rate = cell.learning_rate()
        if rate is not None and claim_metrics.values(cells, cell, test["metric"]):
            groups[low <= rate <= high].append(cell)
    tops = {
        inside: max(
            members,
            key=lambda c: (
                sign * mean_interval(list(claim_metrics.values(cells, c, test["metric"]).values())).mean
            ),
        )
        for inside, members in groups.items()
        if members
    }
    missing = sum(bool(cell.missing()) for cell in chosen)
    note = f"{missing} of {len(chosen)} cells are not complete" if missing else ""
    if len(tops) < 2:
        tried = "within" if False not in tops else "outside"
        reason = f"no run with a learning rate {'outside' if tried == 'within' else 'within'} that span"
        verdict = NOT_RUN if missing or not tops else UNDECIDED
        return Finding(
            claim, test, "", "", NOTHING, NOTHING, NOTHING, verdict, note or reason, _ids(tops.values())
        )
    inside, outside = (claim_metrics.values(cells, tops[key], test["metric"]) for key in (True, False))
    difference = paired_difference(inside, outside)
    least = tolerance(test, cells, list(tops.values()))
    verdict = decide(difference, *((0.0, None) if sign > 0 else (None, 0.0)), least)
    return Finding(
        claim,
        test,
        name(tops[True]),
        name(tops[False]),
        mean_interval(list(inside.values())),
        mean_interval(list(outside.values())),
        difference,
        NOT_RUN if missing else verdict,
        note,
        _ids(tops.values()),
    )


def _of_range(
    claim: Mapping[str, Any], test: Mapping[str, Any], ranges: Sequence[Mapping[str, Any]], file: Path
) -> Finding:
    blank = Finding(claim, test, range_name(test), "", NOTHING, NOTHING, NOTHING, NOT_RUN, "", ())
    if not ranges:
        return blank
    known = {entry["range_test"]: {key: entry[key] for key in ANSWERS} | entry["rules"] for entry in ranges}
    _named(test, known, file)
    answer, rests = known[test["range_test"]][test["answer"]], (f"lr_range/{test['range_test']}",)
    entry = next(entry for entry in ranges if entry["range_test"] == test["range_test"])
    if not answer or answer["value"] is None:
        return replace(blank, verdict=UNDECIDED, note=f"no answer: {entry['status']}", runs=rests)
    ours = Interval(len(entry["seeds"]), answer["value"], answer["low"], answer["high"])
    return replace(blank, ours=ours, verdict=decide(ours, test["low"], test["high"]), runs=rests)


# --- what is written -----------------------------------------------------------------------------------


def name(cell: Cell) -> str:
    """A cell in words: optimizer, schedule, batch size, LR as written."""
    axes = cell.axes
    return f"{axes['optimizer']} {axes['schedule']}, batch {axes['batch_size']}, LR {axes['lr']}"


def range_name(test: Mapping[str, Any]) -> str:
    """An LR range test's answer in words."""
    return f"{test['answer']} of range test {test['range_test']}"


def _ids(cells: Sequence[Cell]) -> tuple[str, ...]:
    return tuple(cell.ids[seed] for cell in cells for seed in cell.expected if seed in cell.runs)


def _note(cells: Sequence[Cell]) -> str:
    parts = [
        f"{name(cell)}: {cell.status()}"
        for cell in cells
        if cell.diverged() or (cell.runs and cell.missing())
    ]
    return "; ".join(parts)
