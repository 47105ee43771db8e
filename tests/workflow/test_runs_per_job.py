"""Several runs per job: the records of one run per job, whatever the number was before, and nothing lost."""

import json
import os
import re
import shutil
import signal
import subprocess
import time

import pytest
import torch
from rangefinder import finished, status, study, training
from workplace import Workplace

KINDS = ("none-bs50", "onecycle-bs50", "none-bs50-lr0.1")
RUNS = [f"sgd-{kind}-seed{seed}" for seed in (0, 1) for kind in KINDS]
RECORDS = [f"results/small/runs/{run}/run.json" for run in RUNS]
KEPT = "the run was finished before, and its record is kept"


def several(number: int, *more: str) -> tuple[str, ...]:
    return *RECORDS, "--config", f"runs_per_job={number}", *more


def jobs(output: str) -> list[str]:
    """The rules of the jobs that were done."""
    return sorted(re.findall(r"^Finished jobid: \d+ \(Rule: (\S+)\)$", output, re.M))


def files(place: Workplace) -> dict[str, bytes]:
    """All that two trainings of a run agree on."""
    folder = place.folder / "results/small/runs"
    names = [f"{run}/{file}" for run in RUNS for file in ("run.json", "epochs.csv", "steps.csv")]
    return {name: (folder / name).read_bytes() for name in names}


def machine(place: Workplace, run: str, folder: str = "runs") -> dict:
    return json.loads((place.folder / "results/small" / folder / run / "machine.json").read_text())


def times(place: Workplace) -> dict[str, float]:
    """What no two trainings of a run agree on."""
    return {run: machine(place, run)["clocks"]["total_s"] for run in RUNS}


def logs(place: Workplace) -> dict[str, str]:
    return {run: finished.log_file(place.folder / "results/small", run).read_text() for run in RUNS}


@pytest.fixture
def untrained(copy) -> Workplace:
    """The small study with its LR range, and no run."""
    shutil.rmtree(copy.folder / "results/small/runs")
    return copy


def test_the_records_are_those_of_runs_alone_and_another_number_trains_nothing_again(untrained, request):
    place = untrained
    # A number is no reference to the LR range: runs with one need not wait for it, and have a job of their own.
    assert jobs(place.snakemake(*several(4))) == ["train-small-1", "train-small-2"]
    assert files(place) == files(request.getfixturevalue("finished"))
    assert [machine(place, run)["trained_before"] for run in RUNS] == [0, 1, 0, 2, 3, 1]
    text, before = logs(place), times(place)
    assert all(len(re.findall(r"epoch \d/2", words)) == 2 for words in text.values())
    assert "Nothing to be done" in place.snakemake("-n", *several(4))
    # The list of two stays as it is; of the other four, three share a job.
    assert jobs(place.snakemake(*several(3))) == ["train", "train-small-1"]
    assert jobs(place.snakemake(*several(1))) == ["train"] * 5  # the sixth was made so
    assert times(place) == before
    assert all(words.startswith(text[run]) and KEPT in words for run, words in logs(place).items())
    assert "Nothing to be done" in place.snakemake("-n", *several(1))
    assert not (place.folder / "results/small/finished").exists()


def test_a_run_that_fails_costs_no_other_and_a_forced_one_is_trained_again(untrained, request):
    place = untrained
    folder = place.folder / "results/small"
    obstacle = folder / "runs" / RUNS[1] / ".run.json.tmp"
    obstacle.mkdir(parents=True)
    output = place.snakemake(*several(4), code=1)
    assert re.search(rf"1 of 4 runs could not be finished: {RUNS[1]}: .*run.json: cannot be written", output)
    others = [run for run in RUNS if run != RUNS[1] and "lr0.1" not in run]
    assert sorted(path.name for path in (folder / "finished").iterdir()) == sorted(others)
    assert not (folder / "runs" / others[0] / "run.json").exists()  # Snakemake's own doing
    states = {job.name: job.state for job in status.read(folder)[1] if job.kind == "train"}
    assert states == {run: "failed" if run == RUNS[1] else "done" for run in RUNS}
    before = {run: machine(place, run, "finished") for run in others}
    obstacle.rmdir()
    place.snakemake(*several(4))
    assert {run: machine(place, run) for run in others} == before
    assert files(place) == files(request.getfixturevalue("finished"))
    assert not (folder / "finished").exists()
    before = times(place)
    place.snakemake(*several(4, "-R", "train-small-2"))
    again = {run for run, total in times(place).items() if total != before[run]}
    assert again == {run for run in RUNS if "lr0.1" in run}


