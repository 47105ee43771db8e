"""A study's status from made-up records: every state a job can be in, and what is said of it."""

import os
import subprocess
import sys

import pytest
from rangefinder import checkpoints, errors, progress, records, status, unfinished
from rangefinder.runs import digest
from test_records import example_run

NOW = 1_000_000.0
STATES = {
    "diverged": "diverged",
    "done": "done",
    "elsewhere": "training",
    "failed": "failed",
    "here": "training",
    "interrupted": "interrupted",
    "killed": "killed",
    "memory": "out of memory",
    "missing": "not begun",
    "other": "not begun",
    "silent": "no sign",
    "starting": "starting",
    "truncated": "damaged",
    "waiting": "waiting for a device",
}


def spec(name):
    return {"study": "s", "run": name, "seed": 0, "parameters": {}}


def write_progress(folder, name, **changes):
    entry = progress.Progress(
        {"study": "s", "kind": "train", "name": name, "spec_digest": digest(spec(name))}
    )
    path = folder / f"progress/train/{name}.json"
    records.write_json(path, entry.now | {"time": NOW - 3} | changes)


def write_record(folder, name, **changes):
    record = example_run() | {"run": name, "spec_digest": digest(spec(name)), "files": {}} | changes
    record["files"] = dict.fromkeys(("epochs.csv", "steps.csv"), "a" * 64)
    records.write_json(folder / f"runs/{name}/run.json", record)


def write_note(folder, name, error):
    with (
        pytest.raises(type(error)),
        unfinished.noted(folder / "unfinished", spec(name), digest(spec(name))) as note,
    ):
        note["step"] = 7
        raise error


class OutOfMemory(errors.RunError):
    status = "out_of_memory"


class Interrupted(errors.RunError):
    status = "interrupted"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A study with one run in every state."""
    folder = tmp_path_factory.mktemp("results") / "s"
    jobs = [
        {
            "kind": "train",
            "name": name,
            "spec_digest": digest(spec(name)),
            "record": f"runs/{name}/run.json",
        }
        for name in STATES
    ]
    records.write_json(folder / "progress/jobs.json", {"study": "s", "title": "Made up", "jobs": jobs})
    write_record(folder, "done")
    write_record(
        folder,
        "diverged",
        status="diverged",
        divergence={"step": 41, "epoch": 3, "last_finite_loss": 7.0, "cause": "non_finite_loss"},
    )
    write_record(folder, "other", spec_digest="another")
    write_record(folder, "truncated")
    path = folder / "runs/truncated/run.json"
    path.write_text(path.read_text()[:200])
    training = {"phase": "training", "first_step": 0, "step": 45, "steps": 100, "steps_per_epoch": 10}
    training |= {"loss": 0.5, "training_s": 9.0}
    write_progress(folder, "here", **training)
    write_progress(folder, "elsewhere", host="node7", **training)
    write_progress(folder, "silent", host="node7", time=NOW - 600, **training)
    write_progress(folder, "starting")
    write_progress(folder, "waiting", phase="waiting")
    ended = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True
    )
    write_progress(folder, "killed", pid=int(ended.stdout), **training)
    checkpoints.Checkpoints(folder / "checkpoints", "killed", "a" * 64).folder.mkdir(parents=True)
    write_note(folder, "memory", OutOfMemory("out of memory with 64 samples at once"))
    write_note(folder, "interrupted", Interrupted("stopped by SIGTERM after step 7 of 100"))
    write_note(folder, "failed", ValueError("a factory's own error"))
    return folder


def jobs_of(folder):
    return {job.name: job for job in status.read(folder, NOW)[1]}


@pytest.mark.parametrize("name", STATES)
def test_every_state_is_told(folder, name):
    assert jobs_of(folder)[name].state == STATES[name]


@pytest.mark.parametrize(
    ("name", "detail"),
    [
        ("diverged", "non finite loss at step 41, epoch 3"),
        ("elsewhere", "node7, process {pid}"),
        ("silent", "of node7 for 10:00"),
        ("killed", "last sign 0:03 ago; a checkpoint is kept"),
        ("memory", "out of memory with 64 samples at once"),
        ("interrupted", "stopped by SIGTERM after step 7 of 100"),
        ("failed", "ValueError: a factory's own error"),
        ("other", "the record on disk is of other parameters"),
        ("missing", ""),
    ],
)
def test_what_is_known_is_said(folder, name, detail):
    assert jobs_of(folder)[name].detail == detail.format(pid=os.getpid())


def test_the_terminal_shows_counts_and_every_job_that_needs_a_look(folder):
    lines = status.text(folder, *status.read(folder, NOW)).splitlines()
    assert lines[0] == f"{folder}: Made up"
    assert lines[1] == (
        "  runs:          2 of 14 done, 1 diverged, 2 training, 1 starting, 1 waiting for a device, 1 no sign, "
        "1 killed, 1 out of memory, 1 interrupted, 1 failed, 1 damaged, 2 not begun"
    )
    rows = {line.split()[0]: line.split() for line in lines[5:]}
    assert set(rows) == set(STATES) - {"done", "missing", "other"}
    # 45 steps in 9 s: 55 more take 11 s.
    assert rows["here"][1:6] == ["training", "5/10", "45/100", "0.5000", "0:11"]
    assert "0:11" not in rows["killed"]
    everything = status.text(folder, *status.read(folder, NOW), every=True)
    assert "missing" in everything and "the record on disk is of other parameters" in everything


def test_a_live_process_that_gives_no_sign_is_said_to(folder):
    job = {job.name: job for job in status.read(folder, NOW + 900)[1]}["here"]
    assert job.state == "training" and job.detail.endswith("no sign for 15:03")


def test_only_studies_that_were_begun_are_found(folder):
    assert status.studies(folder.parent) == [folder]
    (folder.parent / "data").mkdir(exist_ok=True)
    assert status.studies(folder.parent) == [folder]
    with pytest.raises(errors.InputError, match=r"jobs\.json: record is missing"):
        status.read(folder.parent / "data")
