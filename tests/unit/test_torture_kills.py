"""The torture suite counts a kill only where it interrupted a run."""

import os
import random
import subprocess
import sys
import time
from collections import Counter

import kills
import pytest
from places import WorkflowAttempt

# Stands for Snakemake: it starts a job, which holds its log open unless it has finished.
WORKFLOW = """
import subprocess, sys, time
job = subprocess.Popen([sys.executable, "-c", sys.argv[1], sys.argv[2]])
print(job.pid, flush=True)
time.sleep(60)
"""
TRAINING = "import sys, time; file = open(sys.argv[1], 'a'); time.sleep(60)"
FINISHED = "pass"


@pytest.fixture
def attempt_of(tmp_path):
    attempts = []

    def start(job):
        (tmp_path / "logs/train").mkdir(parents=True)
        command = [sys.executable, "-c", WORKFLOW, job, str(tmp_path / "logs/train/a-run.log")]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
        attempts.append(WorkflowAttempt(process, tmp_path / "output.txt"))
        return attempts[-1], int(process.stdout.readline())

    yield start
    for attempt in attempts:
        attempt.end()
        attempt.wait()
        attempt.process.stdout.close()


def state(pid):
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0]


def until(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_finished_job_is_not_killed_and_not_counted(attempt_of):
    attempt, job = attempt_of(FINISHED)
    until(lambda: state(job) == "Z")
    assert kills.strike(attempt, Counter(), random.Random(0)) is None
    until(lambda: state(attempt.process.pid) != "T")
    assert attempt.running


@pytest.mark.parametrize("seed", range(6))
def test_a_run_under_way_is_killed_and_counted(attempt_of, seed):
    attempt, job = attempt_of(TRAINING)
    until(lambda: kills.jobs(attempt) == {job: "a-run"})
    target, hit = kills.strike(attempt, Counter(), random.Random(seed))
    assert hit == ["a-run"]
    if target == "a job":
        until(lambda: state(job) == "Z")
        assert attempt.running
    else:
        assert attempt.code == -9
    if target == "Snakemake alone":
        assert os.path.exists(f"/proc/{job}")
        os.kill(job, 9)


def test_a_run_that_was_interrupted_often_enough_is_spared(attempt_of):
    attempt, job = attempt_of(TRAINING)
    until(lambda: kills.jobs(attempt) == {job: "a-run"})
    assert kills.strike(attempt, Counter({"a-run": 5}), random.Random(0)) is None
    until(lambda: state(job) != "T")


def test_checkpoints_within_an_epoch_are_told_from_those_at_its_end(tmp_path):
    for folder in ("logs/train", "runs/a-run"):
        (tmp_path / "study" / folder).mkdir(parents=True)
    (tmp_path / "study/runs/a-run/run.json").write_text('{"steps_per_epoch": 17}')
    (tmp_path / "study/logs/train/a-run.log").write_text(
        "continuing from the checkpoint at step 34 of 102\ncontinuing from the checkpoint at step 100 of 102\n"
    )
    assert kills.continuations(tmp_path) == [False, True]
