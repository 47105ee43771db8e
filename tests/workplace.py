"""A folder in which a test runs the workflow as a user would, with a small real study."""

import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

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

    def command(self, *arguments: str, profile: str = "default") -> list[str]:
        """The command line of Snakemake with one of the project's profiles."""
        command = [sys.executable, "-m", "snakemake", "-s", str(ROOT / "Snakefile")]
        return [*command, "--workflow-profile", str(ROOT / "profiles" / profile), *arguments]

    def snakemake(self, *arguments: str, code: int = 0, **environment: str) -> str:
        """Run Snakemake here, on this machine's CPU; the output, after checking the exit status."""
        variables = {**os.environ, "RANGEFINDER_FAKE_GPUS": "0", **environment}
        return self.output(self.command("--cores", "2", *arguments), variables, code)

    def output(self, command: list[str], environment: dict[str, str], code: int = 0) -> str:
        """What a command says, after checking its exit status."""
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=1800,
            check=False,
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

    def records(self, study: str = "small") -> dict[str, str]:
        """Digest of every file of a study's results that two machines must agree on: all but times and logs."""
        folder = self.folder / "results" / study
        paths = [
            path for part in ("lr_range", "runs", "tables") for path in sorted((folder / part).rglob("*"))
        ]
        return {
            path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in paths
            if path.is_file() and path.name not in ("machine.json", "time.csv") and path.name[0] != "."
        }
