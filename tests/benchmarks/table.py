"""Writes the tables of docs/performance.md anew from the records in docs/benchmarks."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence

import harness

PAGE = harness.ROOT / "docs" / "performance.md"
CLOCK_NAMES = {"wall": "wall time", "cpu": "processor time"}
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
    # What a GPU computes takes no processor's time.
    clocks = harness.CLOCKS if record["hardware"].endswith("CPU") else ("wall",)
    names = " | ".join(CLOCK_NAMES[clock] for clock in clocks)
    rule = " | ".join("---" for _ in clocks)
    yield f"| wanted | bound | {names} | reached |"
    yield f"| --- | --- | {rule} | --- |"
    for entry in record["benchmarks"].values():
        for ratio in entry["ratios"]:
            if bound := harness.target(ratio):
                figures = " | ".join(f"{ratio[clock]['median']:.4g}" for clock in clocks)
                yield f"| {ratio['name']} | {bound} | {figures} | {reached(ratio, clocks)} |"
    yield ""
    for entry in record["benchmarks"].values():
        settings = ", ".join(f"{key} {value}" for key, value in entry["settings"].items())
        load = " to ".join(f"{value:g}" for value in entry["load"])
        yield f"**{entry['title']}** ({settings}; {entry['rounds']} rounds; load {load})"
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
