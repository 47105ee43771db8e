"""Which Snakemake started a job, and whether it still lives: no orphans, no locks left by the dead.

Every Snakemake holds a kernel lock on a file of its own in ``.snakemake/rangefinder/`` while it lives. When it
is killed outright, the kernel frees that lock, its local jobs see it and end (training with a checkpoint), and
the next Snakemake on the same machine takes away the lock files that the dead one left in ``.snakemake/locks``.
"""

from __future__ import annotations

import atexit
import fcntl
import logging
import os
import shutil
import signal
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path

log = logging.getLogger(__name__)

VARIABLE = "RANGEFINDER_SESSION"
LOOK_EVERY_S = 1.0
OLD_S = 30 * 24 * 3600.0  # longer than any job runs
_held: list[int] = []  # descriptors of this process's sessions, open until it ends


def _place() -> str:
    """Where processes of this session can see each other: the host, and the cluster job on it."""
    return f"{socket.gethostname()} {os.environ.get('SLURM_JOB_ID', '')}".strip()


def begin(folder: Path | str = ".snakemake") -> None:
    """Begin this process's session, and clear up after sessions that were killed here.

    Lock files are only taken away if every other session of this folder is dead and was on this machine;
    otherwise Snakemake's own message says who holds the folder and what to do.
    """
    folder = Path(folder)
    sessions = folder / "rangefinder"
    sessions.mkdir(parents=True, exist_ok=True)
    others = [path for path in sorted(sessions.glob("*.session")) if path.name != f"{os.getpid()}.session"]
    dead = [path for path in others if _is_dead(path)]
    if dead and len(dead) == len(others):
        shutil.rmtree(folder / "locks", ignore_errors=True)
        # Copies of rule scripts that Snakemake runs from, and removes itself at a job's end. A cluster's job may still
        # be running from one, and would fail at its end, so only what no job can still be running from is taken.
        for script in (folder / "scripts").glob("tmp*"):
            with suppress(FileNotFoundError):
                if time.time() - script.stat().st_mtime > OLD_S:
                    script.unlink()
        for path in dead:
            path.unlink(missing_ok=True)
    own = sessions / f"{os.getpid()}.session"
    descriptor = os.open(own, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_TRUNC, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:  # a file system without locks: live without the service
        log.warning("%s cannot be locked (%s): jobs will outlive a killed Snakemake", own, error.strerror)
        os.close(descriptor)
        own.unlink(missing_ok=True)
        return
    os.write(descriptor, _place().encode())
    _held.append(descriptor)
    os.environ[VARIABLE] = str(own.resolve())
    atexit.register(_end, own.resolve(), os.getpid())


def _end(own: Path, process: int) -> None:
    if os.getpid() == process:  # not in a fork
        own.unlink(missing_ok=True)


def _is_dead(path: Path) -> bool:
    """Whether the session's process is gone; False if it cannot be known from here."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    try:
        if os.read(descriptor, 1000).decode(errors="replace") != _place():
            return False
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return False
    else:
        return True
    finally:
        os.close(descriptor)


def watch() -> None:
    """In a job: send this process SIGTERM when the Snakemake that started it, on this machine, is gone."""
    own = os.environ.get(VARIABLE)
    if own is None or not Path(own).exists() or Path(own).read_text() != _place():
        return  # started by hand, or by a cluster: such jobs outlive their Snakemake

    def look() -> None:
        while not _is_dead(Path(own)):
            time.sleep(LOOK_EVERY_S)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=look, daemon=True).start()
