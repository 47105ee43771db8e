"""A sweep of small runs on the same cores: jobs in parallel with one thread each, or one job with all threads.

    PYTHONPATH=workflow/scripts python tests/benchmarks/bench_sweep.py
    PYTHONPATH=workflow/scripts python tests/benchmarks/bench_sweep.py --device cuda --jobs-per-gpu 1 2 4 --record

Snakemake trains four runs of LeNet-5 on 1,024 digits of 32×32, from prepared data: runs of one epoch, which are mostly
start-up, and of many. `--threads` is the number of cores it is given. With `--jobs-per-gpu` so many jobs share each
GPU instead; where `RANGEFINDER_FAKE_GPUS` pretends that there are some, their jobs compute on the CPU.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import harness
import made_study
import yaml
from rangefinder import devices

FOLDER = Path(tempfile.gettempdir()) / "rangefinder-bench-sweep"
RUNS = 4


def prepared(epochs: int, gpus: int | None) -> Path:
    """A folder with the study of runs of this length and its data."""
    folder = FOLDER / str(epochs)
    (folder / "config" / "studies").mkdir(parents=True, exist_ok=True)
    content = {
        "title": f"Runs of {epochs} epochs",
        "dataset": {"name": "digits", "resize": 32, "train_samples": 1024, "test_samples": 128},
        "model": {"name": "LeNet5"},
        "run": {"epochs": epochs, "batch_size": 128, "lr": 0.01},
        "seeds": list(range(RUNS)),
        "optimizers": {"adam": {"name": "Adam"}},
        "schedules": {"none": {"name": "none"}},
        "sweeps": {"all": {"grid": {"optimizer": ["adam"], "schedule": ["none"]}}},
    }
    (folder / made_study.FILE).write_text(yaml.safe_dump(content, sort_keys=False))
    (folder / "config" / "config.yaml").write_text(f"studies: [{made_study.NAME}]\n")
    made_study.snakemake(folder, "--until", "prepare_data", gpus=gpus)
    return folder


def trained(epochs: int, arguments: list[str], cores: int, gpus: int | None) -> harness.Case:
    def setup(options: argparse.Namespace) -> harness.Prepared:
        folder = prepared(epochs, gpus)
        runs = folder / "results" / made_study.NAME / "runs"

        def work() -> None:
            made_study.snakemake(folder, "--until", "train", *arguments, cores=cores, gpus=gpus)
            assert len(list(runs.glob("*/run.json"))) == RUNS

        return harness.Prepared(partial(shutil.rmtree, runs, ignore_errors=True), work)

    return setup


def on_cores(cores: int) -> dict[str, Callable[[int], harness.Case]]:
    """Ways to use so many cores, the default first."""
    ways = {
        f"{cores} jobs × 1 thread": (cores, 1),
        f"1 job × {cores} threads": (cores, cores),
        "1 job × 1 thread": (1, 1),
    }
    return {
        way: partial(trained, arguments=["--set-threads", f"train={threads}"], cores=given, gpus=0)
        for way, (given, threads) in ways.items()
    }


def on_gpus(counts: list[int]) -> dict[str, Callable[[int], harness.Case]]:
    """So many jobs on each GPU that is here, the default first."""
    here = len(devices.visible())
    return {
        f"{count} per GPU": partial(
            trained,
            arguments=["--resources", f"gpu={count * here}", "--config", f"jobs_per_gpu={count}"],
            cores=os.cpu_count(),
            gpus=None,
        )
        for count in counts
    }


def main() -> None:
    parser = harness.parser(__doc__, rounds=3, warm_up=0)
    parser.add_argument("--epochs", type=int, nargs="+", default=[1, 40], help="of the runs, a sweep each")
    parser.add_argument("--jobs-per-gpu", type=int, nargs="+", help="jobs that share a GPU, one case each")
    options = parser.parse_args()
    ways = on_gpus(options.jobs_per_gpu) if options.jobs_per_gpu else on_cores(options.threads)
    default, *others = ways
    settings = {"epochs": " and ".join(map(str, options.epochs))}
    if options.jobs_per_gpu:
        pretended = ", pretended" if devices.FAKE in os.environ else ""
        settings["GPUs"] = f"{len(devices.visible())}{pretended}"
    harness.main(
        "sweep-gpus" if options.jobs_per_gpu else "sweep",
        f"{RUNS} training jobs of LeNet-5, in parallel{' on GPUs' if options.jobs_per_gpu else ''}",
        "sweep",
        {f"{way}, epochs {epochs}": make(epochs) for epochs in options.epochs for way, make in ways.items()},
        [
            harness.Ratio(
                f"{way} over {default}, epochs {epochs}",
                f"{way}, epochs {epochs}",
                f"{default}, epochs {epochs}",
            )
            for epochs in options.epochs
            for way in others
        ],
        options,
        workers=False,
        settings=settings,
        packages=["snakemake"],
    )


if __name__ == "__main__":
    main()
