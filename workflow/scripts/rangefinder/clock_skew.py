"""Files from the future: those written before the system's clock was set back.

Snakemake compares times of files. It takes an output that is older than an input for a failure and deletes it, so that
until the clock has caught up every job would lose what it made. Before a job ends it brings such files back to the
present, all of them, in the order in which they were written: so nothing is done again because of it.
"""

from __future__ import annotations

import fcntl
import logging
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

log = logging.getLogger(__name__)

SHORT_S = 5.0  # a file so little ahead (of a file server with a clock of its own) is waited for
STAMP = ".snakemake_timestamp"  # what Snakemake takes a folder's time from


def settle(inputs: Iterable[str], results: Path | str) -> None:
    """See to it that what a job makes now is not older than its inputs.

    Args:
        inputs: files and folders that the job was made from.
        results: the folder whose files' order in time is kept.
    """
    ahead_s = max((_mtime_ns(Path(path)) for path in inputs), default=0) / 1e9 - time.time()
    if 0 <= ahead_s <= SHORT_S:
        time.sleep(ahead_s + 0.01)
    elif ahead_s > SHORT_S:
        moved = to_present([Path(results), *map(Path, inputs)])
        if moved:  # none where another job was faster
            log.warning(
                "%d files were written up to %.0f s ahead of this clock; their times are put back",
                moved,
                ahead_s,
            )


def to_present(roots: Iterable[Path]) -> int:
    """Put the times of files from the future between those of the newest other file and now, in their order.

    Args:
        roots: files, and folders with all below them; the first is locked meanwhile, for there may be several jobs.

    Returns:
        how many files were from the future.
    """
    roots = list(roots)
    with suppress(OSError):
        descriptor = os.open(roots[0], os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            return _to_present({path: _mtime_ns(path) for root in roots for path in _files(root)})
        finally:
            os.close(descriptor)
    return 0


def _to_present(times: dict[Path, int]) -> int:
    now = time.time_ns()
    future = sorted({moment for moment in times.values() if moment > now})
    past = max((moment for moment in times.values() if moment <= now), default=now - 10**9)
    new = {moment: past + (now - past) * place // len(future) for place, moment in enumerate(future, 1)}
    for path, moment in times.items():
        if moment in new:
            with suppress(OSError):  # somebody else's
                os.utime(path, ns=(new[moment], new[moment]), follow_symlinks=False)
    return sum(moment in new for moment in times.values())


def _files(root: Path) -> Iterator[Path]:
    if not root.is_dir():
        yield root
    for folder, _, names in os.walk(root):
        yield from (Path(folder, name) for name in names)


def _mtime_ns(path: Path) -> int:
    """When a file was written, in ns; 0 for one that is gone."""
    stamp = path / STAMP
    with suppress(OSError):
        return (stamp if stamp.exists() else path).lstat().st_mtime_ns
    return 0
