"""A run on several devices as a job has it: torchrun's processes, signals, deaths, and the record they leave."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from rangefinder import data, records
from test_training import spec

ROOT = Path(__file__).resolve().parents[2]

JOB = """
import json, logging, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import torch
torch.set_num_threads(1)
from rangefinder import training
from rangefinder.errors import RunError
folder = Path(sys.argv[4])
folder.mkdir(exist_ok=True)
logging.basicConfig(level=logging.INFO, handlers=[logging.FileHandler(folder / "log")])
try:
    training.run(json.loads(sys.argv[2]), lr_range=None, data_folder=sys.argv[3], folder=folder / "run",
                 checkpoint_folder=folder / "checkpoints", notes_folder=folder / "notes", leased=int(sys.argv[5]))
except RunError as error:
    sys.exit(f"error: {error}")
"""


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "digits"
    data.prepare({"name": "digits"}, folder)
    return folder


def start(digits, folder: Path, epochs: int, leased: int, **changes) -> subprocess.Popen:
    model = {"name": "BNCNN", "widths": [4, 4, 4]}
    job = json.dumps(spec(**{"precision": "fp64", "epochs": epochs, "model": model} | changes))
    scripts = str(ROOT / "workflow/scripts")
    return subprocess.Popen(
        [sys.executable, "-c", JOB, scripts, job, str(digits), str(folder), str(leased)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def alive(process: int) -> bool:
    """Whether it runs: nobody may have collected a dead one yet."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def children(parent: int) -> dict[int, int]:
    """Process ids of the parent's children, by their rank."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            status = (path / "status").read_text()
            environment = (path / "environ").read_bytes().decode().split("\0")
        except OSError:
            continue
        if re.search(rf"^PPid:\s+{parent}$", status, re.M):
            ranks = [int(entry.removeprefix("RANK=")) for entry in environment if entry.startswith("RANK=")]
            found |= {rank: int(path.name) for rank in ranks}
    return found


def until_it_trains(job: subprocess.Popen, folder: Path) -> dict[int, int]:
    """Wait for the first epoch's end; the processes by rank."""
    for _ in range(3000):
        if (folder / "log").exists() and "epoch 1/" in (folder / "log").read_text():
            return children(job.pid)
        assert job.poll() is None, job.communicate()
        time.sleep(0.1)
    raise TimeoutError("no epoch was trained")


def test_a_run_on_two_devices_that_is_killed_stopped_and_continued(digits, tmp_path):
    epochs = 60
    job = start(digits, tmp_path / "two", epochs, 2)
    processes = until_it_trains(job, tmp_path / "two")
    assert sorted(processes) == [0, 1]
    os.kill(processes[1], signal.SIGKILL)
    _, errors = job.communicate(timeout=300)
    assert job.returncode == 1
    assert errors.strip() == (
        "error: process 1 of 2 (counted from 0) was ended by SIGKILL; the others were stopped"
    )
    assert not (tmp_path / "two/run").exists() and not alive(processes[0])
    note = records.read_json(tmp_path / "two/notes/r.json", "unfinished")
    assert note["status"] == "failed" and "process 1 of 2" in note["cause"]

    (tmp_path / "two/log").unlink()
    job = start(digits, tmp_path / "two", epochs, 2)
    processes = until_it_trains(job, tmp_path / "two")
    job.terminate()
    _, errors = job.communicate(timeout=300)
    stopped = re.fullmatch(r"error: stopped by SIGTERM after step (\d+) of 240\n", errors)
    assert stopped and 4 <= int(stopped[1]) < 240, errors
    assert not any(alive(process) for process in processes.values())
    assert records.read_json(tmp_path / "two/notes/r.json", "unfinished")["status"] == "interrupted"

    for folder, leased in ((tmp_path / "two", 2), (tmp_path / "one", 1)):
        job = start(digits, folder, epochs, leased)
        _, errors = job.communicate(timeout=300)
        assert job.returncode == 0, errors
    two, one = (records.read_run(tmp_path / name / "run") for name in ("two", "one"))
    assert (two["machine"]["processes"], one["machine"]["processes"]) == (2, 1)
    assert (two["machine"]["resumed"], one["machine"]["resumed"]) == (1, 0)
    for table in ("steps", "epochs"):
        for column, values in one[table].items():
            np.testing.assert_allclose(two[table][column], values, rtol=1e-9, err_msg=column)
    same = ("parameters", "digest", "spec_digest", "status", "steps", "samples", "model_parameters", "lr")
    assert {key: two["run"][key] for key in same} == {key: one["run"][key] for key in same}
    assert sorted(path.name for path in (tmp_path / "two").iterdir()) == ["log", "run"]


def test_the_processes_die_with_a_job_that_is_killed_outright(digits, tmp_path):
    job = start(digits, tmp_path, 1000, 2)
    processes = until_it_trains(job, tmp_path)
    job.kill()
    job.wait()
    deadline = time.monotonic() + 30
    while any(alive(process) for process in processes.values()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert len(processes) == 2 and not (tmp_path / "run").exists()


# Signals process 1 alone when it evaluates and a file is there: the others know nothing of it.
SIGNALLED = """
import os, signal
from pathlib import Path
from torch import nn

HERE = Path(__file__).parent

class Net(nn.Module):
    def __init__(self, inputs, classes):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(inputs, 8), nn.BatchNorm1d(8), nn.Linear(8, classes))

    def forward(self, x):
        if not self.training and os.environ["RANK"] == "1" and (HERE / "signal").exists():
            (HERE / "signal").unlink()
            os.kill(os.getpid(), signal.SIGTERM)
        return self.layers(x)

def net(input_shape, classes):
    return Net(input_shape[0] * input_shape[1] * input_shape[2], classes)
"""


def test_one_process_that_is_told_to_stop_while_it_evaluates_stops_all_and_loses_nothing(digits, tmp_path):
    (tmp_path / "own.py").write_text(SIGNALLED)
    model = {"name": f"{tmp_path}/own.py:net"}
    for name in ("whole", "stopped"):
        if name == "stopped":
            (tmp_path / "signal").touch()
            job = start(digits, tmp_path / name, 2, 2, model=model)
            _, errors = job.communicate(timeout=300)
            assert (job.returncode, errors) == (1, "error: stopped by SIGTERM after step 4 of 8\n")
        job = start(digits, tmp_path / name, 2, 2, model=model)
        _, errors = job.communicate(timeout=300)
        assert job.returncode == 0, errors
    for name in ("run.json", "epochs.csv", "steps.csv"):
        assert (tmp_path / "stopped/run" / name).read_bytes() == (
            tmp_path / "whole/run" / name
        ).read_bytes(), name
