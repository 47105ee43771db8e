"""How far a study is while Snakemake runs, after a job was killed, and when all is done."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time

from workplace import ROOT, Workplace

LONG = """
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


def status(place, *arguments, code=0):
    command = [sys.executable, str(ROOT / "workflow/scripts/status.py"), *arguments]
    done = subprocess.run(command, cwd=place.folder, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    return done.stdout + done.stderr


def wait_for_row(place, pattern, seconds=120.0):
    deadline = time.monotonic() + seconds
    while not (found := re.search(pattern, text := status(place), re.MULTILINE)):
        assert time.monotonic() < deadline, text
        time.sleep(0.5)
    return found


def begin(place):
    command = [sys.executable, "-m", "snakemake", "-s", str(ROOT / "Snakefile"), "--cores", "1"]
    command += ["--workflow-profile", str(ROOT / "profiles/default"), f"results/small/runs/{RUN}/run.json"]
    variables = {**os.environ, "RANGEFINDER_FAKE_GPUS": "0"}
    return subprocess.Popen(command, cwd=place.folder, env=variables, stderr=subprocess.DEVNULL)


def test_a_run_is_followed_then_killed_then_interrupted(tmp_path):
    place = Workplace.make(tmp_path, LONG)
    assert status(place) == "no study was begun in results\n"
    snakemake = begin(place)
    row = rf"^{RUN} +training +(\d+)/5000 +(\d+)/125000 +[0-9.e-]+ +(\d+:)+\d\d +\S+, process (\d+)$"
    first = wait_for_row(place, row)
    later = wait_for_row(place, row.replace(r"(\d+)/125000", rf"((?!{first[2]}/)\d+)/125000"))
    assert int(later[2]) > int(first[2])
    assert "runs:          0 of 1 done, 1 training" in status(place)

    os.kill(int(first[4]), signal.SIGKILL)
    wait_for_row(place, rf"^{RUN} +killed ")
    assert snakemake.wait(60) == 1

    snakemake = begin(place)
    process = int(wait_for_row(place, row)[4])
    os.kill(process, signal.SIGTERM)
    wait_for_row(
        place, rf"^{RUN} +interrupted +stopped by SIGTERM after step \d+ of 125000; a checkpoint is kept$"
    )
    assert snakemake.wait(60) == 1
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
