"""Two folders of results in one page: the finished study against a copy with one run altered."""

import csv
import os
import shutil
import subprocess
import sys

import pytest
from rangefinder import records
from rangefinder.statistics import paired_difference
from workplace import ROOT

SCRIPT = ROOT / "workflow/scripts/compare.py"
ALTERED = "sgd-onecycle-bs50-seed1"


def compare(folder, *arguments, code=0, **environment):
    done = subprocess.run(
        [sys.executable, SCRIPT, *arguments],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def two(finished, tmp_path):
    """A folder with `a`, the study's results, and `b`, where one run came out otherwise and one cell is gone."""
    for name in "ab":
        shutil.copytree(finished.folder / "results/small", tmp_path / name / "small")
    folder = tmp_path / "b/small/runs" / ALTERED
    record = records.read_run(folder)
    record["run"]["results"]["final_test_accuracy"] = 0.25
    record["epochs"]["test_accuracy"][-1] = 0.25
    records.write_run(folder, record["run"], record["machine"], record["epochs"], record["steps"])
    path = tmp_path / "b/small/study.json"
    study = records.read_json(path, "study")
    study["runs"] = [entry for entry in study["runs"] if "lr0.1" not in entry["run"]]
    records.write_json(path, study)
    return tmp_path


def test_an_altered_run_is_seen_and_all_else_is_the_same(two):
    compare(two, "a", "b", "--name", "x")
    with open(two / "a/compare/x.csv") as file:
        rows = {row["schedule"]: row for row in csv.DictReader(file)}
    assert set(rows) == {"none", "onecycle"}
    same, other = rows["none"], rows["onecycle"]
    assert (same["identical"], same["difference"], same["difference_low"]) == ("2/2", "0", "0")
    assert (same["time_ratio"], same["parameters"]) == ("1", "2/2")
    assert (other["identical"], other["how"]) == ("1/2", "paired, 2 seeds")
    scores = [
        records.read_run(two / "a/small/runs" / f"sgd-onecycle-bs50-seed{seed}")["run"]["results"][
            "final_test_accuracy"
        ]
        for seed in (0, 1)
    ]
    wanted = paired_difference(dict(enumerate(scores)), {0: scores[0], 1: 0.25})
    for key, value in (("", wanted.mean), ("_low", wanted.low), ("_high", wanted.high)):
        assert float(other[f"difference{key}"]) == pytest.approx(value, rel=1e-9)
    for kind in ("html", "md"):
        page = (two / f"a/compare/x.{kind}").read_text()
        assert "3 of 4 runs of a common seed have the same bits" in page
        assert "On one side only" in page and "lr 0.1 (A)" in page


def test_the_same_records_give_the_same_bytes(two):
    compare(two, "a", "b", "--to", "one", PYTHONHASHSEED="1", LC_ALL="C")
    compare(two, "a", "b", "--to", "two", PYTHONHASHSEED="2", TZ="Pacific/Kiritimati")
    names = [f"comparison.{kind}" for kind in ("csv", "html", "md")]
    assert [(two / "one" / name).read_bytes() for name in names] == [
        (two / "two" / name).read_bytes() for name in names
    ]


def test_what_cannot_be_compared_ends_in_one_line(two):
    shutil.copytree(two / "b/small", two / "c/another")
    path = two / f"b/small/runs/{ALTERED}/run.json"
    path.write_text(path.read_text().replace("0.25", "0.95"))
    for other, message in (
        ("nowhere", "nowhere: no such folder of results"),
        ("a/small", "a/small: no study in this folder of results"),
        ("c", "c: no study in common (got ['another']); allowed: small"),
        ("b", f"b/small/runs/{ALTERED}/run.json: checksum: record was changed after it was written"),
    ):
        output = compare(two, "a", other, code=1)
        assert output.startswith(f"error: {message}") and output.count("\n") == 1
    assert not (two / "a/compare").exists()
