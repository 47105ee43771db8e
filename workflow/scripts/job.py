"""What every rule's script does around its one call: log file, threads, one-line errors."""

import logging
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

START = time.perf_counter()
SIGNALS = (signal.SIGINT, signal.SIGTERM)


def _at_signals(handler) -> None:
    for number in SIGNALS:
        signal.signal(number, handler)


def _leave(number: int, _frame: object) -> None:
    """End the process before its job began: there is nothing to clear up."""
    os.write(2, f"error: stopped by {signal.Signals(number).name} before the job began\n".encode())
    os._exit(128 + number)


def _stop(number: int, _frame: object) -> None:
    """End the job's block wherever it is; what it holds is given back on the way out."""
    from rangefinder.stopping import Told

    _at_signals(signal.SIG_IGN)  # a terminal and Snakemake may both pass on a Ctrl-C: the first clears up
    raise Told(number)


_at_signals(_leave)  # already while a script's other modules are imported


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
    """Log into the rule's log file and stderr, set the thread count, and report bad input or a signal in one line.

    Threads must be set before torch is imported: import the engine's heavy modules inside the block.
    """
    from rangefinder import clock_skew, sessions
    from rangefinder.errors import InputError, RunError
    from rangefinder.stopping import Told

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
        _at_signals(_stop)
        yield log
        clock_skew.settle(snakemake.input, snakemake.config.get("results", "results"))
        _at_signals(signal.SIG_IGN)  # all is written: an end now would only have it made again
    except Told as told:
        log.error("error: %s", told)
        sys.exit(told.code)
    except (InputError, RunError) as error:
        log.error("error: %s", error)
        sys.exit(1)
    except Exception:
        log.exception("rule %s failed", snakemake.rule)
        sys.exit(1)
