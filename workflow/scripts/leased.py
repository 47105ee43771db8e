"""The device of a training job, leased before torch is imported, with the job's clocks and its progress file."""

import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import job
from rangefinder import allocator, devices, progress, runs
from rangefinder.clocks import Clocks


def reported(log: str | Path, spec: Mapping[str, Any]) -> AbstractContextManager[progress.Progress]:
    """The progress of what logs into this file: that of <study>/logs/<kind>/<name>.log is in <study>/progress."""
    log = Path(log)
    kind, name = log.parent.name, log.stem
    identity = {"study": spec["study"], "kind": kind, "name": name, "spec_digest": runs.digest(spec)}
    return progress.reporting(log.parents[2] / progress.FOLDER / kind / f"{name}.json", identity)


@contextmanager
def leased(
    snakemake, log: str | None = None, spec: Mapping[str, Any] | None = None
) -> Iterator[tuple[Clocks, int, progress.Progress]]:
    """Lease `resources.gpu` devices, import torch, and yield the clocks, the number of devices and the progress.

    Args:
        log, spec: of what is computed first; by default the job's own.
    """
    clocks = Clocks()
    settings = snakemake.config
    with reported(log or snakemake.log[0], spec or snakemake.params.spec) as report:
        report.phase("waiting")
        with devices.lease(
            snakemake.resources.get("gpu", 0),
            slots=settings["jobs_per_gpu"],
            timeout_s=60 * settings["device_wait_minutes"],
        ) as lease:
            report.phase("starting")
            allocator.keep_freed_memory()
            import torch

            torch.set_num_threads(snakemake.threads)
            clocks.seconds["wait"] = lease.waited_s
            clocks.seconds["startup"] = time.perf_counter() - job.START - lease.waited_s
            yield clocks, len(lease.devices), report
