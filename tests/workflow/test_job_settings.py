"""What a job sets before it computes, as torch in that job finds it: threads, and how memory is kept."""

import json

import pytest
from workplace import Workplace

STUDY = """
title: What a job sets
dataset: {name: digits, train_samples: 20, test_samples: 10}
model: {name: ../telling.py:network}
run: {batch_size: 10, epochs: 1, lr: 0.1}
seeds: [0]
optimizers: {sgd: {name: SGD}}
schedules: {none: {name: none}}
sweeps: {main: {grid: {optimizer: [sgd], schedule: [none]}}}
"""
# Blocks of both sizes are mapped by glibc's defaults, and given back when they are freed.
TELLING = """
import ctypes
import json
from pathlib import Path

import torch

class Memory(ctypes.Structure):  # struct mallinfo2 of malloc.h
    names = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"
    _fields_ = [(name, ctypes.c_size_t) for name in names.split()]

def memory():
    about = ctypes.CDLL(None).mallinfo2
    about.restype = Memory
    return about()

def network(input_shape, classes):
    told = {"threads": torch.get_num_threads()}
    if hasattr(ctypes.CDLL(None), "mallinfo2"):
        before = memory()
        block = torch.empty(2**26, dtype=torch.uint8)
        told["mapped"] = memory().hblkhd - before.hblkhd
        del block
        told["kept"] = memory().arena - before.arena
    Path(__file__).with_name("told.json").write_text(json.dumps(told))
    channels, height, width = input_shape
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(channels * height * width, classes))
"""


def test_a_job_has_the_threads_it_was_given_and_keeps_the_memory_it_frees(tmp_path):
    place = Workplace.make(tmp_path, STUDY)
    (tmp_path / "config/telling.py").write_text(TELLING)
    run = "results/small/runs/sgd-none-bs10-seed0"
    # Neither what the environment says nor, on most machines, torch's own choice.
    place.snakemake(f"{run}/run.json", "--set-threads", "train=3", "--cores", "3", OMP_NUM_THREADS="1")
    told = json.loads((tmp_path / "config/told.json").read_text())
    assert told["threads"] == 3
    assert json.loads((tmp_path / run / "machine.json").read_text())["environment"]["threads"] == 3
    if "mapped" not in told:
        pytest.skip("no glibc that tells what is mapped")
    assert told["mapped"] == 0 and told["kept"] > 2**25  # what was free before is used first
