"""A small real study, run once by Snakemake, that the workflow tests look at and copy."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

SMALL = """
title: A small study
description: Two schedules, two seeds.
dataset: {name: digits, validation: 200, train_samples: 300, test_samples: 100}
model: {name: LeNetSmall}
run: {batch_size: 50, epochs: 2, lr: suggested}
seeds: [0, 1]
optimizers:
  sgd: {name: SGD, momentum: 0.9}
schedules:
  none: {name: none}
  onecycle: {name: OneCycleLR}
range_tests:
  sgd: {optimizer: sgd, start_lr: 1e-3, end_lr: 10, steps_per_decade: 20}
sweeps:
  schedules:
    grid: {optimizer: [sgd], schedule: [none, onecycle]}
  fixed:
    set: {schedule: none}
    grid: {optimizer: [sgd], lr: [0.1]}
"""


class Workplace:
    """A folder in which a user runs the workflow."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def make(cls, folder: Path, study: str = SMALL) -> "Workplace":
        (folder / "config/studies").mkdir(parents=True)
        (folder / "config/config.yaml").write_text("studies: [small]\n")
        (folder / "config/studies/small.yaml").write_text(study)
        return cls(folder)

    def snakemake(self, *arguments: str, code: int = 0, **environment: str) -> str:
        """Run Snakemake here; the output, after checking the exit status."""
        command = [sys.executable, "-m", "snakemake", "-s", str(ROOT / "Snakefile"), "--cores", "2"]
        command += ["--workflow-profile", str(ROOT / "profiles/default"), *arguments]
        variables = {**os.environ, "RANGEFINDER_FAKE_GPUS": "0", **environment}
        done = subprocess.run(
            command, cwd=self.folder, env=variables, capture_output=True, text=True, timeout=600, check=False
        )
        output = done.stdout + done.stderr
        assert done.returncode == code, output[-6000:]
        return output

    def planned(self, *arguments: str) -> list[str]:
        """Jobs of a dry run as ``rule`` or ``rule run-id``, sorted."""
        output = self.snakemake("-n", *arguments)
        jobs = []
        for block in re.split(r"\n(?=(?:local)?rule )", output)[1:]:
            rule = re.match(r"(?:local)?rule (\S+):", block)[1]
            name = re.search(r"^    wildcards: .*?(?:run|range_test)=(\S+?)(?:, (seed=\d+))?$", block, re.M)
            jobs.append(" ".join([rule, *(part for part in (name.groups() if name else ()) if part)]))
        return sorted(jobs)

    def edit(self, old: str, new: str) -> None:
        """Change the study's file."""
        path = self.folder / "config/studies/small.yaml"
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Workplace:
    """The small study, run to its report. Tests that change it take a `copy`."""
    place = Workplace.make(tmp_path_factory.mktemp("finished"))
    place.output = place.snakemake()
    return place


@pytest.fixture
def copy(finished, tmp_path) -> Workplace:
    """A copy of the finished study with its times and Snakemake's memory of it."""
    target = tmp_path / "copy"
    shutil.copytree(finished.folder, target, symlinks=True)
    return Workplace(target)
