"""Planning and reporting grow with the number of runs, not with its square: calls are counted, nothing is timed."""

import sys
from unittest import mock

import made_study
import numpy as np
import pytest
import yaml
from rangefinder import collection, records, runs, study
from workplace import ROOT

COUNTS = (200, 300, 400)
LINEAR = 1.2  # the second hundred over the first: 1 if linear, 1.4 if the square is all there is


def calls(work):
    """What `work()` returns, and how many functions were called on the way, built-in ones included."""
    count = 0

    def note(frame, event, argument):
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        made = work()
    finally:
        sys.setprofile(before)
    return made, count


def content(count):
    """The benchmarks' study with LRs of its own, so that no range test has to be run."""
    made = made_study.content(count)
    del made["range_tests"]
    grid = made["sweeps"]["all"]["grid"]
    grid["lr"] = [0.001 * number for number, _ in enumerate(grid["lr"], start=1)]
    return made


@pytest.fixture(scope="module")
def counted(tmp_path_factory):
    """Calls by what is done and the number of runs; everything is done once before, for what is kept or imported."""
    found = {}
    for count in (COUNTS[0], *COUNTS):
        folder = tmp_path_factory.mktemp(f"runs{count}")
        for name, number in parts(folder, count).items():
            found[name, count] = number
    return found


def parts(folder, count):
    file = folder / "made.yaml"
    file.write_text(yaml.safe_dump(content(count), sort_keys=False))
    found = {}
    planned, found["plan"] = calls(lambda: study.load(file))
    table, found["table of runs"] = calls(lambda: runs.run_table(planned.record()))
    assert len(table["run"]) == count
    records.write_json(folder / "study.json", planned.record())
    generator = np.random.default_rng(0)
    with mock.patch("os.fsync"):
        for run in planned.runs.values():
            made_study.write(folder / "runs" / run.id, run, generator)
    files = sorted(folder.glob("runs/*/run.json"))
    assert len(files) == count
    gathered, found["reading of records"] = calls(
        lambda: collection.collect(folder / "study.json", [], files)
    )
    made, found["tables"] = calls(gathered.tables)
    assert made["runs"].count("\n") == count + 1
    (folder / "figures").mkdir()
    _, found["report"] = calls(lambda: gathered.report(folder / "figures", ROOT / "report"))
    return found


@pytest.mark.parametrize("what", ["plan", "table of runs", "reading of records", "tables", "report"])
def test_a_hundred_runs_more_are_as_much_work_whatever_there_is(counted, what):
    few, some, many = (counted[what, count] for count in COUNTS)
    assert some - few > 10 * (COUNTS[1] - COUNTS[0])  # ten calls per run at least: something was counted
    assert (many - some) / (some - few) < LINEAR


def test_work_that_grows_with_the_square_is_seen():
    few, some, many = (calls(lambda n=n: [abs(i - j) for i in range(n) for j in range(n)])[1] for n in COUNTS)
    assert (many - some) / (some - few) > LINEAR
