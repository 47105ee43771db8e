"""One copy of a run at a time: refused with the holder named, freed by SIGKILL, said where locks are missing."""

import errno
import fcntl
import multiprocessing
import os
import signal
import threading
import time

import pytest
from rangefinder import run_lock
from rangefinder.errors import InputError, InUse


def hold(folder, ready):
    os.environ["SLURM_JOB_ID"] = "17"
    with run_lock.hold(folder, "run"):
        ready.set()
        time.sleep(60)


@pytest.fixture
def holder(tmp_path):
    """A process that holds the run's lock."""
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    process = context.Process(target=hold, args=(tmp_path, ready))
    process.start()
    assert ready.wait(60)
    yield process
    process.kill()
    process.join()


def test_a_second_copy_is_refused_and_told_who_holds_the_run(tmp_path, holder):
    words = r"run\.lock: run: another process is training this run now"
    words += rf" \(SLURM job 17, host \S+, process {holder.pid}\); wait for it"
    with pytest.raises(InputError, match=words), run_lock.hold(tmp_path, "run"):
        pass
    with run_lock.hold(tmp_path, "another"):
        pass


def test_a_killed_holder_frees_the_run_and_is_named_to_its_successor(tmp_path, holder, caplog):
    os.kill(holder.pid, signal.SIGKILL)
    with run_lock.hold(tmp_path, "run", wait_s=30):  # the kernel may take a moment
        assert f"process {holder.pid}) ended without a word" in caplog.text
        assert (tmp_path / "run.lock").read_text() == run_lock.me()
    assert not tmp_path.exists()  # and nothing is left of it


def test_a_copy_that_waits_goes_on_when_the_holder_has_ended(tmp_path, holder):
    threading.Timer(0.5, os.kill, (holder.pid, signal.SIGTERM)).start()
    with run_lock.hold(tmp_path, "run", wait_s=60):
        pass


def test_a_file_system_without_locks_is_said_and_does_not_end_the_run(tmp_path, monkeypatch, caplog):
    def missing(descriptor, how):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", missing)
    with run_lock.hold(tmp_path, "run"):
        assert "run.lock cannot be locked (No locks available)" in caplog.text


def test_an_error_inside_is_the_runs_own_and_frees_the_lock(tmp_path):
    with pytest.raises(ZeroDivisionError), run_lock.hold(tmp_path, "run"):
        _ = 1 / 0
    with run_lock.hold(tmp_path, "run"), pytest.raises(InUse), run_lock.hold(tmp_path, "run"):
        pass


@pytest.mark.parametrize("call", ["mkdir", "open"])
def test_a_disk_that_takes_no_lock_file_ends_in_one_line(tmp_path, monkeypatch, call):
    def refused(*_arguments, **_options):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(os, call, refused)
    with (
        pytest.raises(InputError, match=r"r\.lock: cannot be written: Read-only file system"),
        run_lock.hold(tmp_path / "checkpoints", "r"),
    ):
        pass


def test_a_full_disk_leaves_the_lock_without_its_holders_name(tmp_path, monkeypatch):
    def full(*_arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with run_lock.hold(tmp_path, "r"):
        assert (tmp_path / "r.lock").read_text() == ""
