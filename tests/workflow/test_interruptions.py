"""What Snakemake and its jobs do when Snakemake is started twice, interrupted or killed, and what is left then."""

import os
import re
import signal
import time
from pathlib import Path

from long_run import RECORD, RUN, STUDY, TRAINING, status, wait_for, wait_for_row
from workplace import Workplace


def left_by_snakemake(folder):
    """Locks, copies of scripts and sessions in .snakemake."""
    kinds = ("locks/*", "scripts/tmp*", "rangefinder/*.session")
    return sorted(path.name for kind in kinds for path in (folder / ".snakemake").glob(kind))


def test_a_second_workflow_is_refused_and_ctrl_c_ends_the_first_with_a_checkpoint(tmp_path, in_background):
    place = Workplace.make(tmp_path, STUDY)
    first = in_background(place)
    wait_for_row(place, TRAINING)
    said = place.snakemake(RECORD, code=1)
    assert "LockException:" in said and "Error: Directory cannot be locked." in said
    assert re.search(TRAINING, status(place), re.MULTILINE)

    first.press_ctrl_c()
    said = first.ended(code=1)
    assert "Traceback" not in said
    assert "error: stopped by SIGINT after step" in said
    wait_for_row(
        place, rf"^{RUN} +interrupted +stopped by SIGINT after step \d+ of 125000; a checkpoint is kept$"
    )
    assert left_by_snakemake(tmp_path) == []


def test_a_killed_snakemake_is_in_nobodys_way_and_one_told_to_end_lets_its_jobs_finish(
    tmp_path, in_background
):
    place = Workplace.make(tmp_path, STUDY)
    first = in_background(place)
    job = int(wait_for_row(place, TRAINING)[4])
    os.kill(first.process.pid, signal.SIGKILL)
    first.ended(code=-signal.SIGKILL)
    wait_for_row(
        place, rf"^{RUN} +interrupted +stopped by SIGTERM after step \d+ of 125000; a checkpoint is kept$"
    )
    wait_for(lambda: not Path(f"/proc/{job}").exists())
    assert len(left_by_snakemake(tmp_path)) >= 3

    second = in_background(place)
    job = int(wait_for_row(place, TRAINING)[4])
    assert (
        "continuing from the checkpoint at step"
        in (tmp_path / f"results/small/logs/train/{RUN}.log").read_text()
    )
    os.kill(second.process.pid, signal.SIGTERM)
    wait_for(lambda: "Will exit after finishing currently running jobs" in second.output.read_text())
    time.sleep(1)
    assert Path(f"/proc/{job}").exists() and second.process.poll() is None
    os.kill(job, signal.SIGTERM)
    second.ended(code=1)
    assert left_by_snakemake(tmp_path) == []
