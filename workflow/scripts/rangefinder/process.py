"""One of the processes that train a run on several GPUs; `distributed` starts it."""

from __future__ import annotations

import logging
import os
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import NoReturn

from . import allocator, distributed
from .clocks import Clocks
from .errors import InputError, RunError
from .progress import Progress, reporting
from .shares import Share


def main(folder: str) -> NoReturn:
    """Train this process's share of the job in `folder`, report how it ended, and end the process."""
    status = _main(folder)
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    # At once: Python's own end frees what the model's parallel copy holds, the processes' group among it, whose
    # destructor waits for gloo's thread while it holds the lock that this thread may be waiting for. Seldom, but the
    # process then never ends, and neither does the job.
    os._exit(status)


def _main(folder: str) -> int:
    """The exit status."""
    content = distributed.read(folder)
    distributed.die_with_parent(content["parent"])
    share = Share(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))
    if content["log"]:
        file = logging.FileHandler(content["log"], mode="a")
        file.setFormatter(logging.Formatter(f"%(asctime)s %(levelname)s process {share.rank}: %(message)s"))
        logging.basicConfig(level=logging.ERROR if share.rank else logging.INFO, handlers=[file])
    clocks = Clocks()
    clocks.seconds |= content["seconds"]
    allocator.keep_freed_memory()
    progress: dict = {}
    try:
        with (
            reporting(Path(folder) / distributed.PROGRESS, {}) if share.rank == 0 else nullcontext() as report
        ):
            _train(content["job"], share, clocks, content["started"], progress, report)
    except (InputError, RunError) as error:
        status = error.status if isinstance(error, RunError) else "failed"
        distributed.report(folder, share.rank, status, str(error), progress)
        # Told to stop, all agreed to end here: none needs to be ended by the launcher.
        return 0 if status == "interrupted" else 1
    except Exception as error:
        logging.getLogger("rangefinder").exception("process %d failed", share.rank)
        text = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        distributed.report(folder, share.rank, "failed", text, progress)
        return 1
    distributed.report(folder, share.rank, "finished")
    return 0


def _train(
    job: dict, share: Share, clocks: Clocks, started: float, progress: dict, report: Progress | None
) -> None:
    import torch
    import torch.distributed

    from . import data, memory, parallel, training

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS") or 1))
    device = torch.device("cpu")
    if torch.cuda.is_available():
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    elif sys.platform == "linux":
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    torch.distributed.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
    clocks.seconds["startup"] += time.perf_counter() - started
    with clocks.running("data"), memory.watched(job["parameters"], progress), memory.loading():
        arrays = data.load(job["data_folder"])
    checkpoints = parallel.checkpoints(*job["checkpoints"], share)
    training.train(
        job,
        arrays,
        device=device,
        clocks=clocks,
        checkpoints=checkpoints,
        progress=progress,
        share=share,
        report=report,
    )
    torch.distributed.barrier()  # none takes the connection away while another still needs it
