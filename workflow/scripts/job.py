"""What every rule's script does around its one call: log file, threads, one-line errors."""

import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

START = time.perf_counter()


class LogFile(logging.FileHandler):
    """A log file that says once if the disk takes no more of it, instead of a traceback for every line."""

    said = False

    def handleError(self, record: logging.LogRecord) -> None:
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
        elif not self.said:
            self.said = True
            print(f"{self.baseFilename}: cannot be written: {error.strerror}", file=sys.stderr)


@contextmanager
def log_into(path: str | os.PathLike) -> Iterator[None]:
    """Log into another file than the job's first for the length of the block.

    Raises:
        InputError: the file cannot be written.
    """
    from rangefinder.errors import InputError

    root = logging.getLogger()
    before = next(handler for handler in root.handlers if isinstance(handler, LogFile))
    if before.baseFilename == os.path.abspath(path):
        yield
        return
    try:
        file = LogFile(path, mode="a")
    except OSError as error:
        raise InputError(f"cannot be written: {error.strerror}", file=path) from error
    file.setFormatter(before.formatter)
    # In the place of the other: what several processes train of a run is logged into the first that is found.
    root.handlers[root.handlers.index(before)] = file
    try:
        yield
    finally:
        root.handlers[root.handlers.index(file)] = before
        file.close()


@contextmanager
def job(snakemake) -> Iterator[logging.Logger]:
    """Log into the rule's log file and stderr, set the thread count, and report bad input in one line.

    Threads must be set before torch is imported: import the engine's heavy modules inside the block.
    """
    from rangefinder import clock_skew, sessions
    from rangefinder.errors import InputError, RunError

    sessions.watch()
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[variable] = str(snakemake.threads)
    # Line-buffered, so that a run can be followed while it trains.
    try:
        file = LogFile(snakemake.log[0], mode="a")
    except OSError as error:
        sys.exit(f"error: {snakemake.log[0]}: cannot be written: {error.strerror}")
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    console = logging.StreamHandler()
    console.setLevel(logging.WARNING)
    console.setFormatter(logging.Formatter("%(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[file, console])
    log = logging.getLogger("rangefinder")
    try:
        yield log
        clock_skew.settle(snakemake.input, snakemake.config.get("results", "results"))
    except (InputError, RunError) as error:
        log.error("error: %s", error)
        sys.exit(1)
    except Exception:
        log.exception("rule %s failed", snakemake.rule)
        sys.exit(1)
