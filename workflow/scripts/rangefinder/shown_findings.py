"""Findings as a table of data, and in words for the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from . import formats
from .claim_metrics import kind
from .findings import Finding
from .statistics import Interval

METRICS = {
    "final_test_accuracy": "final test accuracy",
    "test_accuracy_at_best_validation": "test accuracy at best validation",
    "best_test_accuracy": "best accuracy on test",
    "closest_to_baseline": "test accuracy closest to the base line",
    "final_test_loss": "final test loss",
    "lowest_test_loss": "lowest test loss",
    "test_loss_change": "final test loss less that of the first epoch",
    "lr_at_lowest_test_loss": "LR of the epoch with the lowest test loss",
    "lr_growth_per_epoch": "factor between the LRs of two epochs",
    "seconds_per_epoch": "seconds of training per epoch",
}


def table(found: Sequence[Finding]) -> pd.DataFrame:
    """One row per comparison: claim, what is compared, ours with intervals, verdict, and the runs it rests on."""
    rows = []
    for finding in found:
        row: dict[str, Any] = {
            "claim": finding.claim["id"],
            "form": finding.test["form"] or "",
            "comparison": comparison(finding),
            "metric": finding.test.get("metric", "learning rate"),
            "a": finding.a,
            "b": finding.b,
        }
        for key, interval in (("a", finding.ours), ("b", finding.theirs), ("difference", finding.difference)):
            mean = key if key == "difference" else f"{key}_mean"
            row |= {mean: interval.mean, f"{key}_low": interval.low, f"{key}_high": interval.high}
        row |= {"seeds": max(finding.ours.n, finding.difference.n), "verdict": finding.verdict}
        row |= {"note": finding.note, "runs": " ".join(finding.runs)}
        rows.append(row | {"text": finding.claim["claim"], "source": finding.claim["source"]})
    numbers = [f"{key}_{end}" for key in "ab" for end in ("mean", "low", "high")]
    columns = ["claim", "form", "comparison", "metric", "a", "b", *numbers]
    columns += ["difference", "difference_low", "difference_high"]
    return pd.DataFrame(rows, columns=[*columns, "seeds", "verdict", "note", "runs", "text", "source"])


def shown(found: Sequence[Finding]) -> list[dict[str, Any]]:
    """Claims for the templates: text, source and answers, each with its numbers written out and links to its runs."""
    claims: dict[str, dict[str, Any]] = {}
    for finding in found:
        entry = claims.setdefault(
            finding.claim["id"],
            {"claim": finding.claim["claim"], "source": finding.claim["source"], "answers": []},
        )
        entry["answers"].append(
            {
                "form": finding.test["form"] or "",
                "comparison": comparison(finding),
                "numbers": numbers(finding),
                "verdict": finding.verdict,
                "note": finding.note,
                "runs": [{"name": run, "link": _link(run)} for run in finding.runs],
            }
        )
    return list(claims.values())


def _link(run: str) -> str:
    return f"{run}/range.json" if run.startswith("lr_range/") else f"runs/{run}/run.json"


def comparison(finding: Finding) -> str:
    """What is held against the claim, in one sentence."""
    test = finding.test
    if test["relation"] == "range_within":
        return f"{finding.a}: {_span(test)}"
    metric = METRICS[test["metric"]]
    if test["relation"] == "best_within":
        best = f"; the best there, {finding.a}, against the best elsewhere, {finding.b}" if finding.b else ""
        return f"{metric}: the best learning rate is {_span(test, 'lr')}{best}"
    if test["relation"] == "within":
        return f"{metric} of {finding.a}: {_span(test)}"
    if test["relation"] == "ratio":
        return f"{metric} of {finding.a}, divided by that of {finding.b}: {_span(test, 'factor')}"
    more, less = ("higher", "lower") if test["relation"] == "higher" else ("lower", "higher")
    points = 100 * abs(test["by"])
    amount = (
        f"{points:g} percentage point{'s' if points != 1 else ''}"
        if kind(test) == "accuracy"
        else f"{abs(test['by']):g}"
    )
    if test["by"] > 0:
        more = f"more than {amount} {more}"
    elif test["by"] < 0:
        more = f"at most {amount} {less}"
    return f"{metric} of {finding.a}: {more} than that of {finding.b}"


def _span(test: Mapping[str, Any], of: str | None = None) -> str:
    low, high = (
        None if test[end] is None else _written(test[end], of or kind(test)) for end in ("low", "high")
    )
    if high is None:
        return f"at least {low}"
    return f"at most {high}" if low is None else f"from {low} to {high}"


def _written(value: float, of: str) -> str:
    if of == "accuracy":
        return f"{formats.percent(value)} %"
    return {"loss": formats.loss, "seconds": formats.seconds}.get(of, formats.learning_rate)(value)


def numbers(finding: Finding) -> str:
    """Ours, theirs and the difference, with intervals over seeds; a dash where nothing was run."""
    of, ratio = kind(finding.test), finding.test["relation"] == "ratio"
    if finding.ours.mean is None and finding.theirs.mean is None:
        return formats.MISSING
    parts = [formats.MISSING if finding.ours.mean is None else _interval(finding.ours, of)]
    if finding.theirs.mean is not None:
        parts.append(f"{'to' if ratio else 'against'} {_interval(finding.theirs, of)}")
    text = " ".join(parts)
    if finding.difference.mean is not None:
        if ratio:
            text += f": {_interval(finding.difference, 'factor')}"
        elif of == "accuracy":
            text += f": {formats.points(finding.difference)} points"
        else:
            text += f": {_interval(finding.difference, of, sign=True)}"
    return text


def _interval(interval: Interval, of: str, *, sign: bool = False) -> str:
    if of == "accuracy":
        return f"{formats.percent_interval(interval)} %"
    text = ("+" if sign and interval.mean > 0 else "") + _written(interval.mean, of)
    if interval.low is None:
        return text
    return f"{text} ({_written(interval.low, of)} to {_written(interval.high, of)})"
