"""Folders in which a job or a whole workflow is started, hurt and started again, and what became of it there."""

from __future__ import annotations

import atexit
import hashlib
import multiprocessing
import os
import resource
import runpy
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import suppress
from multiprocessing import forkserver
from pathlib import Path
from types import SimpleNamespace
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ROOT / "workflow/scripts"

# 150 steps in an epoch: checkpoints, at most one in 100 steps, fall inside epochs too.
STUDY = """
title: Torture
dataset: {name: digits, validation: 100, train_samples: 300, test_samples: 50}
model: {name: ../own.py:fragile}
run: {batch_size: 2, epochs: 4, lr: 0.02}
seeds: [0, 1]
optimizers: {sgd: {name: SGD, momentum: 0.9}}
schedules: {onecycle: {name: OneCycleLR}, none: {name: none}}
range_tests: {sgd: {optimizer: sgd, start_lr: 1e-3, end_lr: 1, steps_per_decade: 20, confirm: {steps: 10}}}
sweeps:
  fixed: {grid: {optimizer: [sgd], schedule: [none]}}
  found: {set: {lr: suggested}, grid: {optimizer: [sgd], schedule: [onecycle]}}
"""
# Where the system's temporary files and the user's caches are, to be looked at afterwards.
TEMPORARY, CACHE = "temporary", "cache"
RUN = "sgd-none-bs2-seed0"
FIRST_STEP = 70  # the range tests, which share the model, are over by then
STEPS_PER_EPOCH = 150
STEPS = 4 * STEPS_PER_EPOCH

# What must be the same after any interruption; machine.json and what is made of its times are left out.
RECORDS = (
    "run.json",
    "epochs.csv",
    "steps.csv",
    "sweep.json",
    "sweep.csv",
    "range.json",
    "confirmation.json",
    "study.json",
    "runs.csv",
)


class Place(ABC):
    """A folder with the study, in which one command is run until it succeeds.

    Attributes:
        title: what the table calls it.
    """

    title: str

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.results = folder / "results"
        self.attempts = 0
        self.seconds = 0.0  # that the undisturbed command took
        self.diverges_at: int | None = None

    def fill(self) -> None:
        """Write the study and the model's source."""
        (self.folder / "config/studies").mkdir(parents=True)
        (self.folder / "config/config.yaml").write_text("studies: [torture]\n")
        (self.folder / "config/studies/torture.yaml").write_text(STUDY)
        shutil.copy(Path(__file__).with_name("own.py"), self.folder / "config/own.py")

    def copy(self, folder: Path) -> Place:
        """The same place, as it is now, in another folder."""
        shutil.copytree(self.folder, folder, symlinks=True)
        other = type(self)(folder)
        other.seconds = self.seconds
        return other

    def start(self, **limits: int) -> Attempt:
        """Start the command; `limits` are of `resource`, such as ``RLIMIT_AS``."""
        self.attempts += 1
        return self._start(self.folder / f"output-{self.attempts}.txt", limits)

    @abstractmethod
    def _start(self, output: Path, limits: Mapping[str, int]) -> Attempt:
        """Start the command; what it says goes into `output`."""

    def run(self, **limits: int) -> Attempt:
        """Run the command to its end, whatever end that is."""
        attempt = self.start(**limits)
        attempt.wait()
        return attempt

    def run_undisturbed(self) -> None:
        """Run the command to its end, as what disturbed ones are compared with, and measure how long it takes."""
        began = time.monotonic()
        attempt = self.run()
        self.seconds = time.monotonic() - began
        assert attempt.code == 0, attempt.output()

    @abstractmethod
    def prepare(self) -> None:
        """Make the prepared data that the command takes for granted."""

    def records(self) -> dict[str, str]:
        """sha256 of every record, by its path below the results."""
        return {
            path.relative_to(self.results).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(self.results.rglob("*"))
            if path.name in RECORDS
        }

    def leftovers(self) -> list[str]:
        """Temporary files, checkpoints, notes and locks that a finished command must not leave."""
        found = [
            path for path in self.results.rglob("*") if path.name in ("checkpoints", "unfinished", "finished")
        ]
        found += self.results.glob("*/progress/*/*")
        found += [path for path in self.results.rglob(".*") if path.name != ".snakemake_timestamp"]
        snakemake = self.folder / ".snakemake"
        found += [
            *snakemake.glob("scripts/tmp*"),
            *snakemake.glob("locks/*"),
            *snakemake.glob("incomplete/*"),
        ]
        found += [*snakemake.glob("rangefinder/*.session"), *snakemake.glob("shell_tmp.*")]
        found += (self.folder / TEMPORARY).glob("*")
        found += (self.folder / CACHE).glob("**/snakemake-runtime-cache/*")
        return sorted(path.relative_to(self.folder).as_posix() for path in found)


class Job(Place):
    """One training job, run through the rule's own script in a process that has torch imported already."""

    title = "one training job"

    def run_undisturbed(self) -> None:
        process = _context().Process(target=int)  # the first one waits for the import of torch
        process.start()
        process.join()
        super().run_undisturbed()

    def prepare(self) -> None:
        from rangefinder import data

        data.prepare({"name": "digits"}, self.results / "data/digits")
        (self.results / "torture/logs/train").mkdir(parents=True, exist_ok=True)

    def _start(self, output: Path, limits: Mapping[str, int]) -> Attempt:
        process = _context().Process(target=_train, args=(str(self.folder), str(output), dict(limits)))
        process.start()
        return JobAttempt(process, output)


