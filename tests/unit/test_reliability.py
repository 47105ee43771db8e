"""The page of promises: every test that it names is there, and its table is the stored result's."""

import json
import re
from pathlib import Path

import table

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/reliability.md").read_text()


def test_every_promise_names_tests_that_are_there():
    rows = [line for line in PAGE.partition("## ")[0].splitlines() if line.startswith("| ")][2:]
    assert len(rows) >= 15
    for row in rows:
        named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", row)
        assert named, row
        for file, test in named:
            assert f"\ndef {test}(" in (ROOT / file).read_text(), f"{file}::{test}"


def test_the_table_stands_between_its_markers_and_is_replaced_whole():
    page = f"before\n{table.BEGIN}\nold\n{table.END}\nafter\n"
    once = table.placed(page, "| new |")
    assert once == f"before\n{table.BEGIN}\n\n| new |\n\n{table.END}\nafter\n"
    assert table.placed(once, "| new |") == once


def test_the_page_shows_the_stored_result():
    result = json.loads((ROOT / "docs/torture.json").read_text())
    assert table.placed(PAGE, table.markdown(result)) == PAGE
    assert all(row["lost"] == [] for row in result["faults"])


def test_rows_say_what_was_seen_without_what_differs_from_try_to_try():
    saw = ["error: stopped by SIGTERM after step 12 of 600", "error: stopped by SIGTERM after step 99 of 600"]
    row = table.entry("kill", "a job", "nothing", saw, [])
    assert (row["tried"], row["saw"]) == (2, ["error: stopped by SIGTERM after step <n> of 600"])
    text = table.markdown({"faults": [row], "kills": None})
    assert text.splitlines()[-1] == (
        "| kill | a job | 2 | `error: stopped by SIGTERM after step <n> of 600` | nothing | nothing |"
    )


def test_a_part_done_again_replaces_its_rows_and_no_others():
    def row(place, fault, tried):
        return {"place": place, "fault": fault, "tried": tried}

    stored = {
        "faults": [row("job", "kill", 5), row("job", "nan", 5), row("Snakemake", "kill", 1)],
        "kills": {"old": 1},
    }
    new = {"faults": [row("Snakemake", "kill", 3), row("job", "full", 2)], "kills": None}
    both = table.merged(stored, new)
    assert both["kills"] == {"old": 1}
    assert both["faults"] == [
        row("job", "kill", 5),
        row("job", "nan", 5),
        row("job", "full", 2),
        row("Snakemake", "kill", 3),
    ]
    assert table.merged(stored, {"faults": [], "kills": {"new": 1}}) == stored | {"kills": {"new": 1}}
