"""Confirmation runs asked for in a finished study: what is added, shown, rebuilt and refused."""

import shutil

import pandas as pd
import pytest
from rangefinder import records
from test_chain import REPORTING, digests


def test_confirmation_adds_its_runs_to_a_finished_study_and_the_report_says_who_was_right(copy):
    folder = copy.folder / "results/small"
    before = digests(folder)
    assert (folder / "tables/confirmation.csv").read_text().count("\n") == 1  # its header: none was asked for
    copy.edit(
        "steps_per_decade: 20}",
        "steps_per_decade: 20, confirm: {steps: 9, lrs: {mine: 0.1, hopeless: 3e38}}}",
    )
    jobs = ["confirm_lr_range sgd seed=0", "confirm_lr_range sgd seed=1"]
    assert copy.planned() == sorted([*REPORTING, "resolve_study", *jobs])  # nothing that exists is made again
    copy.snakemake()
    made = [
        records.read_json(folder / f"lr_range/sgd/confirmation/seed{seed}/confirmation.json", "confirmation")
        for seed in (0, 1)
    ]
    entry = records.read_json(folder / "lr_range/sgd/range.json", "range")
    assert {record["range"]["checksum"] for record in made} == {entry["checksum"]}
    assert made[0]["trainings"][-1]["status"] == "diverged"

    frame = pd.read_csv(folder / "tables/confirmation.csv").set_index("rule")
    suggested = entry["suggested_lr"]["value"]
    assert frame.loc["suggested_lr", "learning_rate"] == pytest.approx(suggested, rel=1e-9)  # ten digits
    assert frame.loc["hopeless", "verdict"] == "diverged" and "best" in set(frame["verdict"])
    for name in ("report.html", "report.md"):
        text = (folder / name).read_text()
        assert "Which rule was right?" in text and "Short runs (9 steps" in text and "hopeless" in text
    assert "Nothing to be done" in copy.snakemake("-n")
    # Only reports, tables and the study itself were rewritten.
    changed = {name for name, digest in digests(folder).items() if name in before and before[name] != digest}
    assert {name.split("/")[0] for name in changed} <= {
        "study.json",
        "report.html",
        "report.md",
        "tables",
        "tables.json",
        "logs",
        "progress",
    }

    after = digests(folder)
    for file in ("report.html", "report.md"):
        (folder / file).unlink()
    shutil.rmtree(folder / "tables")
    shutil.rmtree(folder / "lr_range/sgd/confirmation/seed0")
    copy.snakemake()
    rebuilt = digests(folder)
    machine = "lr_range/sgd/confirmation/seed0/machine.json"
    assert {
        name
        for name in after
        if rebuilt[name] != after[name] and name.split("/")[0] not in ("logs", "progress")
    } <= {machine}

    path = folder / "lr_range/sgd/confirmation/seed1/confirmation.json"
    path.write_text(path.read_text().replace('"accuracy": 0.', '"accuracy": 0.9'))
    output = copy.snakemake(code=1)
    assert "sgd/confirmation/seed1/confirmation.json: checksum: record was changed" in output
