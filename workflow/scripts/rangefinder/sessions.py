"""Which Snakemake started a job, and whether it still lives: no orphans, no locks left by the dead.

Every Snakemake holds a kernel lock on a file of its own in ``.snakemake/rangefinder/`` while it lives. When it
is killed outright, the kernel frees that lock, its local jobs see it and end (training with a checkpoint), and
the next Snakemake on the same machine takes away what the dead one left: its lock files in ``.snakemake/locks``, the
copies of rule scripts in ``.snakemake/scripts``, and its temporary folders elsewhere, which its session's file names.
"""

from __future__ import annotations

import atexit
import fcntl
import logging
import os
import re
import shutil
import signal
import socket
import stat
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .errors import InputError

log = logging.getLogger(__name__)

VARIABLE = "RANGEFINDER_SESSION"
LOOK_EVERY_S = 1.0
OLD_S = 30 * 24 * 3600.0  # longer than any job runs
CLUSTER = "cluster"  # its time is that of the last job that ran here apart from its Snakemake
MADE = re.compile(r"(snakemake|tmp)[a-z0-9_]{8}")  # by tempfile.mkdtemp, for Snakemake
_held: list[int] = []  # descriptors of this process's sessions, open until it ends


def _place() -> str:
    """Where processes of this session can see each other: the host, and the cluster job on it."""
    return f"{socket.gethostname()} {os.environ.get('SLURM_JOB_ID', '')}".strip()


def begin(folder: Path | str = ".snakemake", temporary: Iterable[Path | str] = ()) -> None:
    """Begin this process's session, and clear up after sessions that were killed here.

    Nothing is taken away unless every other session of this folder is dead and was on this machine;
    otherwise Snakemake's own message says who holds the folder and what to do.

    Args:
        temporary: folders, made by `tempfile`, that this process deletes at its end and a killed one leaves.

    Raises:
        InputError: the folder cannot be written.
    """
    folder = Path(folder)
    sessions = folder / "rangefinder"
    with _writable(folder):
        sessions.mkdir(parents=True, exist_ok=True)
    others = [path for path in sorted(sessions.glob("*.session")) if path.name != f"{os.getpid()}.session"]
    dead = [path for path in others if _is_dead(path)]
    if dead and len(dead) == len(others):
        _clear(folder, dead)
    own = sessions / f"{os.getpid()}.session"
    with _writable(folder):
        descriptor = os.open(own, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_TRUNC, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:  # a file system without locks: live without the service
        log.warning("%s cannot be locked (%s): jobs will outlive a killed Snakemake", own, error.strerror)
        os.close(descriptor)
        own.unlink(missing_ok=True)
        return
    os.write(descriptor, "\n".join([_place(), *(os.path.abspath(path) for path in temporary)]).encode())
    _held.append(descriptor)
    os.environ[VARIABLE] = str(own.resolve())
    atexit.register(_end, own.resolve(), os.getpid())


@contextmanager
def _writable(folder: Path) -> Iterator[None]:
    """One line instead of a traceback where nothing can be made in the folder."""
    try:
        yield
    except OSError as error:
        raise InputError(f"cannot be written: {error.strerror}", file=folder) from error


def in_cluster(folder: Path | str = ".snakemake") -> None:
    """In a cluster's job, before it runs a script: remember that jobs here may outlive their Snakemake."""
    mark = Path(folder) / "rangefinder" / CLUSTER
    with suppress(OSError):
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.touch()


def _age_s(path: Path) -> float:
    """Seconds since a file was written; endless if it is not there."""
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return float("inf")


def _clear(folder: Path, dead: list[Path]) -> None:
    """Take away what dead sessions left, and their files last."""
    shutil.rmtree(folder / "locks", ignore_errors=True)
    # Copies of rule scripts that Snakemake runs from, and removes itself at a job's end. A cluster's job may still be
    # running from one, and would fail at its end, so only what none can still be running from is taken.
    outlived = _age_s(folder / "rangefinder" / CLUSTER) < OLD_S
    for script in (folder / "scripts").glob("tmp*"):
        if not outlived or _age_s(script) > OLD_S:
            script.unlink(missing_ok=True)
    for path in dead:
        with suppress(OSError):
            for name in path.read_text(errors="replace").splitlines()[1:]:
                if _is_temporary(Path(name)):
                    shutil.rmtree(name, ignore_errors=True)
        path.unlink(missing_ok=True)


def _is_temporary(path: Path) -> bool:
    """Whether this is a folder that `tempfile` made for this user: a session's file may have been edited."""
    try:
        found = path.lstat()
    except OSError:
        return False
    private = stat.S_ISDIR(found.st_mode) and stat.S_IMODE(found.st_mode) == 0o700
    return path.is_absolute() and bool(MADE.fullmatch(path.name)) and private and found.st_uid == os.getuid()


def _end(own: Path, process: int) -> None:
    if os.getpid() == process:  # not in a fork
        own.unlink(missing_ok=True)


def _first_line(path: Path) -> str:
    """Where a session's process is."""
    return path.read_text(errors="replace").partition("\n")[0]


def _is_dead(path: Path) -> bool:
    """Whether the session's process is gone; False if it cannot be known from here."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    try:
        if _first_line(path) != _place():
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
    if own is None or not Path(own).exists() or _first_line(Path(own)) != _place():
        return  # started by hand, or by a cluster: such jobs outlive their Snakemake

    def look() -> None:
        while not _is_dead(Path(own)):
            time.sleep(LOOK_EVERY_S)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=look, daemon=True).start()
