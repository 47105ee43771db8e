"""Which rule was right: the confirmation runs of every seed as one row per rule, with a verdict."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from . import formats
from .finder_rules import RULES
from .statistics import Interval, mean_interval, paired_difference

MARGIN = 0.01  # one percentage point: as near to the best as a rule has to come
TITLES = {"twice_lr_max": "2 × lr_max"} | {name: rule.title for name, rule in RULES.items()}
ENDS = ("lr_min", "lr_max", "twice_lr_max")  # of the range: bounds, and no rule's suggestion
VERDICTS = ("best", "within one point", "undecided", "worse", "did not train", "diverged", "no answer")
COLUMNS = (
    "range_test",
    "rule",
    "learning_rate",
    "seeds",
    "trained",
    "untrained",
    "diverged",
    "split",
    *(f"{name}{end}" for name in ("accuracy", "difference") for end in ("", "_low", "_high")),
    "verdict",
)


@dataclass
class Trained:
    """What the short runs at one LR came to: accuracy by seed of those that trained, and the seeds that did not.

    A run did not train if its loss ended no lower than it began: finite, and yet nothing was learned.
    """

    lr: float
    accuracy: dict[int, float] = field(default_factory=dict)
    untrained: list[int] = field(default_factory=list)
    diverged: list[int] = field(default_factory=list)

    @property
    def failed(self) -> str | None:
        """The worst that happened to any seed, or None if all trained."""
        return "diverged" if self.diverged else "did not train" if self.untrained else None

    @property
    def mean(self) -> Interval:
        return mean_interval(list(self.accuracy.values()))


@dataclass
class Confirmed:
    """The confirmation of one range test: the records of its seeds.

    Attributes:
        trained: by the index that the answers name.
        best: index of the highest mean accuracy among the LRs at which every seed trained; None if there is none.
    """

    range_test: str
    records: list[Mapping[str, Any]]
    trained: list[Trained]
    best: int | None

    def verdict(self, training: int | None) -> tuple[Interval, str]:
        """The difference to the best LR, paired by seed, and how it is judged.

        ``within one point`` and ``worse`` are said where the whole interval lies on that side of one point below the
        best (with a single seed there is none, and the difference itself decides); else it is ``undecided``.
        """
        nothing = Interval(0, None, None, None)
        if training is None:
            return nothing, "no answer"
        entry = self.trained[training]
        if entry.failed is not None:
            return nothing, entry.failed
        difference = paired_difference(entry.accuracy, self.trained[self.best].accuracy)
        if training == self.best:
            return difference, "best"
        low = difference.mean if difference.low is None else difference.low
        high = difference.mean if difference.high is None else difference.high
        if low >= -MARGIN:
            return difference, "within one point"
        return difference, "worse" if high < -MARGIN else "undecided"


def confirmed(records: Sequence[Mapping[str, Any]]) -> list[Confirmed]:
    """The records of a study's confirmations by range test, seeds of the same range together."""
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for record in records:
        groups.setdefault(record["range_test"], []).append(record)
    return [_confirmed(name, members) for name, members in groups.items()]


def _confirmed(name: str, records: list[Mapping[str, Any]]) -> Confirmed:
    trained = [Trained(entry["lr"]) for entry in records[0]["trainings"]]
    for record in records:
        for place, entry in zip(trained, record["trainings"], strict=True):
            if entry["status"] == "diverged":
                place.diverged.append(record["seed"])
            elif entry["loss"] >= entry["initial_loss"]:
                place.untrained.append(record["seed"])
            else:
                place.accuracy[record["seed"]] = entry["accuracy"]
    whole = [index for index, entry in enumerate(trained) if entry.failed is None]
    best = max(whole, key=lambda index: trained[index].mean.mean, default=None)
    return Confirmed(name, records, trained, best)


def table(records: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """One row per range test and rule: its LR, accuracy and difference to the best LR with t intervals, verdict.

    Args:
        records: confirmation.json of every range test and seed.
    """
    return pd.DataFrame(list(_rows(records)), columns=COLUMNS)


def _rows(records: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    for entry in confirmed(records):
        for answer in entry.records[0]["answers"]:
            trained = None if answer["training"] is None else entry.trained[answer["training"]]
            difference, verdict = entry.verdict(answer["training"])
            row: dict[str, Any] = {
                "range_test": entry.range_test,
                "rule": answer["rule"],
                "learning_rate": trained and trained.lr,
                "seeds": len(entry.records),
                "trained": len(trained.accuracy) if trained else 0,
                "untrained": len(trained.untrained) if trained else 0,
                "diverged": len(trained.diverged) if trained else 0,
                "split": entry.records[0]["split"],
                "verdict": verdict,
            }
            mean = trained.mean if trained else difference
            for name, interval in (("accuracy", mean), ("difference", difference)):
                row |= {name: interval.mean, f"{name}_low": interval.low, f"{name}_high": interval.high}
            yield row


def sentences(
    records: Sequence[Mapping[str, Any]], planned: Sequence[Mapping[str, Any]]
) -> list[dict[str, str]]:
    """For the report's summary: per range test, where the best LR was and which rules came near it.

    Args:
        planned: ``confirmations`` of study.json.
    """
    lines = []
    for entry in confirmed(records):
        first, made = entry.records[0], len(entry.records)
        seeds = sum(test["range_test"] == entry.range_test for test in planned)
        counted = f"{made} of {seeds} seeds" if made < seeds else f"{made} seed{'s' if made > 1 else ''}"
        text = f"runs of {first['parameters']['steps']} steps at every rule's answer, {counted}, {first['split']} set: "
        if entry.best is None:
            text += (
                "at none of them did every seed train"
                if entry.trained
                else "there was no learning rate to try"
            )
        else:
            best = entry.trained[entry.best]
            text += f"best at {formats.learning_rate(best.lr)} ({formats.percent_interval(best.mean)} %)"
        given = {answer["rule"]: entry.verdict(answer["training"])[1] for answer in first["answers"]}
        for verdict in VERDICTS:
            rules = [TITLES.get(rule, rule) for rule in given if given[rule] == verdict and rule not in ENDS]
            if rules:
                text += f"; {verdict}: {', '.join(rules)}"
        ends = [
            f"{TITLES.get(answer['rule'], answer['rule'])} {_reached(entry.trained[answer['training']])}"
            for answer in first["answers"]
            if answer["rule"] in ENDS and answer["training"] is not None
        ]
        text += f". The range's ends: {', '.join(ends)}" if ends else ""
        if first["range"]["status"] != "ok":
            text += (
                f". The range test ended as {first['range']['status']}, so it has no LRs of its own to try"
            )
        lines.append({"topic": entry.range_test, "text": text})
    return lines


def _reached(trained: Trained) -> str:
    """The accuracy at one LR in words, or how many seeds did not get that far."""
    failed = len(trained.diverged) + len(trained.untrained)
    if failed:
        return f"{trained.failed} ({failed} of {failed + len(trained.accuracy)} seeds)"
    return f"{formats.percent_interval(trained.mean)} %"
