"""The page of promises: every test that it names is there, and its table is the stored result's."""

import json
import re
from pathlib import Path

import kills
import pytest
import table
from faults import FAULTS
from places import Job

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


@pytest.fixture(scope="module")
def result():
    return json.loads((ROOT / "docs/torture.json").read_text())


def test_every_fault_was_tried_often_and_nothing_was_lost(result):
    tried = {(row["place"], row["fault"]): row["tried"] for row in result["faults"]}
    least = {
        (kind.title, fault.name): 10 if kind is Job else 3
        for fault in FAULTS.values()
        for kind in fault.places
    }
    assert tried.keys() == least.keys()
    assert {key: times for key, times in tried.items() if times < least[key]} == {}
    assert all(row["lost"] == [] for row in result["faults"])


def test_a_study_was_killed_fifty_times_and_nothing_was_lost(result):
    killed = result["kills"]
    assert killed["study"] == "digits" and sum(killed["kills"].values()) >= 50
    assert 3 <= killed["most_interruptions_of_a_run"] <= kills.MOST_PER_RUN
    assert killed["resumed_from_a_checkpoint"] >= killed["resumed_within_an_epoch"] >= 1
    assert killed["records_compared"] > 0 and killed["lost"] == []


def test_the_readers_were_given_a_hundred_thousand_damaged_inputs(result):
    fuzzed = result["fuzz"]
    assert fuzzed["uncaught"] == []
    assert fuzzed["inputs"] == fuzzed["refused"] + fuzzed["read"] >= 100_000
    assert min(fuzzed["refused"], fuzzed["read"]) > 0


def test_every_result_says_which_engine_it_is_of(result):
    for row in [*result["faults"], result["kills"], result["fuzz"]]:
        assert re.fullmatch("[0-9a-f]{64}", row["engine_digest"]) and row["version"] and "seed" in row


def test_rows_say_what_was_seen_without_what_differs_from_try_to_try():
    saw = ["error: stopped by SIGTERM after step 12 of 600", "error: stopped by SIGTERM after step 99 of 600"]
    engine = {"engine_digest": "0123456789abcdef", "version": "1.0", "machine": "Linux-x86_64"}
    row = table.entry("kill", "a job", "nothing", saw, []) | engine
    assert (row["tried"], row["saw"]) == (2, ["error: stopped by SIGTERM after step <n> of 600"])
    text = table.markdown({"faults": [row], "kills": None})
    lines = text.splitlines()
    assert lines[2] == (
        "| kill | a job | 2 | `error: stopped by SIGTERM after step <n> of 600` | nothing | nothing |"
    )
    assert lines[-1] == "Engine 1.0, digest `0123456789ab`; Linux-x86_64."
    fuzzed = {"inputs": 3000, "seed": 7, "refused": 2990, "read": 9, "uncaught": ["study: KeyError"]}
    *before, last = table.markdown({"faults": [row], "fuzz": fuzzed | engine}).splitlines()
    assert before == [*lines, ""]
    assert "3,000 inputs (seed 7)" in last
    assert "Refused in one line: 2,990; read: 9; ended in an uncaught exception: 1. Engine 1.0" in last


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
    assert both["fuzz"] is None
    new = {"faults": [], "kills": {"new": 1}, "fuzz": {"new": 2}}
    assert table.merged(stored, new) == stored | {"kills": {"new": 1}, "fuzz": {"new": 2}}


def test_what_the_suite_has_no_more_or_is_of_an_unknown_engine_leaves_the_stored_result():
    def row(place, fault, **engine):
        return {"place": place, "fault": fault, **engine}

    known = row("job", "kill", engine_digest="a")
    stored = {"faults": [known, row("job", "nan"), row("job", "old", engine_digest="a")], "kills": {"old": 1}}
    suite = {("job", "kill"), ("job", "nan")}
    assert table.of_suite(stored, suite) == {"faults": [known], "kills": None, "fuzz": None}
    kept = {"faults": [known], "kills": {"engine_digest": "a"}, "fuzz": {"engine_digest": "b"}}
    assert table.of_suite(kept, suite) == kept
