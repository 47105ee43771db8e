"""The device of a training job, leased before torch is imported, with the job's clocks and its progress file."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import job
from rangefinder import allocator, devices, progress, runs
from rangefinder.clocks import Clocks


@contextmanager
def leased(snakemake) -> Iterator[tuple[Clocks, int, progress.Progress]]:
    """Lease `resources.gpu` devices, import torch, and yield the clocks, the number of devices and the progress."""
    clocks = Clocks()
    settings = snakemake.config
    log = Path(
        snakemake.log[0]
    )  # <study>/logs/<kind>/<name>.log; its progress is <study>/progress/<kind>/<name>.json
    kind, name = log.parent.name, log.stem
    spec = snakemake.params.spec
    identity = {"study": spec["study"], "kind": kind, "name": name, "spec_digest": runs.digest(spec)}
    with progress.reporting(log.parents[2] / progress.FOLDER / kind / f"{name}.json", identity) as report:
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