@pytest.fixture
def one_thread():
    """As the jobs have."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


LONG = """
title: Runs of seconds
dataset: {name: digits, validation: 100, train_samples: 200, test_samples: 50}
model: {name: LeNetSmall}
run: {batch_size: 50, epochs: 40, lr: 0.1}
seeds: [0, 1, 2]
optimizers: {sgd: {name: SGD, momentum: 0.9}}
schedules: {none: {name: none}}
sweeps: {main: {grid: {optimizer: [sgd], schedule: [none]}}}
"""


def test_a_killed_job_goes_on_in_the_run_that_it_was_at(tmp_path, one_thread):
    place = Workplace.make(tmp_path / "place", LONG)
    folder = place.folder / "results/small"
    runs = [f"sgd-none-bs50-seed{seed}" for seed in (0, 1, 2)]
    arguments = [f"results/small/runs/{run}/run.json" for run in runs]
    arguments += ["--cores", "1", "--config", "runs_per_job=3", "checkpoint_minutes=0"]
    variables = {**os.environ, "RANGEFINDER_FAKE_GPUS": "0"}
    pipe = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    snakemake = subprocess.Popen(place.command(*arguments), cwd=place.folder, env=variables, **pipe)
    sign = folder / "progress/train" / f"{runs[1]}.json"
    while not list(folder.glob(f"checkpoints/{runs[1]}-*/latest.ckpt")) or not sign.exists():
        assert snakemake.poll() is None
        time.sleep(0.02)
    os.kill(json.loads(sign.read_text())["pid"], signal.SIGKILL)
    assert snakemake.wait() == 1
    assert [path.name for path in (folder / "finished").iterdir()] == [runs[0]]
    first = machine(place, runs[0], "finished")
    place.snakemake(*arguments)
    assert machine(place, runs[0]) == first
    assert [machine(place, run)["resumed"] for run in runs] == [0, 1, 0]
    alone = study.load(place.folder / "config/studies/small.yaml").runs[runs[1]].spec
    data = place.folder / "results/data/digits"
    training.run(
        alone, lr_range=None, data_folder=data, folder=tmp_path, checkpoint_folder=tmp_path / "checkpoints"
    )
    for file in ("run.json", "epochs.csv", "steps.csv"):
        assert (folder / "runs" / runs[1] / file).read_bytes() == (tmp_path / file).read_bytes()


def test_what_the_command_line_sets_for_training_holds_for_shared_jobs_too(untrained):
    output = untrained.snakemake(
        *several(4, "-n", "--set-resources", "train:mem_mb=123", "--set-threads", "train=2")
    )
    assert output.count("    threads: 2\n") == output.count("mem_mb=123,") == 2
    assert all(f"runtime={minutes}" in output for minutes in (4 * 240, 2 * 240))


def test_a_jobs_own_snakemake_finds_it_whatever_was_asked_for(untrained):
    # As Snakemake calls itself on a cluster's node, where the study is known by the job's name alone.
    call = ("-n", "--nolock", "--target-jobs", "train-small-2:", "--allowed-rules", "train-small-2")
    output = untrained.snakemake(*call, "--config", "studies=[]", "runs_per_job=4")
    assert re.findall(r"^rule (\S+):$", output, re.M) == ["train-small-2"]
    # Forced, its runs have no record there any more when it looks which of them a partial report wants.
    output = untrained.snakemake(*call, "--mode", "remote", "--config", "runs_per_job=4", "partial=true")
    assert re.findall(r"^rule (\S+):$", output, re.M) == ["train-small-2"]


PARTIAL = ("--config", "partial=true", "runs_per_job=4")


def missing(place: Workplace) -> set[str]:
    """The runs that the report names as missing."""
    text = (place.folder / "results/small/report.md").read_text().replace("\\", "")
    if "Not complete" not in text:
        return set()
    line = next(line for line in text.splitlines() if "**Not complete**" in line)
    named = set(re.findall(r"sgd-[\w.-]*seed\d", line))
    assert f": {len(named)} of {len(RUNS)} runs have no record" in line
    return named


def recorded(place: Workplace) -> set[str]:
    return {run for run in RUNS if (place.folder / f"results/small/runs/{run}/run.json").exists()}


def test_a_partial_report_trains_no_run_that_shares_a_job_with_finished_ones(untrained):
    place = untrained
    there = {RUNS[0], RUNS[1], RUNS[2]}
    place.snakemake(*(f"results/small/runs/{run}/run.json" for run in sorted(there)))
    before = {run: machine(place, run) for run in there}
    place.snakemake(*PARTIAL)
    assert recorded(place) == there
    assert missing(place) == set(RUNS) - there
    assert {run: machine(place, run) for run in there} == before


def test_a_partial_report_takes_in_what_is_kept_of_a_job_that_failed(untrained):
    place = untrained
    folder = place.folder / "results/small"
    obstacle = folder / "runs" / RUNS[1] / ".run.json.tmp"
    obstacle.mkdir(parents=True)
    place.snakemake(*several(4), code=1)
    assert RUNS[0] not in recorded(place)  # Snakemake's own doing
    kept = machine(place, RUNS[0], "finished")
    place.snakemake(*PARTIAL)
    assert recorded(place) == set(RUNS) - {RUNS[1]}
    assert missing(place) == {RUNS[1]}
    assert machine(place, RUNS[0]) == kept
    obstacle.rmdir()
    place.snakemake("--config", "runs_per_job=4")
    assert not missing(place) and machine(place, RUNS[0]) == kept
