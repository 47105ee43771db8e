"""Snakemake, as `python -m snakemake` starts it; the last line on stdout tells the most memory it used, in KiB."""

from __future__ import annotations

import runpy
import sys

import harness
from snakemake.executors import touch


def main() -> None:
    if "--touch" in sys.argv:  # it waits a tenth of a second for every job: a quarter of an hour for 10,000
        touch.Executor.SLEEPING_TIME = 0
    try:
        runpy.run_module("snakemake", run_name="__main__", alter_sys=True)
    finally:  # it leaves by sys.exit
        print(harness.peak_memory_kib())


if __name__ == "__main__":
    main()
