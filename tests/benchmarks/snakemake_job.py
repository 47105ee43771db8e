"""Snakemake, as `python -m snakemake` starts it; the last line on stdout tells the most memory it used, in KiB."""

from __future__ import annotations

import runpy

import harness


def main() -> None:
    try:
        runpy.run_module("snakemake", run_name="__main__", alter_sys=True)
    finally:  # it leaves by sys.exit
        print(harness.peak_memory_kib())


if __name__ == "__main__":
    main()
