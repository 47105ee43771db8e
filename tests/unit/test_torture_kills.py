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
EPOCHS = """
import sys, time
file = open(sys.argv[1], "a", buffering=1)
for epoch in range(1, 101):
    time.sleep(0.02)
    print(f"12:00 INFO epoch {epoch}/100 lr=0.1", file=file)
"""
FINISHED = "pass"


@pytest.fixture
def attempt_of(tmp_path):
    attempts = []

    def start(job):
        (tmp_path / "logs/train").mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-c", WORKFLOW, job, str(tmp_path / "logs/train/a-run.log")]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
        attempts.append(WorkflowAttempt(process, tmp_path / "output.txt"))
        return attempts[-1], int(process.stdout.readline())

    yield start
    for attempt in attempts:
        attempt.end()
        attempt.wait()
        attempt.process.stdout.close()


def is_under_way(attempt, job):
    return {pid: log.stem for pid, log in kills.jobs(attempt).items()} == {job: "a-run"}


def until(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_finished_job_is_not_killed_and_not_counted(attempt_of):
    attempt, job = attempt_of(FINISHED)
    until(lambda: kills.state(job) == "Z")
    assert kills.strike(attempt, job, Counter(), random.Random(0)) is None
    until(lambda: kills.state(attempt.process.pid) != "T")
    assert attempt.running


@pytest.mark.parametrize("seed", range(6))
def test_a_run_under_way_is_killed_and_counted(attempt_of, seed):
    attempt, job = attempt_of(TRAINING)
    until(lambda: is_under_way(attempt, job))
    target, hit = kills.strike(attempt, job, Counter(), random.Random(seed))
    assert hit == ["a-run"]
    if target == "a job":
        until(lambda: kills.state(job) == "Z")
        assert attempt.running
    else:
        assert attempt.code == -9
    if target == "Snakemake alone":
        assert os.path.exists(f"/proc/{job}")
        os.kill(job, 9)


def test_a_run_that_was_interrupted_often_enough_is_spared(attempt_of):
    attempt, job = attempt_of(TRAINING)
    until(lambda: is_under_way(attempt, job))
    assert kills.strike(attempt, job, Counter({"a-run": 5}), random.Random(0)) is None
    until(lambda: kills.state(job) != "T")


def test_checkpoints_within_an_epoch_are_told_from_those_at_its_end(tmp_path):
    for folder in ("logs/train", "runs/a-run"):
        (tmp_path / "study" / folder).mkdir(parents=True)
    (tmp_path / "study/runs/a-run/run.json").write_text('{"steps_per_epoch": 17}')
    (tmp_path / "study/logs/train/a-run.log").write_text(
        "continuing from the checkpoint at step 34 of 102\ncontinuing from the checkpoint at step 100 of 102\n"
    )
    assert kills.continuations(tmp_path) == [False, True]


def test_moments_are_spread_over_the_epochs_that_a_run_does_now(attempt_of, tmp_path):
    log = tmp_path / "logs/train/a-run.log"
    done = []
    for seed in range(4):
        attempt, job = attempt_of(EPOCHS)
        log.write_text("12:00 INFO epoch 100/100 lr=0.1\n")  # of an earlier copy
        until(lambda attempt=attempt, job=job: is_under_way(attempt, job))
        rng = random.Random(seed)
        assert kills.await_moment(attempt, Counter(), rng) == job
        rng = random.Random(seed)
        rng.choice([job])
        done.append((kills.share_done(log, 32), rng.random()))
        attempt.end()
    assert all(wanted <= share < 1 for share, wanted in done), done
    assert max(done)[0] - min(done)[0] > 0.3


def test_no_moment_is_waited_for_where_no_run_may_be_killed(attempt_of):
    attempt, job = attempt_of(TRAINING)
    until(lambda: is_under_way(attempt, job))
    assert kills.await_moment(attempt, Counter({"a-run": 5}), random.Random(0)) is None


def test_kills_that_no_run_continued_after_prove_nothing():
    assert len(kills.unproven([])) == 2
    assert kills.unproven([False, False]) == ["one that did so within an epoch"]
    assert kills.unproven([False, True]) == []
