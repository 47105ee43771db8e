"""A sweep goes on past a run that fails; what is missing is named with its reason, and the same command makes it."""

import json
import shutil

from workplace import ROOT, Workplace

STUDY = """
title: Two batch sizes
dataset: {name: digits, validation: 100, train_samples: 300, test_samples: 50}
model: {name: ../own.py:fragile}
run: {epochs: 2, lr: 0.02}
seeds: [0]
optimizers: {sgd: {name: SGD, momentum: 0.9}}
schedules: {none: {name: none}}
range_tests: {sgd: {optimizer: sgd, start_lr: 1e-2, end_lr: 1, steps_per_decade: 10, batch_size: 50}}
sweeps: {main: {grid: {optimizer: [sgd], schedule: [none], batch_size: [10, 50]}}}
"""
FAILS, COMPLETES = "sgd-none-bs10-seed0", "sgd-none-bs50-seed0"


def test_a_sweep_goes_on_past_a_failed_run_and_the_report_names_it(tmp_path):
    place = Workplace.make(tmp_path, STUDY)
    shutil.copy(ROOT / "tests/torture/own.py", tmp_path / "config/own.py")
    # Of all that is trained only the batch of 10 gets to step 40.
    (tmp_path / "happens.json").write_text(json.dumps({"what": "cuda memory", "step": 40}))
    runs = tmp_path / "results/small/runs"
    said = place.snakemake("--cores", "1", code=1)
    assert "error: out of memory with 10 samples at once; set run.micro_batch to 5 or less" in said
    assert "Traceback" not in said
    assert (runs / COMPLETES / "run.json").exists() and not (runs / FAILS / "run.json").exists()

    report = tmp_path / "results/small/report.md"
    assert not report.exists()
    place.snakemake("--config", "partial=true")
    text = report.read_text().replace("\\", "")
    assert "**Not complete**: 1 of 2 runs have no record" in text
    assert (
        f"{FAILS} (out of memory: out of memory with 10 samples at once; set run.micro_batch to 5 or less)"
        in text
    )

    (tmp_path / "happens.json").unlink()
    place.snakemake()
    assert "Not complete" not in report.read_text()
    assert json.loads((runs / FAILS / "run.json").read_text())["status"] == "completed"
