"""The shrunk run of write-up 2 that docs/gallery keeps: its records, its report, and what the docs say of it."""

import csv
import re
from collections import Counter

import pytest
from rangefinder import records, study
from workplace import ROOT

FOLDER = ROOT / "docs/gallery/lars-cifar10-shrunk"
BATCHES = {128 * 2**power for power in range(7)}
OPTIMIZERS = {"sgd", "lars-writeup", "lars"}


@pytest.fixture(scope="module")
def planned():
    """The rows of runs.csv by run."""
    with (FOLDER / "runs.csv").open(newline="") as file:
        return {row["run"]: row for row in csv.DictReader(file)}


@pytest.fixture(scope="module")
def kept():
    """The records by run, each held against its own checksum."""
    return {path.parent.name: records.read_json(path, "run") for path in FOLDER.glob("runs/*/run.json")}


@pytest.fixture(scope="module")
def page():
    return " ".join((ROOT / "docs/writeups.md").read_text().split())


def test_every_cell_of_the_five_attempts_has_its_record(planned, kept):
    assert kept.keys() == planned.keys()
    assert planned.keys() == {
        run for run in study.load(ROOT / "config/studies/lars-cifar10.yaml").runs if run.endswith("-seed0")
    }
    attempts = [row for row in planned.values() if row["form"] == "as-published"]
    cells = {(row["sweeps"], row["optimizer"], int(row["batch_size"])) for row in attempts}
    assert cells == {(f"attempt{n}", o, b) for n in range(1, 6) for o in OPTIMIZERS for b in BATCHES}
    assert len(attempts) == 105
    assert len(kept) == 119
    assert all(kept[run]["run"] == run and kept[run]["model_parameters"] > 20e6 for run in kept)


def test_each_run_completed_or_diverged_with_its_cause(kept):
    for run, record in kept.items():
        assert record["status"] in ("completed", "diverged"), run
        assert (record["divergence"] is None) == (record["status"] == "completed"), run
        if record["divergence"] is None:
            assert record["steps"] == 2 * record["steps_per_epoch"]
            assert record["results"]["final_test_accuracy"] is not None
        else:
            assert record["divergence"]["cause"] in ("non_finite_loss", "non_finite_evaluation")
            assert record["results"]["final_test_accuracy"] is None


def test_the_report_is_complete(planned, kept):
    text = (FOLDER / "report.md").read_text().replace("\\", "")
    assert "This is a trial" in text
    assert "Not complete" not in text
    assert set(re.findall(r"\(runs/([^/]+)/run\.json\)", text)) == planned.keys()
    (line,) = re.findall(r"^\*\*Diverged\*\*: (.*)$", text, re.MULTILINE)
    shown = re.findall(r"(\S+) at step (\d+) \(epoch (\d+),", line)
    diverged = {run: record["divergence"] for run, record in kept.items() if record["divergence"]}
    assert sorted(shown) == sorted((run, str(d["step"]), str(d["epoch"])) for run, d in diverged.items())
    with (FOLDER / "tables/runs.csv").open(newline="") as file:
        statuses = {row["run"]: row["status"] for row in csv.DictReader(file)}
    assert statuses == {run: record["status"] for run, record in kept.items()}


def test_the_docs_say_what_the_records_say(planned, kept, page):
    diverged = [run for run, record in kept.items() if record["status"] == "diverged"]
    assert f"{len(kept)} training jobs" in page
    assert (
        f"{len(diverged)} of the attempts' {sum(r['form'] == 'as-published' for r in planned.values())}"
        in page
    )
    assert {kept[run]["divergence"]["cause"] for run in diverged} == {"non_finite_evaluation"}
    where = Counter((planned[run]["optimizer"], int(planned[run]["batch_size"])) for run in diverged)
    assert where == {("sgd", 4096): 5, ("sgd", 8192): 5, ("lars", 8192): 4}
    sweeps = [records.read_json(path, "sweep") for path in FOLDER.glob("lr_range/*/seed0/sweep.json")]
    assert {(sweep["steps"], sweep["parameters"]["batch_size"]) for sweep in sweeps} == {(51, 4)}
    ranges = [records.read_json(path, "range") for path in FOLDER.glob("lr_range/*/range.json")]
    assert [entry["status"] for entry in ranges] == ["left_censored"] * 2
    jobs = [records.read_json(path, "machine") for path in FOLDER.glob("**/machine.json")]
    assert {job["device"] for job in jobs} == {"cpu"}
    assert f"{sum(job['clocks']['total_s'] for job in jobs) / 60:.0f} minutes of jobs" in page


def test_no_path_of_the_machine_is_kept():
    for path in FOLDER.rglob("*.*"):
        assert not re.search(r"(?<![\w.])/(tmp|home|root|work|Users)/", path.read_text()), path
