"""How far a study is while Snakemake runs, after a job was killed, and when all is done."""

import os
import shutil
import signal

from long_run import RUN, STUDY, TRAINING, status, wait_for_row
from workplace import Workplace


def test_a_run_is_followed_then_killed_then_interrupted(tmp_path, in_background):
    place = Workplace.make(tmp_path, STUDY)
    assert status(place) == "no study was begun in results\n"
    snakemake = in_background(place)
    first = wait_for_row(place, TRAINING)
    later = wait_for_row(place, TRAINING.replace(r"(\d+)/125000", rf"((?!{first[2]}/)\d+)/125000"))
    assert int(later[2]) > int(first[2])
    assert "runs:          0 of 1 done, 1 training" in status(place)

    os.kill(int(first[4]), signal.SIGKILL)
    wait_for_row(place, rf"^{RUN} +killed ")
    snakemake.ended(code=1)

    snakemake = in_background(place)
    process = int(wait_for_row(place, TRAINING)[4])
    os.kill(process, signal.SIGTERM)
    wait_for_row(
        place, rf"^{RUN} +interrupted +stopped by SIGTERM after step \d+ of 125000; a checkpoint is kept$"
    )
    snakemake.ended(code=1)
    assert not (tmp_path / "results/small/progress/train").exists()


def test_a_finished_study_is_done_wherever_its_results_are(copy, tmp_path):
    shutil.rmtree(copy.folder / ".snakemake")
    moved = tmp_path / "elsewhere"
    shutil.move(copy.folder / "results", moved)
    text = status(copy, "--results", str(moved), "small")
    assert "range tests:   2 of 2 done\n" in text and "runs:          6 of 6 done\n" in text
    assert len(text.strip().splitlines()) == 3
    assert "no such study was begun here (got 'smal'); did you mean 'small'?" in status(
        copy, "--results", str(moved), "smal", code=1
    )
