"""The device of a training job, leased before torch is imported, and the job's clocks."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import job
from rangefinder import allocator, devices
from rangefinder.clocks import Clocks


@contextmanager
def leased(snakemake) -> Iterator[tuple[Clocks, int]]:
    """Lease `resources.gpu` devices, import torch, and yield the clocks and the number of leased devices."""
    clocks = Clocks()
    settings = snakemake.config
    with devices.lease(
        snakemake.resources.get("gpu", 0),
        slots=settings["jobs_per_gpu"],
        timeout_s=60 * settings["device_wait_minutes"],
    ) as lease:
        allocator.keep_freed_memory()
        import torch

        torch.set_num_threads(snakemake.threads)
        clocks.seconds["wait"] = lease.waited_s
        clocks.seconds["startup"] = time.perf_counter() - job.START - lease.waited_s
        yield clocks, len(lease.devices)
