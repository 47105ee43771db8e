"""A study of one run that is long enough to be met while it trains, and Snakemake in the background of the test."""

import os
import re
import signal
import subprocess
import sys
import time

from workplace import ROOT, Workplace

STUDY = """
title: A long study
dataset: {name: digits, validation: 200}
model: {name: LeNetSmall}
run: {batch_size: 50, epochs: 5000, lr: 0.01}
seeds: [0]
optimizers: {sgd: {name: SGD, momentum: 0.9}}
schedules: {none: {name: none}}
range_tests: {sgd: {optimizer: sgd, start_lr: 1e-3, end_lr: 1, steps_per_decade: 10}}
sweeps: {main: {grid: {optimizer: [sgd], schedule: [none]}}}
"""
RUN = "sgd-none-bs50-seed0"
RECORD = f"results/small/runs/{RUN}/run.json"
TRAINING = rf"^{RUN} +training +(\d+)/5000 +(\d+)/125000 +[0-9.e-]+ +(\d+:)+\d\d +\S+, process (\d+)$"


def status(place, *arguments, code=0):
    command = [sys.executable, str(ROOT / "workflow/scripts/status.py"), *arguments]
    done = subprocess.run(command, cwd=place.folder, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    return done.stdout + done.stderr


def wait_for(condition, seconds=120.0):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.5)
    return found


def wait_for_row(place, pattern, seconds=120.0):
    return wait_for(lambda: re.search(pattern, status(place), re.MULTILINE), seconds)


class InBackground:
    """Snakemake, making the long run's record in a process group of its own, as a terminal starts it."""

    def __init__(self, place: Workplace) -> None:
        self.output = place.folder / "snakemake.txt"
        with open(self.output, "w") as file:
            self.process = subprocess.Popen(
                place.command("--cores", "1", RECORD),
                cwd=place.folder,
                env={**os.environ, "RANGEFINDER_FAKE_GPUS": "0"},
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def ended(self, code: int) -> str:
        """What it said, after its end with this exit status."""
        assert self.process.wait(120) == code, self.output.read_text()
        return self.output.read_text()

    def press_ctrl_c(self) -> None:
        """What a terminal does: SIGINT to Snakemake and its jobs."""
        os.killpg(self.process.pid, signal.SIGINT)

    def end(self) -> None:
        """Leave nothing of it running."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
