"""What a training job costs that trains next to nothing, against importing torch; and what its time goes to.

    python tests/benchmarks/bench_job.py

Every round starts both as processes of their own, as Snakemake starts a job. The job leases a GPU, which is pretended
to be there and is free, and computes on the CPU. What Snakemake itself adds to a job is not counted here.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import harness
from rangefinder import data, devices, study

JOB = Path(__file__).with_name("empty_job.py")
FOLDER = Path(tempfile.gettempdir()) / "rangefinder-bench-job"


def import_torch(options: argparse.Namespace) -> Callable[[], None]:
    return lambda: subprocess.run([sys.executable, "-c", "import torch"], check=True)


def empty_job(options: argparse.Namespace) -> Callable[[], dict[str, list[float]]]:
    prepared = FOLDER / "digits"
    data.prepare({"name": "digits"}, prepared)
    (FOLDER / "study" / "logs" / "train").mkdir(parents=True, exist_ok=True)

    config = json.dumps(study.load_config({}))
    # Locks of its own: jobs of others that pretend the same GPU would have to be waited for.
    variables = {**os.environ, devices.FAKE: "1", "RANGEFINDER_LEASES": str(FOLDER / "leases")}

    def work() -> dict[str, list[float]]:
        before = harness.cpu_seconds_of_ended()
        command = [sys.executable, str(JOB), str(prepared), str(FOLDER), config, str(time.monotonic())]
        done = subprocess.run(command, check=True, env=variables, stdout=subprocess.PIPE, text=True)
        gone = time.monotonic(), harness.cpu_seconds_of_ended() - before
        answer = json.loads(done.stdout)
        end = [now - then for now, then in zip(gone, answer["ended"], strict=True)]
        return answer["parts"] | {"end of the process": end}

    return work


def main() -> None:
    options = harness.parser(__doc__, rounds=10).parse_args()
    harness.main(
        "job",
        "A training job that trains nothing",
        "job",
        {"import torch": import_torch, "job": empty_job},
        [harness.Ratio("job over `python -c 'import torch'`", "job", "import torch", most=1.25)],
        options,
        workers=False,
    )


if __name__ == "__main__":
    main()
