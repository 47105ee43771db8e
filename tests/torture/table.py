"""The outcomes of the torture suite as a table: JSON, and Markdown between two markers of docs/reliability.md."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

BEGIN, END = "<!-- torture: begin -->", "<!-- torture: end -->"
PARTS = ("kills", "fuzz")  # of a result, beside its faults
SHOWN = 150  # characters of a message
NEEDS_ROOT = (
    "The two faults of the disk need root, to mount a small file system for the results: without it they are skipped, "
    "here and in `make test`, and pytest says so."
)


def entry(fault: str, place: str, remedy: str, saw: Sequence[str], lost: Sequence[str]) -> dict[str, Any]:
    """One row: how often a fault was tried in one kind of place, what was seen most often, what was lost."""
    return {
        "fault": fault,
        "place": place,
        "remedy": remedy,
        "tried": len(saw),
        "saw": [text for text, _ in Counter(map(_general, saw)).most_common(3)],
        "lost": sorted(set(lost)),
    }


def _general(text: str) -> str:
    """A message without what differs from try to try."""
    text = re.sub(r"[0-9a-f]{64}", "<digest>", text)
    text = re.sub(r"\b(step|epoch) \d+", r"\1 <n>", text)
    text = re.sub(r"host \S+, process \d+", "host <host>, process <n>", text)
    text = re.sub(r"-[0-9a-f]{16}(?=/)", "-<digest>", text)
    return re.sub(r"\S*?/results/", "results/", text)


def markdown(result: Mapping[str, Any]) -> str:
    """The table of a result as `write` stores it."""
    lines = [
        "| fault | done to | tried | what the user saw | then, before the same command | lost |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row in result["faults"]:
        saw = "<br>".join(_code(text) for text in row["saw"])
        lost = "; ".join(row["lost"]) or "nothing"
        cells = (row["fault"], row["place"], row["tried"], saw, row["remedy"], lost)
        lines.append("| " + " | ".join(str(cell) for cell in cells) + " |")
    lines += ["", NEEDS_ROOT, "", " ".join(sorted(set(map(_engine, result["faults"]))))]
    if result.get("kills"):
        lines += ["", _sentence(result["kills"])]
    if result.get("fuzz"):
        lines += ["", _fuzzed(result["fuzz"])]
    return "\n".join(lines)


def _sentence(kills: Mapping[str, Any]) -> str:
    counts = ", ".join(f"{count} of {target}" for target, count in kills["kills"].items())
    return (
        f"Study {kills['study']}: {sum(kills['kills'].values())} kills (-9) at random moments ({counts}); the same "
        f"command was run {kills['commands']} times. {kills['runs_interrupted']} runs and range tests were "
        f"interrupted, one of them {kills['most_interruptions_of_a_run']} times; runs continued "
        f"{kills['resumed_from_a_checkpoint']} times from a checkpoint, "
        f"{kills['resumed_within_an_epoch']} of them from within an epoch. Lost or different of "
        f"{kills['records_compared']} records and tables that an undisturbed study leaves, or left behind of temporary "
        "files, checkpoints, locks and notes: "
        f"{'; '.join(kills['lost']) or 'nothing'}. {_engine(kills)}"
    )


def _fuzzed(fuzz: Mapping[str, Any]) -> str:
    return (
        f"Damage at random: {fuzz['inputs']:,} inputs (seed {fuzz['seed']}) to the readers of configuration, studies, "
        "published numbers, tables, every kind of record, and whole folders of runs, sweeps and what is made from "
        f"them. Refused in one line: {fuzz['refused']:,}; read: {fuzz['read']:,}; ended in an uncaught exception: "
        f"{len(fuzz['uncaught'])}. {_engine(fuzz)}"
    )


def _engine(row: Mapping[str, Any]) -> str:
    return f"Engine {row['version']}, digest `{row['engine_digest'][:12]}`; {row['machine']}."


def _code(text: str) -> str:
    if text.startswith("("):
        return text.strip("()")
    text = text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"
    return "`" + text.replace("|", "\\|").replace("`", "'") + "`"


def write(result: Mapping[str, Any], store: Path, page: Path, suite: Collection[tuple[str, str]]) -> None:
    """Put a result, which may be of a part of the suite, into the stored one, and its table into the page.

    Args:
        suite: place and fault of every row that there can be; rows of faults that it has no more go.
    """
    result = merged(of_suite(json.loads(store.read_text()), suite), result)
    store.write_text(json.dumps(result, indent=1, sort_keys=True, ensure_ascii=False) + "\n")
    page.write_text(placed(page.read_text(), markdown(result)))


def of_suite(stored: Mapping[str, Any], suite: Collection[tuple[str, str]]) -> dict[str, Any]:
    """What of a stored result is of this suite and says which engine it was done with."""
    faults = [row for row in stored["faults"] if (row["place"], row["fault"]) in suite]
    parts = {name: stored.get(name) for name in PARTS}
    return {
        "faults": [row for row in faults if "engine_digest" in row],
        **{name: part if part and "engine_digest" in part else None for name, part in parts.items()},
    }


def merged(stored: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """The stored result with all that is in the new one, which takes the place of the same rows."""
    rows = {(row["place"], row["fault"]): row for row in [*stored["faults"], *new["faults"]]}
    places = list(dict.fromkeys(place for place, _ in rows))
    faults = [row for place in places for key, row in rows.items() if key[0] == place]
    return {"faults": faults, **{name: new.get(name) or stored.get(name) for name in PARTS}}


def placed(page: str, table: str) -> str:
    """The page's text with the table between its markers."""
    before, _, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise ValueError(f"the page has no {BEGIN} … {END}")
    return f"{before}{BEGIN}\n\n{table}\n\n{END}{after}"