class Workflow(Place):
    """The study's records, made by Snakemake, in a process group of its own."""

    title = "Snakemake"
    arguments = ("--cores", "2", "--config", "checkpoint_minutes=0", "checkpoint_epochs=1")

    def prepare(self) -> None:
        """Leave it to Snakemake, which makes them by itself."""

    def environment(self) -> dict[str, str]:
        """What Snakemake is started with: no GPU, and temporary files where they can be looked at."""
        for name in (TEMPORARY, CACHE):
            (self.folder / name).mkdir(exist_ok=True)
        places = {"TMPDIR": str(self.folder / TEMPORARY), "XDG_CACHE_HOME": str(self.folder / CACHE)}
        return {**os.environ, "RANGEFINDER_FAKE_GPUS": "0", **places}

    def _start(self, output: Path, limits: Mapping[str, int]) -> Attempt:
        command = [sys.executable, "-m", "snakemake", "-s", str(ROOT / "Snakefile")]
        command += ["--workflow-profile", str(ROOT / "profiles/default"), *self.arguments]
        with open(output, "wb") as file:
            process = subprocess.Popen(
                command,
                cwd=self.folder,
                env=self.environment(),
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=lambda: _limit(limits),
            )
        return WorkflowAttempt(process, output)


class Attempt(ABC):
    """One execution of a place's command."""

    def __init__(self, process: Any, path: Path) -> None:
        self.process, self.path = process, path
        path.touch()  # a job that is killed at once has not opened it
        atexit.register(self.end)

    def end(self) -> None:
        """Leave nothing running when the suite itself ends."""
        if self.running:
            self.send(signal.SIGKILL)

    @property
    @abstractmethod
    def running(self) -> bool:
        """Whether the command has not ended."""

    @property
    @abstractmethod
    def code(self) -> int:
        """The exit status; the negative number of the signal that ended it."""

    @abstractmethod
    def wait(self) -> int:
        """Wait for the end of the command."""

    @abstractmethod
    def send(self, number: int) -> None:
        """Send a signal: SIGKILL to every process of the command, another one to the first, as `kill` does."""

    def output(self) -> str:
        """All that the user saw."""
        return self.path.read_text()

    def until(self, seconds: float) -> bool:
        """Wait until so long after the call, or for the end; whether the command still runs."""
        deadline = time.monotonic() + seconds
        while self.running and time.monotonic() < deadline:
            time.sleep(0.005)
        return self.running


class JobAttempt(Attempt):
    @property
    def running(self) -> bool:
        return self.process.is_alive()

    @property
    def code(self) -> int:
        return self.process.exitcode

    def wait(self) -> int:
        self.process.join()
        return self.process.exitcode

    def send(self, number: int) -> None:
        with suppress(ProcessLookupError):  # it has just ended
            os.kill(self.process.pid, number)


class WorkflowAttempt(Attempt):
    @property
    def running(self) -> bool:
        return self.process.poll() is None

    @property
    def code(self) -> int:
        return self.process.returncode

    def wait(self) -> int:
        return self.process.wait()

    def send(self, number: int) -> None:
        end = os.killpg if number == signal.SIGKILL else os.kill
        with suppress(ProcessLookupError):
            end(self.process.pid, number)


def _context():
    """Processes that are forked from one that has imported torch, and has computed nothing."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "rangefinder.training", "leased"])
    path = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(SCRIPTS), *([path] if path else [])])
    try:
        forkserver.ensure_running()
    finally:
        if path is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = path
    return context


def _limit(limits: Mapping[str, int]) -> None:
    for name, value in limits.items():
        resource.setrlimit(getattr(resource, name), (value, value))


class _Named(SimpleNamespace):
    def get(self, name: str, default: Any = None) -> Any:
        return getattr(self, name, default)

    def __iter__(self) -> Iterator[str]:
        return iter([path for paths in vars(self).values() for path in paths])


def _train(folder: str, output: str, limits: Mapping[str, int]) -> None:
    """Train `RUN` in this process as Snakemake would: the rule's script with the job's values."""
    os.chdir(folder)
    Path(TEMPORARY).mkdir(exist_ok=True)
    tempfile.tempdir = os.environ["TMPDIR"] = str(Path(folder, TEMPORARY))
    descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    for standard in (1, 2):
        os.dup2(descriptor, standard)
    _limit(limits)
    if str(SCRIPTS) not in sys.path:
        sys.path.insert(0, str(SCRIPTS))
    from rangefinder import study

    run = study.load(Path("config/studies/torture.yaml"), None).runs[RUN]
    results = Path("results")
    values = SimpleNamespace(
        rule="train",
        threads=1,
        log=[str(results / "torture/logs/train" / f"{RUN}.log")],
        resources={"gpu": 0},
        config={"jobs_per_gpu": 1, "device_wait_minutes": 0, "checkpoint_minutes": 0, "checkpoint_epochs": 1},
        params=_Named(spec=run.spec),
        input=_Named(data=[str(results / "data" / run.dataset / "dataset.json")]),
        output=_Named(run=str(results / "torture/runs" / RUN / "run.json")),
    )
    runpy.run_path(str(SCRIPTS / "train.py"), init_globals={"snakemake": values})
