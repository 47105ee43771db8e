"""A job's progress file: there while it runs, at most once a second, gone at the end, and the time left from a rate."""

import os
import signal
import subprocess
import sys
import time

import pytest
from rangefinder import progress, records

IDENTITY = {"study": "s", "kind": "train", "name": "r", "spec_digest": "d"}


def entry(**changes):
    return {"first_step": 0, "step": 10, "steps": 100, "training_s": 5.0} | changes


@pytest.mark.parametrize(
    ("changes", "seconds"),
    [
        ({}, 45.0),  # half a second a step, 90 to go
        ({"first_step": 5}, 90.0),  # continued from step 5: 5 steps in 5 s
        ({"step": 100, "training_s": 50.0}, 0.0),
        ({"step": 0}, None),
        ({"first_step": 10}, None),  # just continued, no step of its own yet
        ({"first_step": None, "step": None}, None),
    ],
)
def test_the_time_left_is_the_steps_left_at_the_rate_so_far(changes, seconds):
    assert progress.seconds_left(entry(**changes)) == seconds


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0:00"), (7, "0:07"), (59.6, "1:00"), (754, "12:34"), (3723, "1:02:03"), (273723, "3 d 04:02:03")],
)
def test_durations_read_as_a_clock(seconds, text):
    assert progress.clock(seconds) == text


def wait_for(condition, seconds=20.0):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


def test_the_file_follows_the_job_and_is_gone_at_its_end(tmp_path):
    path = tmp_path / "progress/train/r.json"
    with progress.reporting(path, IDENTITY) as report:
        report.phase("waiting")
        wait_for(path.exists)
        assert records.read_json(path, "progress")["phase"] == "waiting"
        report.begin(20, 100, 10)
        report.made(30, lambda: 0.25)
        first = wait_for(lambda: (now := records.read_json(path, "progress"))["step"] == 30 and now)
        assert (first["phase"], first["first_step"], first["loss"]) == ("training", 20, 0.25)
        assert first["pid"] == os.getpid() and abs(first["time"] - time.time()) < 10
    assert not (tmp_path / "progress/train").exists()


def test_an_error_takes_the_file_away_as_well(tmp_path):
    path = tmp_path / "progress/train/r.json"
    with pytest.raises(ZeroDivisionError), progress.reporting(path, IDENTITY):
        wait_for(path.exists)
        raise ZeroDivisionError
    assert not path.exists()


def test_a_loss_is_read_at_most_once_a_second_and_written_no_more_often(tmp_path, monkeypatch):
    moment, asked = [100.0], []
    monkeypatch.setattr(progress.time, "monotonic", lambda: moment[0])
    report = progress.Progress(IDENTITY)
    report.begin(0, 1000, 10)
    for step in range(1, 501):  # a hundredth of a second each
        moment[0] += 0.01
        report.made(step, lambda step=step: asked.append(step) or 1.0)
    assert len(asked) == 5
    assert report.now["step"] == asked[-1]
    assert report.now["training_s"] / report.now["step"] == pytest.approx(0.01, rel=1e-6)


def test_a_loss_that_is_not_finite_is_written_as_unknown(tmp_path):
    report = progress.Progress(IDENTITY)
    report.begin(0, 10)
    report.made(5, lambda: float("nan"))
    assert report.now["loss"] is None and report.now["step"] == 5


def test_a_folder_that_cannot_be_written_does_not_end_the_job(tmp_path):
    (tmp_path / "progress").write_text("a file where the folder should be")
    with progress.reporting(tmp_path / "progress/train/r.json", IDENTITY):
        time.sleep(0.5)


def test_a_process_is_told_from_a_later_one_with_its_number():
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    begun = progress.process_start(child.pid)
    assert begun >= progress.process_start(os.getpid())
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert progress.process_start(child.pid) is None
