"""One copy of a run at a time, on whichever machine it runs: a kernel lock beside the run's checkpoints.

Snakemake's own lock guards a folder, and only while that Snakemake lives; cluster jobs outlive it. On a shared file
system this lock holds between machines as far as that file system carries `flock` to its other clients.
"""

from __future__ import annotations

import fcntl
import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .errors import InputError, InUse

log = logging.getLogger(__name__)

# How long a copy waits for another: one that has lost its Snakemake stops within a second or two, with its checkpoint
# written.
WAIT_S = 10.0


def me() -> str:
    """This process in words that let a user find and end it: cluster job, host and process id."""
    job = os.environ.get("SLURM_JOB_ID")
    return f"{f'SLURM job {job}, ' if job else ''}host {socket.gethostname()}, process {os.getpid()}"


@contextmanager
def hold(folder: Path | str, run: str, wait_s: float = 0.0) -> Iterator[None]:
    """Hold the run for this process; a second copy of a run that is still going is refused.

    The kernel frees the lock when the process ends, however it ends. Where the file system has no locks at all, that
    is said in the log, and the run goes on without one.

    Args:
        folder: the study's checkpoint folder; made if it is missing, and removed again when it is left empty.
        run: id of the run.
        wait_s: how long to wait for the holder, which may be writing its last checkpoint.

    Raises:
        InUse: another process trains this run now; the message says which.
        InputError: the lock file cannot be made.
    """
    folder = Path(folder)
    path = folder / f"{run}.lock"
    deadline = time.monotonic() + wait_s
    while (descriptor := _try(path)) is None:
        if time.monotonic() >= deadline:
            raise InUse(
                f"another process is training this run now ({_holder(path)}); wait for it or end it first",
                file=path,
                key=run,
            )
        time.sleep(0.1)
    try:
        if former := _holder(path, unknown=""):
            # A finished or stopped holder takes the file away; one that was killed cannot.
            log.warning(
                "the run's former copy (%s) ended without a word. If it is still going, this file system does not "
                "carry locks from one machine to another: end one of the two",
                former,
            )
        with suppress(OSError):  # a full disk: the lock holds without its holder's name
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, me().encode(), 0)
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)
        with suppress(OSError):  # not empty: other runs have theirs in it
            folder.rmdir()


def _try(path: Path) -> int | None:
    """A descriptor that holds the lock, or None while another process does."""
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except FileNotFoundError:
            continue  # a finishing run has just removed the empty folder
        except OSError as error:
            raise InputError(f"cannot be written: {error.strerror}", file=path) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        except OSError as error:
            log.warning("%s cannot be locked (%s): see to it that no second copy runs", path, error.strerror)
            return descriptor
        # The holder before us may have removed the file between our open and our lock.
        with suppress(FileNotFoundError):
            if os.fstat(descriptor).st_ino == path.stat().st_ino:
                return descriptor
        os.close(descriptor)


def _holder(path: Path, unknown: str = "unknown") -> str:
    """What the lock's holder, or the one before, said of itself."""
    try:
        return path.read_text(errors="replace").strip() or unknown
    except OSError:  # it has just finished
        return unknown
