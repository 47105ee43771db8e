"""Several small runs on one GPU at once: what 1, 2, 4 and 8 processes train together, over what one trains alone.

    PYTHONPATH=workflow/scripts python tests/benchmarks/bench_sharing.py --device cuda --record

Each process is a training job's: the trainer of LeNet-5 on the images of an epoch, evaluated. A round is an epoch of
every process of the case at once; of two cases, the one with more images per second is the better setting of
`jobs_per_gpu`. Start-up is not in it (bench_sweep.py has it).
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable

import harness
import workloads

TEST = 10_000


def worker(options: argparse.Namespace) -> None:
    """Train one epoch for each line on stdin."""
    workloads.start(options, keep_memory=True)
    epochs = options.rounds + options.warm_up + 1
    made = workloads.trainer(workloads.LENET, workloads.arrays(options.images, TEST), options.device, epochs)
    for _ in sys.stdin:
        made.train_epoch()
        print("done", flush=True)


def together(count: int) -> harness.Case:
    def setup(options: argparse.Namespace) -> Callable[[], None]:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        command = [sys.executable, *sys.argv, "--worker"]
        workers = [subprocess.Popen(command, **pipes) for _ in range(count)]

        def work() -> None:
            for process in workers:
                process.stdin.write("\n")
                process.stdin.flush()
            for process in workers:
                if process.stdout.readline() != "done\n":
                    raise SystemExit(f"a process ended with status {process.wait()}")

        return work

    return setup


def main() -> None:
    parser = harness.parser(__doc__, rounds=5)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--images", type=int, default=55_000, help="in each process's epoch")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        worker(options)
        return
    harness.main(
        "sharing",
        "Epochs of LeNet-5 in several processes on one device at once",
        "round",
        {f"{count} at once": together(count) for count in options.processes},
        [
            harness.Ratio(f"round of {count} over one of 1", f"{count} at once", "1 at once")
            for count in options.processes
            if count > 1
        ],
        options,
        workers=False,
        settings={"images per epoch": options.images},
    )


if __name__ == "__main__":
    main()
