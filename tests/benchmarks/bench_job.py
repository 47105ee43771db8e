"""What a training job costs that trains next to nothing, against importing torch; and what its time goes to.

    python tests/benchmarks/bench_job.py

Every round starts both as processes of their own, as Snakemake starts a job. What Snakemake itself adds to a job is
not counted here.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import harness
from rangefinder import data, study

JOB = Path(__file__).with_name("empty_job.py")
FOLDER = Path(tempfile.gettempdir()) / "rangefinder-bench-job"


def import_torch(options: argparse.Namespace) -> Callable[[], None]:
    return lambda: subprocess.run([sys.executable, "-c", "import torch"], check=True)


def empty_job(options: argparse.Namespace) -> Callable[[], dict[str, list[float]]]:
    prepared = FOLDER / "digits"
    data.prepare({"name": "digits"}, prepared)
    (FOLDER / "study" / "logs" / "train").mkdir(parents=True, exist_ok=True)

    config = json.dumps(study.load_config({}))

    def work() -> dict[str, list[float]]:
        command = [sys.executable, str(JOB), str(prepared), str(FOLDER), config, str(time.monotonic())]
        answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        return json.loads(answer)

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
