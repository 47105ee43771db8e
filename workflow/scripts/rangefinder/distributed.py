"""Starts the processes of a run on several GPUs through torchrun's launcher, and says in one line how they ended."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from .clocks import Clocks
from .errors import RunError
from .progress import Progress

log = logging.getLogger(__name__)

# After TERM the processes have this long to agree, and to write the checkpoint, before they are killed.
GRACE_S = 45
PROGRESS = "progress.json"  # of process 0, in the folder that `launch` gives its processes
_ROOT = Path(__file__).resolve().parents[1]


def launch(
    module: str,
    job: Mapping[str, Any],
    processes: int,
    *,
    clocks: Clocks,
    progress: dict[str, Any],
    told: Progress | None = None,
) -> None:
    """Run ``module.main`` in several processes of this machine, and wait for all of them.

    A signal to this process reaches all; when one dies the others are ended; all die with this process.

    Args:
        module: importable name; its ``main(folder)`` finds the job by `read` and ends by `report`.
        job: what the processes are given, as plain data.
        processes: how many.
        clocks: of the job, which go on in the processes.
        progress: is told how far a run came that was not finished.
        told: is told by process 0 how far it is while it trains.

    Raises:
        RunError: how the run ended, with the status that its process reported.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException, Std
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    with tempfile.TemporaryDirectory(prefix="rangefinder-") as folder, _quiet_launcher():
        content = {
            "job": job,
            "parent": os.getpid(),
            "seconds": clocks.seconds,
            "started": time.perf_counter(),
            "log": next(
                (h.baseFilename for h in logging.root.handlers if isinstance(h, logging.FileHandler)), None
            ),
        }
        (Path(folder) / "job.json").write_text(json.dumps(content))
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=processes,
            run_id=uuid.uuid4().hex,
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            local_addr="127.0.0.1",  # a node need not be able to resolve its own name
            max_restarts=0,
            logs_specs=DefaultLogsSpecs(log_dir=f"{folder}/output", redirects=Std.ALL),
            shutdown_timeout=GRACE_S,
            signals_to_handle="SIGTERM,SIGINT",
        )
        code = f"import sys; sys.path.insert(0, {str(_ROOT)!r}); from {module} import main; main(sys.argv[1])"
        previous = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
        stopped, failures = None, {}
        done = threading.Event()
        follower = threading.Thread(target=_follow, args=(done, Path(folder), told), daemon=True)
        follower.start()
        try:
            # -P: the working directory's own folders must not be taken for packages.
            elastic_launch(config, sys.executable)("-P", "-c", code, folder)
        except SignalException as error:
            stopped = signal.Signals(error.sigval).name
        except ChildFailedError as error:
            failures = error.failures
        finally:
            done.set()
            follower.join()
            for number, handler in previous.items():
                signal.signal(number, handler)
        reports = {
            int(path.stem): json.loads(path.read_text()) for path in Path(folder).glob("reports/*.json")
        }
        if reports.get(0, {}).get("status") == "finished":
            return
        told_by = [entry for entry in reports.values() if entry["status"] not in ("failed", "finished")]
        if told_by:
            progress |= told_by[0]["progress"]
            error = RunError(told_by[0]["message"])
            error.status = told_by[0]["status"]
            raise error
        for path in sorted(Path(folder).glob("output/**/std*.log")):
            if text := path.read_text(errors="replace").strip():
                log.info("%s of process %s:\n%s", path.stem, path.parent.name, text[-4000:])
        raise _death(processes, reports, stopped, failures)


def _follow(done: threading.Event, folder: Path, told: Progress | None) -> None:
    """Pass on how far process 0 is, once a second."""
    names = ("phase", "first_step", "step", "steps", "steps_per_epoch", "loss", "training_s")
    while told is not None and not done.wait(1.0):
        with suppress(FileNotFoundError):
            entry = json.loads((folder / PROGRESS).read_text())
            told.now = told.now | {name: entry[name] for name in names}


def _death(
    processes: int, reports: Mapping[int, Mapping[str, Any]], stopped: str | None, failures: Mapping[int, Any]
) -> RunError:
    """What became of a run whose processes did not end by themselves."""
    if stopped:
        error = RunError(f"stopped by {stopped} before a checkpoint could be written")
        error.status = "interrupted"
        return error
    # Others fail because one died: first comes who was killed, then who died first.
    first = min((entry.timestamp for entry in failures.values()), default=0)
    rank = min(
        (rank for rank, entry in failures.items() if entry.timestamp <= first + GRACE_S / 2),
        key=lambda rank: (failures[rank].exitcode >= 0, failures[rank].exitcode == -signal.SIGTERM),
        default=None,
    )
    if rank is None:
        return RunError(f"the {processes} processes of the run ended without a record")
    code = failures[rank].exitcode
    how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"failed with exit status {code}"
    if rank in reports:
        how = f"failed: {reports[rank]['message']}"
    return RunError(f"process {rank} of {processes} (counted from 0) {how}; the others were stopped")


@contextmanager
def _quiet_launcher() -> Iterator[None]:
    """The launcher's own messages name its internals; what users are told is said here."""
    loggers = [
        logging.getLogger(name)
        for name in logging.root.manager.loggerDict
        if name.startswith("torch.distributed")
    ]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


# --- in the processes ---


def read(folder: Path | str) -> dict[str, Any]:
    """What `launch` left for its processes: ``job``, ``parent``, ``seconds``, ``started`` and ``log``."""
    return json.loads((Path(folder) / "job.json").read_text())


def report(
    folder: Path | str, rank: int, status: str, message: str = "", progress: Mapping[str, Any] | None = None
) -> None:
    """Tell `launch` how this process ended: ``finished``, ``failed``, or the status of a `RunError`."""
    path = Path(folder) / "reports" / f"{rank}.json"
    path.parent.mkdir(exist_ok=True)
    content = {"status": status, "message": message, "progress": dict(progress or {})}
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(content))
    os.replace(temporary, path)


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent ends, however it ends (Linux; elsewhere nothing)."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        if os.getppid() != parent:  # it was gone before
            os.kill(os.getpid(), signal.SIGKILL)
