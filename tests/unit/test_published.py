"""Published numbers against the study records that the workflow writes."""

from pathlib import Path

import numpy as np
import pytest
from rangefinder import cells, published, study

STUDIES = Path(__file__).resolve().parents[2] / "config/studies"


def compared(record, runs):
    return published.compare(record, cells.group(record, runs))


@pytest.mark.parametrize("name", ["lenet5-mnist", "sgd-schedules", "lars-cifar10"])
def test_every_published_number_finds_its_cell_in_the_study_as_recorded(name):
    record = study.load(STUDIES / f"{name}.yaml").record()
    found = compared(record, [])
    assert len(found) == len(published.read(record["published"]))
    assert {entry["verdict"] for entry in found} == {"not run"}


def test_closest_to_baseline_takes_the_best_sgd_run_of_the_records():
    plan = study.load(STUDIES / "lars-cifar10.yaml")
    record = plan.record()

    def run(name, best, epochs):
        return {
            "run": {
                "run": name,
                "status": "completed",
                "parameters": {"optimizer": plan.runs[name].parameters["optimizer"]},
                "results": {"best_test_accuracy": best},
            },
            "epochs": {"test_accuracy": np.array(epochs)},
        }

    runs = [
        run("attempt1-sgd-attempt1-bs128-seed0", 0.70, [0.70]),
        run("attempt1-sgd-attempt1-bs256-seed0", 0.80, [0.80]),
        run("attempt1-lars-writeup-attempt1-bs128-seed0", 0.95, [0.5, 0.79, 0.95]),
    ]
    found = [
        entry
        for entry in compared(record, runs)
        if (entry["optimizer"], entry["schedule"], entry["batch_size"]) == ("lars-writeup", "attempt1", 128)
    ]
    values = {entry["metric"]: entry["ours"].mean for entry in found}
    assert values.get("closest_to_baseline") == pytest.approx(0.79), values
