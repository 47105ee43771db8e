"""Sweeps that no LR can be read from, through the record reader and the rule that extracts LR ranges."""

import json

import numpy as np
import pytest
from rangefinder import records
from workplace import Workplace

LR = np.logspace(-5, 1, 301)
NOISE = 0.02 * np.random.default_rng(0).standard_normal(301)
BOWL = 0.5 + 1.8 / (1 + (LR / 1e-2) ** 2) + LR**4 + NOISE
SPIKED, INFINITE = BOWL.copy(), BOWL.copy()
SPIKED[2], INFINITE[0] = 40.0, np.inf
UNSORTED, NEGATIVE = LR.copy(), LR.copy()
UNSORTED[[100, 101]], NEGATIVE[7] = LR[[101, 100]], -LR[7]

# Columns, and the status that range.json has to give.
TYPED = {
    "all-nan": (LR, np.full(301, np.nan), "diverged"),
    "constant": (LR, np.full(301, 2.3), "no_descent"),
    "one-point": (LR[:1], BOWL[:1], "too_few_points"),
    "falls-to-the-end": (LR, 2.3 - 0.006 * np.arange(301) + NOISE, "right_censored"),
    "inf-first": (LR, INFINITE, "diverged"),
    "spike-at-the-start": (LR, SPIKED, "ok"),  # a spike is passed over, and the range is that of the bowl
    "plain": (LR, BOWL, "ok"),
}
# What stands in sweep.csv, and what is said of it.
HEADER = ",".join(records.SWEEP_COLUMNS)
REFUSED = {
    "unsorted": ((UNSORTED, BOWL), "lr, row 101: does not increase"),
    "negative": ((NEGATIVE, BOWL), "lr, row 7: not an LR (got -"),
    "no-rows": ((LR[:0], BOWL[:0]), "the sweep has no rows"),
    "empty-file": ("", f"table is empty; allowed: the header {HEADER}"),
    "wrong-columns": ("lr,loss\n1e-3,2.3\n", f"table has other columns (got 'lr,loss'); allowed: {HEADER}"),
    "words": (f"{HEADER}\n0,1e-3,low,,\n", "table holds something that is not a number"),
}


def columns(lr, loss):
    empty = np.full(len(lr), np.nan)
    return {"step": np.arange(len(lr)), "lr": lr, "loss": loss, "accuracy": empty, "validation_loss": empty}


def write(folder, name, lr, loss, text=None):
    """A sweep's record with right checksums, whatever stands in it."""
    sweep = {
        "study": "small",
        "range_test": name,
        "seed": 0,
        "parameters": {"optimizer": {"name": "SGD"}, "batch_size": 50, "seed": 0},
        "digest": "d" * 64,
        "spec_digest": "s" * 64,
        "steps_per_decade": 50.0,
        "steps": 301,
        "stopped": None,
        "provenance": {"engine_digest": "e" * 64, "data_digest": "d" * 64, "version": "1"},
    }
    records.write_sweep(folder, sweep, {}, columns(lr, loss))
    if text is not None:
        records.write_text(folder / "sweep.csv", text)
        records.write_json(folder / "sweep.json", sweep | {"files": {"sweep.csv": records.sha256_text(text)}})


@pytest.fixture(scope="module")
def extracted(tmp_path_factory):
    """Every sweep through the rule in one call: the folder of the range tests, and what Snakemake said."""
    place = Workplace.make(tmp_path_factory.mktemp("hostile"))
    old = "  sgd: {optimizer: sgd, start_lr: 1e-3, end_lr: 10, steps_per_decade: 20}\n"
    place.edit("lr: suggested", "lr: 0.1")
    place.edit(
        old,
        "".join(
            old.replace("sgd:", f"{name}:").replace("20}", "20, seeds: [0]}") for name in TYPED | REFUSED
        ),
    )
    folder = place.folder / "results/small/lr_range"
    for name, (lr, loss, _) in TYPED.items():
        write(folder / name / "seed0", name, lr, loss)
    for name, (content, _) in REFUSED.items():
        given = (LR, BOWL, content) if isinstance(content, str) else content
        write(folder / name / "seed0", name, *given)
    targets = [f"results/small/lr_range/{name}/range.json" for name in TYPED | REFUSED]
    return folder, place.snakemake(*targets, "--allowed-rules", "extract_lr_range", code=1)


@pytest.mark.parametrize("name", TYPED)
def test_a_sweep_without_an_answer_ends_in_a_typed_status_and_no_number(extracted, name):
    entry = records.read_json(extracted[0] / name / "range.json", "range")
    assert entry["status"] == entry["per_seed"][0]["status"] == TYPED[name][2]
    for number in ("lr_min", "suggested_lr", "lr_max"):
        found = entry[number] and entry[number]["value"]
        assert (found is not None) == (entry["status"] == "ok")
        assert (entry["per_seed"][0][number] is not None) == (entry["status"] == "ok")


def test_a_spike_at_the_start_moves_the_range_by_less_than_a_fifth(extracted):
    plain, spiked = (
        json.loads((extracted[0] / name / "range.json").read_text())
        for name in ("plain", "spike-at-the-start")
    )
    for number in ("lr_min", "suggested_lr", "lr_max"):
        assert spiked[number]["value"] == pytest.approx(plain[number]["value"], rel=0.2)


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_sweep_is_refused_by_file_in_one_line_and_leaves_no_range(extracted, name):
    folder, output = extracted
    said = [
        line
        for line in output.splitlines()
        if line.startswith("error:") and f"{name}/seed0/sweep.csv" in line
    ]
    assert len(said) == 1 and REFUSED[name][1] in said[0]
    assert not (folder / name / "range.json").exists()
    assert "Traceback" not in (folder.parent / f"logs/extract_lr_range/{name}.log").read_text()
