"""Training jobs on a faked pool of devices, through Snakemake: what each held, and when, by the jobs' own logs."""

import re
from collections import Counter
from datetime import datetime
from pathlib import Path

from rangefinder import records
from workplace import Workplace

STUDY = """
title: A pool
dataset: {name: digits, validation: 100, train_samples: 200, test_samples: 50}
model: {name: ../own.py:meeting}
run: {batch_size: 50, epochs: 3, lr: 0.1}
seeds: SEEDS
optimizers: {sgd: {name: SGD}}
schedules: {none: {name: none}}
sweeps: {main: {grid: {optimizer: [sgd], schedule: [none]}}}
"""

# No luck is needed: the first jobs on a device go on only when as many as there can be have met, and when as many
# more as there should be have said that they wait. The victim is killed outright in its fifth training step.
OWN = """
import os, signal, time
from pathlib import Path
from torch import nn

STARTED = time.time()
LEASED = os.environ.get("CUDA_VISIBLE_DEVICES", "").startswith("FAKE")

class Mortal(nn.Sequential):
    steps = 0

    def forward(self, x):
        if LEASED and self.training and x.shape[0] == 50 and not Path("killed").exists():
            Mortal.steps += 1
            if Mortal.steps == 5:
                Path("killed").write_text(f"{os.environ['CUDA_VISIBLE_DEVICES']} {STARTED} {time.time()}")
                os.kill(os.getpid(), signal.SIGKILL)
        return super().forward(x)

def meeting(input_shape, classes):
    layers = nn.Flatten(), nn.Linear(64, classes)
    if not LEASED:
        return nn.Sequential(*layers)
    Path(f"met-{os.getpid()}").touch()
    logs, here = Path("results/small/logs/train"), Path()
    for _ in range(1200):
        waiting = sum("waiting for" in log.read_text() for log in logs.glob("*.log"))
        if len(list(here.glob("met-*"))) >= int(os.environ["MEET"]) and waiting >= int(os.environ["WAITING"]):
            return Mortal(*layers)
        time.sleep(0.1)
    raise TimeoutError("the jobs never met")
"""


class Pool:
    """One Snakemake of training jobs on faked devices, and what their logs say."""

    def __init__(self, folder: Path, jobs: int, *arguments: str, devices=4, kill=False, waiting=0) -> None:
        self.place = Workplace.make(folder, STUDY.replace("SEEDS", str(list(range(jobs)))))
        self.folder = folder / "results/small"
        (folder / "config/own.py").write_text(OWN)
        if not kill:
            (folder / "killed").touch()
        self.runs = [f"sgd-none-bs50-seed{seed}" for seed in range(jobs)]
        self.output = self.place.snakemake(
            *(f"results/small/runs/{run}/run.json" for run in self.runs),
            *("--cores", "8", *arguments),
            RANGEFINDER_FAKE_GPUS=str(devices),
            RANGEFINDER_LEASES=str(folder / "leases"),
            MEET="4",
            WAITING=str(waiting),
        )
        events = []
        for run in self.runs:
            for line in (self.folder / f"logs/train/{run}.log").read_text().splitlines():
                if match := re.match(r"(\S+ \S+) INFO (leased|released) (FAKE.*)", line):
                    when = datetime.strptime(match[1], "%Y-%m-%d %H:%M:%S,%f").timestamp()
                    change = {"leased": 1, "released": -1}[match[2]]
                    events += [(when, change, device) for device in match[3].split(", ")]
        if kill:  # Snakemake takes the log of a failed attempt away
            device, *times = (folder / "killed").read_text().split()
            events += [(float(when), change, device) for when, change in zip(times, (1, -1), strict=True)]
        # Of two events in one millisecond the lease may have been the later one: it can only have followed.
        self.events = sorted(events, key=lambda event: (round(event[0], 3), event[1]))

    def leases(self) -> int:
        return sum(change == 1 for _, change, _ in self.events)

    def most_at_once(self) -> tuple[dict[str, int], int]:
        """Most jobs at once on each device, and in all."""
        now, most, busiest = Counter(), Counter(), 0
        for _, change, device in self.events:
            now[device] += change
            assert now[device] >= 0
            most[device] = max(most[device], now[device])
            busiest = max(busiest, sum(now.values()))
        assert set(now.values()) == {0}
        return most, busiest

    def waited(self) -> int:
        """Jobs whose log says that they waited, each with a clock that says so too."""
        waited = 0
        for run in self.runs:
            record = records.read_run(self.folder / "runs" / run)
            assert record["run"]["status"] == "completed"
            if "waiting for 1 of 4 GPUs" in (self.folder / f"logs/train/{run}.log").read_text():
                assert record["machine"]["clocks"]["wait_s"] > 0.1
                waited += 1
        return waited


def test_24_jobs_of_which_one_is_killed_never_share_a_device(tmp_path):
    pool = Pool(tmp_path, 24, "--resources", "gpu=4", "--retries", "1", kill=True)
    assert pool.most_at_once() == ({"FAKE-0": 1, "FAKE-1": 1, "FAKE-2": 1, "FAKE-3": 1}, 4)
    assert pool.leases() == 25  # the killed job's second attempt
    assert pool.waited() == 0  # Snakemake never starts more jobs than there are devices
    device, _, when = (tmp_path / "killed").read_text().split()
    assert any(change == 1 and name == device and at > float(when) for at, change, name in pool.events)
    assert pool.output.count("gpu=4, with 4 GPUs visible here: all are used") == 1


def test_more_jobs_than_devices_wait_for_one(tmp_path):
    pool = Pool(tmp_path, 6, "--resources", "gpu=8", waiting=2)
    assert pool.most_at_once() == ({"FAKE-0": 1, "FAKE-1": 1, "FAKE-2": 1, "FAKE-3": 1}, 4)
    assert pool.leases() == 6 and pool.waited() == 2
    assert pool.output.count("gpu=8, with 4 GPUs visible here: further jobs wait until one is free") == 1


def test_two_jobs_to_a_device_where_it_is_asked_for(tmp_path):
    pool = Pool(tmp_path, 6, "--resources", "gpu=4", "--config", "jobs_per_gpu=2", devices=2)
    assert pool.most_at_once() == ({"FAKE-0": 2, "FAKE-1": 2}, 4)
    assert pool.leases() == 6 and pool.waited() == 0


def test_a_run_on_two_devices_holds_both_or_none(tmp_path):
    pool = Pool(tmp_path, 2, "--resources", "gpu=4", "--config", "gpus_per_run=2")
    assert pool.most_at_once() == ({"FAKE-0": 1, "FAKE-1": 1, "FAKE-2": 1, "FAKE-3": 1}, 4)
    assert pool.leases() == 4 and pool.waited() == 0
    for run in pool.runs:
        assert records.read_run(pool.folder / "runs" / run)["machine"]["processes"] == 2
