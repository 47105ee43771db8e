"""Writes the tables of docs/performance.md anew from the records in docs/benchmarks.

python tests/benchmarks/table.py [--check]
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import harness

PAGE = harness.ROOT / "docs" / "performance.md"
CLOCK_NAMES = {"wall": "wall time", "cpu": "processor time"}
BEGIN, END = "<!-- figures: written by `make bench`, from docs/benchmarks -->", "<!-- end of figures -->"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="fail if they differ, and leave them")
    options = parser.parse_args()
    records = [
        json.loads(path.read_text(encoding="utf-8")) for path in sorted(harness.RECORDS.glob("*.json"))
    ]
    page = PAGE.read_text(encoding="utf-8")
    made = renewed(page, records)
    if not options.check:
        PAGE.write_text(made, encoding="utf-8")
    elif made != page:
        raise SystemExit(f"{PAGE.name} has other figures than the records; {Path(__file__).name} writes them")


def renewed(page: str, records: Sequence[Mapping]) -> str:
    """The page with the tables of these records in place of those it has."""
    before, _, rest = page.partition(BEGIN)
    _, found, after = rest.partition(END)
    if not found:
        raise SystemExit(f"{PAGE.name} has no place for the figures, between {BEGIN!r} and {END!r}")
    lines = [line for record in records for line in tables(record)]
    return before + "\n".join([BEGIN, "", *lines, END]) + after


def tables(record: Mapping) -> Iterator[str]:
    """The figures of one machine, as Markdown."""
    yield f"### {record['hardware']}"
    yield ""
    # What a GPU computes takes no processor's time.
    clocks = harness.CLOCKS if record["hardware"].endswith("CPU") else ("wall",)
    names = " | ".join(CLOCK_NAMES[clock] for clock in clocks)
    rule = " | ".join("---" for _ in clocks)
    yield f"| wanted | bound | {names} | reached |"
    yield f"| --- | --- | {rule} | --- |"
    bounded = [
        (entry, ratio)
        for entry in record["benchmarks"].values()
        for ratio in entry["ratios"]
        if harness.target(ratio)
    ]
    for entry, ratio in bounded:
        figures = " | ".join(f"{ratio[clock]['median']:.4g}" for clock in clocks)
        told = ratio["name"] + told_apart(
            entry, [other for other, one in bounded if one["name"] == ratio["name"]]
        )
        yield f"| {told} | {harness.target(ratio)} | {figures} | {reached(ratio, clocks)} |"
    yield ""
    for entry in record["benchmarks"].values():
        yield heading(entry)
        yield ""
        if entry["ratios"]:
            yield f"| ratio | {names} | wanted |"
            yield f"| --- | {rule} | --- |"
            for ratio in entry["ratios"]:
                figures = " | ".join(text(ratio[clock]) for clock in clocks)
                yield f"| {ratio['name']} | {figures} | {harness.target(ratio)} |"
            yield ""
        timed = names.replace("wall time", f"wall time, ms per {entry['unit']}")
        yield f"| case | {timed} |"
        yield f"| --- | {rule} |"
        for case, found in harness.rows(entry).items():
            yield f"| {case} | {' | '.join(text(found[clock]) for clock in clocks)} |"
        yield ""
        if entry["sizes"]:
            yield "| size | |"
            yield "| --- | --- |"
            for name, size in entry["sizes"].items():
                yield f"| {name} | {size:.4g} |"
            yield ""
    for entry in record.get("profiles", {}).values():
        yield from profile(entry)


def heading(entry: Mapping) -> str:
    """What was measured, with what, and how busy the machine was."""
    settings = ", ".join(f"{key} {value}" for key, value in entry["settings"].items())
    load = " to ".join(f"{value:g}" for value in entry["load"])
    rounds = f"{entry['rounds']} round{'s'[: entry['rounds'] != 1]}"
    return f"**{entry['title']}** ({settings}; {rounds}; load {load})"


def told_apart(entry: Mapping, others: Sequence[Mapping]) -> str:
    """In brackets, by what a benchmark differs from others with a figure of the same name; empty if there is none."""
    marks = [entry["title"]] if any(other["title"] != entry["title"] for other in others) else []
    for key, value in entry["settings"].items():
        if any(other["settings"].get(key) != value for other in others):
            marks.append(f"{key} {value}")
    return f" ({', '.join(marks)})" if marks else ""


def profile(entry: Mapping) -> Iterator[str]:
    """Where the time of several cases goes, as Markdown: part by part, each with its share, and what one case adds."""
    yield heading(entry)
    yield ""
    cases, added = entry["cases"], entry["added"]
    yield f"| {entry['unit']} | {' | '.join([*cases, *added])} |"
    yield f"| --- | {' | '.join('---' for _ in [*cases, *added])} |"
    for part in entry["parts"]:
        shares = (f"{found[part]['median']:.4g} ({found[part]['share']:.1%})" for found in cases.values())
        cells = [*shares, *(text(found[part]) for found in added.values())]
        yield f"| {part} | {' | '.join(cells)} |"
    yield ""


def reached(ratio: Mapping, clocks: Sequence[str]) -> str:
    """By which of the clocks a bound is kept, and whether a quarter of the rounds on that clock did not keep it."""
    most = math.inf if ratio["most"] is None else ratio["most"]
    least = -math.inf if ratio["least"] is None else ratio["least"]
    kept = [clock for clock in clocks if least <= ratio[clock]["median"] <= most]
    if not kept:
        return "no"
    words = (
        "yes" if len(kept) == len(clocks) else {"wall": "in wall time", "cpu": "in processor time"}[kept[0]]
    )
    sure = all(least <= ratio[clock]["q1"] and ratio[clock]["q3"] <= most for clock in kept)
    return words if sure else f"{words}, not in every round"


def text(found: Mapping[str, float]) -> str:
    """Median and quartiles in a cell."""
    return f"{found['median']:.4g} ({found['q1']:.4g} to {found['q3']:.4g})"


if __name__ == "__main__":
    main()
