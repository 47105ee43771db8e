"""What is around every rule's script: a signal ends it in one line, wherever it is."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "workflow/scripts"
SETUP = """
import os, signal, sys, time
from pathlib import Path
from types import SimpleNamespace
sys.path.insert(0, sys.argv[1])
import job
number = int(sys.argv[2])
snakemake = SimpleNamespace(rule="r", threads=1, log=["log"], input=[], config={})
"""
BLOCK = """
try:
    with job.job(snakemake):
        try:
            os.kill(os.getpid(), number)
            time.sleep(30)
        finally:
            os.kill(os.getpid(), number)  # passed on a second time while it clears up
            Path("cleared").touch()
except SystemExit:
    os.kill(os.getpid(), number)
    raise
"""
BEFORE = "os.kill(os.getpid(), number); time.sleep(30)"
AFTER = """
with job.job(snakemake):
    pass
os.kill(os.getpid(), number)
"""


def run(code: str, number: int, folder: Path) -> tuple[int, str]:
    ended = subprocess.run(
        [sys.executable, "-c", SETUP + code, str(SCRIPTS), str(int(number))],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.stdout == ""
    return ended.returncode, ended.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_job_in_one_line(number, tmp_path):
    line = f"error: stopped by {number.name} before the job was done\n"
    assert run(BLOCK, number, tmp_path) == (128 + number, line)
    assert (tmp_path / "cleared").exists() and (tmp_path / "log").read_text().endswith(line)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_before_the_job_ends_it_in_one_line_and_one_after_it_changes_nothing(number, tmp_path):
    line = f"error: stopped by {number.name} before the job began\n"
    assert run(BEFORE, number, tmp_path) == (128 + number, line)
    assert os.listdir(tmp_path) == []
    assert run(AFTER, number, tmp_path) == (0, "")


RANGE_TEST = """
import runpy
from rangefinder import data, range_test
data.prepare({"name": "digits"}, Path("data"))
parameters = {"dataset": {"name": "digits"}, "model": {"name": "BNCNN", "widths": [4, 4, 4]}, "batch_size": 64,
    "optimizer": {"name": "SGD"}, "start_lr": 1e-5, "end_lr": 1.0, "steps_per_decade": 20}
steps = range_test._gradients
def stopped(*arguments, calls=[]):
    calls.append(None)
    if len(calls) == 5:
        os.kill(os.getpid(), number)
    return steps(*arguments)
range_test._gradients = stopped
class Named(SimpleNamespace):
    def get(self, name, default=None):
        return vars(self).get(name, default)
Path("s/logs/range_test").mkdir(parents=True)
values = SimpleNamespace(rule="range_test", threads=1, log=["s/logs/range_test/sgd.log"], resources={"gpu": 0},
    config={"jobs_per_gpu": 1, "device_wait_minutes": 0},
    params=Named(spec={"study": "s", "range_test": "sgd", "seed": 0, "parameters": parameters}),
    input=Named(data=["data/dataset.json"]), output=Named(sweep="s/lr_range/sgd/seed0/sweep.csv"))
runpy.run_path(str(Path(sys.argv[1]) / "range_test.py"), init_globals={"snakemake": values})
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_range_test_that_is_told_to_end_leaves_nothing_half_written(number, tmp_path):
    line = f"error: stopped by {number.name} before the job was done\n"
    assert run(RANGE_TEST, number, tmp_path) == (128 + number, line)
    assert [path.name for path in (tmp_path / "s").rglob("*") if path.is_file()] == ["sgd.log"]
    assert "Traceback" not in (tmp_path / "s/logs/range_test/sgd.log").read_text()
