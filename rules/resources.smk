"""What jobs ask for: GPUs, places, and the signal before a time limit."""

import os
from functools import cache

from rangefinder import devices

# A minute before a job's time limit SLURM tells the training itself to stop, which then writes its checkpoint. Not
# USR1 and not B:TERM: they end the job's own Snakemake first.
STOP_IN_TIME = "--signal=TERM@60"


@cache
def gpu_is_here():
    """Whether this machine shows a GPU; asked once, since it starts a program."""
    return bool(devices.visible())


def gpus(wildcards):
    """GPUs a job asks for: one, but none where Snakemake itself runs the jobs and has no GPU.

    A cluster's submitting machine often has none, while its nodes do. Inside the cluster's job it is what that was
    given, which may be none on request (`--resources gpu=0`).
    """
    if workflow.remote_exec:
        return int(devices.given())
    return 1 if workflow.non_local_exec or gpu_is_here() else 0


def run_gpus(wildcards):
    """GPUs a training run asks for; inside a cluster's job no more than that was given."""
    count = config["gpus_per_run"] * gpus(wildcards)
    return min(count, len(devices.visible())) if workflow.remote_exec else count


def places(wildcards):
    """Numbers of jobs at once that a plan tells the duration for: one, as many as were given, as many as fit here."""
    limit = workflow.global_resources.get("gpu")
    given = getattr(limit, "value", limit)
    cores = [workflow.cores or 1, os.cpu_count()]
    fit = devices.visible()
    if fit and given != 0:
        shares = len(fit) * config["jobs_per_gpu"]
        cores = [min(count, shares) for count in cores]
        cores[0] = min(cores[0], given or shares)
    return sorted({1, *cores})
