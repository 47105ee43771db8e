"""The page over all claims: answered from the records of several folders of results, "not run" where there are none."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from rangefinder import findings_page, records, study
from rangefinder.errors import InputError
from test_records import MACHINE, example_run

ROOT = Path(__file__).resolve().parents[2]
RUN = "published-sgd-exponential-growing-bs128-lr1e_05-seed1024"


def write(results, *, growth=1.5, trial=None, folder="sgd-schedules"):
    """Results of write-up 1's study with a record of experiment 3 alone, whose LR grows by a factor per epoch."""
    plan = study.load(ROOT / "config/studies/sgd-schedules.yaml").record() | {"trial": trial}
    place = results / folder
    records.write_json(place / "study.json", plan)
    columns = {name: np.full(3, 0.5) for name in records.EPOCH_COLUMNS}
    columns |= {"epoch": np.arange(1, 4), "lr": 1e-5 * growth ** np.arange(3)}
    steps = {"step": np.arange(3), "lr": columns["lr"], "loss": np.ones(3)}
    (entry,) = [entry for entry in plan["runs"] if entry["run"] == RUN]
    record = example_run() | {"run": RUN, "seed": 1024, "steps": 3, "steps_per_epoch": 1}
    record |= {"spec_digest": entry["spec_digest"]}
    records.write_run(place / "runs" / RUN, record, MACHINE, columns, steps)
    return results


def page(*folders, to):
    return findings_page.page(folders, ROOT / "config/studies", ROOT / "report", to)


def sections(text):
    """Each study's part of the page by name."""
    parts = re.split(r"^## ", text, flags=re.MULTILINE)[1:]
    return {re.search(r"^Study `([^`]+)`", part, flags=re.MULTILINE)[1]: part for part in parts}


def verdicts(part):
    return re.findall(r"^- \*\*([a-z ]+)\*\*", part, flags=re.MULTILINE)


def test_claims_of_all_three_write_ups_are_told_and_those_without_runs_are_not_run(tmp_path):
    results = write(tmp_path / "results")
    text = page(results, to=tmp_path / "findings.md")
    told = sections(text)
    assert list(told) == ["sgd-schedules", "lars-cifar10", "lenet5-mnist"]
    for name, tests in (("lars-cifar10", 40), ("lenet5-mnist", 6)):
        assert "no results here" in told[name]
        assert verdicts(told[name]) == ["not run"] * tests
    assert "1 of 24 runs have a record" in told["sgd-schedules"]
    assert verdicts(told["sgd-schedules"]) == ["does not hold"] + ["not run"] * 4
    row = next(line for line in text.splitlines() if line.startswith("| sgd-schedules"))
    assert [cell.strip() for cell in row.split("|")[2:7]] == ["1 of 24", "0", "1", "0", "4"]
    # The number, and the record that it rests on, from where the page is.
    assert "Ours: 1.5." in told["sgd-schedules"]
    (link,) = re.findall(r"\]\(([^)]+run\.json)\)", text)
    assert (tmp_path / link).is_file() and link == f"results/sgd-schedules/runs/{RUN}/run.json"


def test_the_answer_follows_the_records(tmp_path):
    text = page(write(tmp_path / "results", growth=1.5**469), to=tmp_path / "findings.md")
    assert verdicts(sections(text)["sgd-schedules"])[0] == "holds"


def test_a_trial_answers_nothing(tmp_path):
    results = write(tmp_path / "results", trial={"epochs": 3}, folder="sgd-schedules-trial")
    text = page(results, to=tmp_path / "findings.md")
    assert set(verdicts(text)) == {"not run"} and "run.json" not in text


def test_a_study_in_two_folders_is_refused(tmp_path):
    folders = [write(tmp_path / name) for name in ("one", "two")]
    with pytest.raises(InputError) as error:
        page(*folders, to=tmp_path / "findings.md")
    assert str(error.value) == (
        f"{tmp_path}/two/sgd-schedules: has the same study as {tmp_path}/one/sgd-schedules (got 'sgd-schedules'); "
        "allowed: each study in one folder of results"
    )


def test_no_claims_are_named_as_such(tmp_path):
    with pytest.raises(InputError, match=r"published/claims\.yaml: no claims to be answered"):
        findings_page.page([], tmp_path / "studies", ROOT / "report", tmp_path / "findings.md")


def test_the_command_writes_the_page_into_the_first_results(tmp_path):
    results = write(tmp_path / "results")
    command = [sys.executable, str(ROOT / "workflow/scripts/findings.py")]
    done = subprocess.run([*command, str(results)], capture_output=True, text=True, check=True)
    file = results / "findings.md"
    assert done.stdout.strip() == str(file)
    assert file.read_text() == page(results, to=file)
    assert f"(sgd-schedules/runs/{RUN}/run.json)" in file.read_text()
    wrong = subprocess.run([*command, str(tmp_path / "none")], capture_output=True, text=True, check=False)
    assert wrong.returncode == 1 and wrong.stderr == f"error: {tmp_path}/none: no such folder of results\n"
