"""The end of a process that trained with others: it says how it ended, and waits for nothing that Python does then."""

import json
import os
import subprocess
import sys

import pytest
from workplace import ROOT

# What torch does to a group of processes at Python's end can wait for ever; here it is something that does each time.
PROCESS = """
import atexit, sys, time
sys.path.insert(0, sys.argv[1])
from rangefinder import process
from rangefinder.errors import RunError

def train(*arguments):
    atexit.register(time.sleep, 600)
    print("trained", end="")
    ending = sys.argv[3]
    if ending == "interrupted":
        error = RunError("stopped by SIGTERM")
        error.status = ending
        raise error
    if ending == "failed":
        raise ValueError("no such thing")

process._train = train
process.main(sys.argv[2])
"""


@pytest.mark.parametrize(("ending", "code"), [("finished", 0), ("interrupted", 0), ("failed", 1)])
def test_a_process_ends_at_once_and_says_how(ending, code, tmp_path):
    job = {"job": {}, "parent": os.getpid(), "seconds": {}, "started": 0.0, "log": str(tmp_path / "log")}
    (tmp_path / "job.json").write_text(json.dumps(job))
    done = subprocess.run(
        [sys.executable, "-c", PROCESS, str(ROOT / "workflow/scripts"), str(tmp_path), ending],
        env={**os.environ, "RANK": "0", "WORLD_SIZE": "2"},
        stdout=subprocess.PIPE,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == code
    assert done.stdout == "trained"  # what was written is not lost
    assert json.loads((tmp_path / "reports/0.json").read_text())["status"] == ending
    assert ("no such thing" in (tmp_path / "log").read_text()) == (ending == "failed")
