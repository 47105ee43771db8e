"""A plan before the run, and one after it."""

import csv
import os

from rangefinder import durations, records
from workplace import Workplace


def table(place):
    with open(place.folder / "results/small/plan.csv") as file:
        return list(csv.DictReader(file))


def test_a_plan_needs_no_lr_range_and_leaves_no_training_behind(tmp_path):
    place = Workplace.make(tmp_path)
    output = place.snakemake("small-plan")
    page = (tmp_path / "results/small/plan.md").read_text()
    assert "8 computing jobs, 0 of them done" in page and page in output
    rows = [(row["kind"], row["jobs"], row["done"], row["steps"], row["timed"]) for row in table(place)]
    # A range test of four decades, 20 steps each; two epochs of six steps.
    assert rows == [
        ("range_test", "2", "0", "162", "timed steps"),
        ("train", "6", "0", "72", "timed steps"),
    ]
    made = {path.name for path in (tmp_path / "results/small").iterdir()}
    assert made == {"logs", "plan.csv", "plan.md", "progress", "timing.json"}
    timing = records.read_json(tmp_path / "results/small/timing.json", "timing")
    # Three jobs that only start, then the one that times steps; one Snakemake started them.
    assert len(timing["moments"]) == 4 and len({tuple(job["parent"]) for job in timing["moments"]}) == 1
    assert len(durations.gaps(timing["moments"])) == 3 and set(timing["crowded"]) <= {
        "2",
        str(os.cpu_count()),
    }


def test_after_the_run_its_records_tell_the_time_and_nothing_is_left(copy):
    page = copy.snakemake("plan")
    assert "8 computing jobs, 8 of them done" in page and "Nothing is left to compute." in page
    assert [(row["kind"], row["timed"]) for row in table(copy)] == [
        ("range_test", "timed steps"),
        ("train", "6 finished runs"),
    ]
    assert {row["left_s"] for row in table(copy)} == {"0.0"}
    assert copy.planned() == []
