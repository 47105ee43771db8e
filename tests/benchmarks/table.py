"""Writes the tables of docs/performance.md anew from the records in docs/benchmarks."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping

import harness

PAGE = harness.ROOT / "docs" / "performance.md"
BEGIN, END = "<!-- figures: written by `make bench`, from docs/benchmarks -->", "<!-- end of figures -->"


def main() -> None:
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    _, found, after = rest.partition(END)
    if not found:
        raise SystemExit(f"{PAGE.name} has no place for the figures, between {BEGIN!r} and {END!r}")
    records = [
        json.loads(path.read_text(encoding="utf-8")) for path in sorted(harness.RECORDS.glob("*.json"))
    ]
    lines = [line for record in records for line in tables(record)]
    PAGE.write_text(before + "\n".join([BEGIN, "", *lines, END]) + after, encoding="utf-8")


def tables(record: Mapping) -> Iterator[str]:
    """The figures of one machine, as Markdown."""
    yield f"### {record['hardware']}"
    yield ""
    yield "| wanted | bound | wall time | processor time | reached |"
    yield "| --- | --- | --- | --- | --- |"
    for entry in record["benchmarks"].values():
        for ratio in entry["ratios"]:
            if bound := harness.target(ratio):
                figures = " | ".join(f"{ratio[clock]['median']:.4g}" for clock in harness.CLOCKS)
                yield f"| {ratio['name']} | {bound} | {figures} | {reached(ratio)} |"
    yield ""
    for entry in record["benchmarks"].values():
        settings = ", ".join(f"{key} {value}" for key, value in entry["settings"].items())
        load = " to ".join(f"{value:g}" for value in entry["load"])
        yield f"**{entry['title']}** ({settings}; {entry['rounds']} rounds; load {load})"
        yield ""
        if entry["ratios"]:
            yield "| ratio | wall time | processor time | wanted |"
            yield "| --- | --- | --- | --- |"
            for ratio in entry["ratios"]:
                figures = " | ".join(text(ratio[clock]) for clock in harness.CLOCKS)
                yield f"| {ratio['name']} | {figures} | {harness.target(ratio)} |"
            yield ""
        yield f"| case | wall time, ms per {entry['unit']} | processor time |"
        yield "| --- | --- | --- |"
        for case, found in harness.rows(entry).items():
            yield f"| {case} | {' | '.join(text(found[clock]) for clock in harness.CLOCKS)} |"
        yield ""


def reached(ratio: Mapping) -> str:
    """By which of the two clocks a bound is kept, and whether a quarter of the rounds on that clock did not keep it."""
    most = math.inf if ratio["most"] is None else ratio["most"]
    least = -math.inf if ratio["least"] is None else ratio["least"]
    kept = [clock for clock in harness.CLOCKS if least <= ratio[clock]["median"] <= most]
    if not kept:
        return "no"
    words = "yes" if len(kept) == 2 else {"wall": "in wall time", "cpu": "in processor time"}[kept[0]]
    sure = all(least <= ratio[clock]["q1"] and ratio[clock]["q3"] <= most for clock in kept)
    return words if sure else f"{words}, not in every round"


def text(found: Mapping[str, float]) -> str:
    """Median and quartiles in a cell."""
    return f"{found['median']:.4g} ({found['q1']:.4g} to {found['q3']:.4g})"


if __name__ == "__main__":
    main()
