"""Models, data, optimizers and schedules of the user's own: wrong ones end in one check, right ones run once."""

import re
import shutil

import numpy as np
import pytest
from rangefinder import records
from workplace import ROOT, Workplace

STUDY = """
title: My own parts
dataset: {name: digits, validation: 100, train_samples: 200, test_samples: 50}
model: {name: ../own.py:good}
run: {batch_size: 50, epochs: 1, lr: 0.1}
seeds: [0]
optimizers: {sgd: {name: SGD, momentum: 0.9}}
schedules: {none: {name: none}}
range_tests: {sgd: {optimizer: sgd, start_lr: 1e-3, end_lr: 1, steps_per_decade: 10}}
sweeps: {main: {grid: {optimizer: [sgd], schedule: [none]}}}
"""

OWN = """
import numpy as np
import torch
from torch import nn

def good(input_shape, classes):
    channels, height, width = input_shape
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * height * width, classes))

def wrong_shape(input_shape, classes):
    return nn.Conv2d(input_shape[0], classes, 3)

def wrong_dtype(input_shape, classes):
    return good(input_shape, classes).double()

def wrong_classes(input_shape, classes):
    return good(input_shape, 1000)

def no_gradient(input_shape, classes):
    return good(input_shape, classes).requires_grad_(False)

def no_module(input_shape, classes):
    return lambda images: images

def raises(input_shape, classes):
    return torch.load("weights.pt")

def wrong_signature():
    return nn.Identity()

size = 8

def labels_as_numbers():
    images = np.zeros((20, 8, 8), np.uint8)
    return images, np.linspace(0, 1, 20), images, np.linspace(0, 1, 20)

def data_that_raise():
    return open("nowhere.bin")

def slow_start(base_lr, steps, steps_per_epoch, share=0.5):
    rise = max(1, int(share * steps))
    return [base_lr * min(1, (step + 1) / rise) for step in range(steps)]

def endless(base_lr, steps, steps_per_epoch):
    return [base_lr] * (steps + 1)

def adadelta(parameters, lr, rho=0.9):
    return torch.optim.Adadelta(parameters, lr, rho=rho)

def half(parameters, lr):
    return torch.optim.SGD(parameters[:1], lr)
"""


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A folder in which the data are prepared, as on any run after the first."""
    made = Workplace.make(tmp_path_factory.mktemp("prepared"), STUDY)
    (made.folder / "config/own.py").write_text(OWN)
    made.snakemake("results/data/digits/dataset.json")
    return made.folder


MESSAGES = {
    "wrong_shape": "model: Conv2d returns logits of a wrong shape (got [2, 10, 6, 6]); allowed: [batch, 10], one "
    "logit per class",
    "wrong_dtype": "model: fails on a batch [2, 1, 8, 8] (RuntimeError: mat1 and mat2 must have the same dtype, "
    "but got Float and Double) (got 'Sequential')",
    "wrong_classes": "model: Sequential returns logits of a wrong shape (got [2, 1000]); allowed: [batch, 10], one "
    "logit per class",
    "no_gradient": "model: Sequential has no parameter that a gradient reaches",
    "no_module": "model.name: does not return a torch.nn.Module (got 'config/studies/../own.py:no_module')",
    "raises": "model: FileNotFoundError: [Errno 2] No such file or directory: 'weights.pt' (got {",
    "wrong_signature": "model: TypeError: wrong_signature() takes 0 positional arguments but 2 were given (got {",
    "size": "config/studies/../own.py: model.name: no such function (got 'size'); allowed: good, ",
    "missing": "config/studies/../own.py: model.name: no such function (got 'missing')",
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        *((("own.py:good", f"own.py:{name}"), message) for name, message in MESSAGES.items()),
        (
            ("name: SGD, momentum: 0.9", "name: ../own.py:half"),
            "optimizer.name: leaves out 1 of the model's 2 tensors (got 'config/studies/../own.py:half')",
        ),
        (
            ("name: none}}", "name: ../own.py:endless}}"),
            "config/studies/../own.py: schedule.name: returns LRs of a wrong shape (got (5,)); allowed: one number "
            "from 0 for each of the 4 steps",
        ),
    ],
    ids=[*MESSAGES, "optimizer", "schedule"],
)
def test_a_wrong_factory_is_found_in_one_check_before_any_job(prepared, tmp_path, change, message):
    shutil.copytree(prepared, tmp_path / "copy")
    made = Workplace(tmp_path / "copy")
    made.edit(*change)
    output = made.snakemake(code=1)
    errors = [line for line in output.splitlines() if "error: " in line]
    assert len(errors) == 1 and f"error: config/studies/small.yaml: {message}" in errors[0], output
    assert not (made.folder / "results/small/runs").exists()
    if change[0] != "name: none}}":  # a range test has no schedule: it has a check of its own and may go
        assert not (made.folder / "results/small/lr_range").exists()
        assert not list((made.folder / "results/small").glob("checks/*"))


DATA_MESSAGES = {
    "labels_as_numbers": "labels of this kind cannot be used (got 'float64 [20]'); allowed: integers [N]",
    "data_that_raise": "dataset.name: FileNotFoundError: [Errno 2] No such file or directory: 'nowhere.bin'",
}


@pytest.mark.parametrize("name", DATA_MESSAGES)
def test_wrong_data_end_in_one_line_before_any_job(tmp_path, name):
    made = Workplace.make(
        tmp_path,
        STUDY.replace(
            "name: digits, validation: 100, train_samples: 200, test_samples: 50", f"name: ../own.py:{name}"
        ),
    )
    (made.folder / "config/own.py").write_text(OWN)
    output = made.snakemake("results/small/runs/sgd-none-bs50-seed0/run.json", code=1)
    errors = [line for line in output.splitlines() if "error: " in line]
    assert (
        len(errors) == 1 and "config/studies/../own.py: " in errors[0] and DATA_MESSAGES[name] in errors[0]
    ), output
    assert not (made.folder / "results/small/runs").exists()


def test_sizes_that_own_data_do_not_have_end_in_one_line_before_any_job(tmp_path):
    made = Workplace.make(
        tmp_path,
        STUDY.replace(
            "name: digits, validation: 100, train_samples: 200, test_samples: 50", "name: npz, path: d.npz"
        )
        .replace("../own.py:good", "LeNetSmall")
        .replace("batch_size: 50", "batch_size: 100000"),
    )
    images = np.zeros((100, 8, 8), np.uint8)
    np.savez(made.folder / "config/studies/d.npz", images=images, labels=np.arange(100) % 5)
    output = made.snakemake(code=1)
    errors = [line for line in output.splitlines() if "error: " in line]
    said = "batch_size: batch larger than the training set (got 100000); allowed: 1 to 80 (training samples)"
    assert len(errors) == 1 and f"error: config/studies/small.yaml: {said}" in errors[0], output
    assert not any((made.folder / "results/small" / part).exists() for part in ("runs", "lr_range"))


def test_the_page_says_what_is_read():
    page = (ROOT / "docs/how-to/bring-your-own.md").read_text().split("## What a wrong one says")[1]
    said = re.findall(r"^\| [^|]* \| `(model.*?)`", page, re.MULTILINE)
    assert len(said) == 6
    for text in said:
        assert any(
            text in message.replace("config/studies/../own.py: ", "") for message in MESSAGES.values()
        ), text


def test_right_parts_run_and_are_known_by_their_source(prepared, tmp_path):
    shutil.copytree(prepared, tmp_path / "copy")
    made = Workplace(tmp_path / "copy")
    made.edit("sgd: {name: SGD, momentum: 0.9}", "own: {name: ../own.py:adadelta, rho: 0.8}")
    made.edit("range_tests: {sgd: {optimizer: sgd", "range_tests: {own: {optimizer: own")
    made.edit("none: {name: none}}", "own: {name: ../own.py:slow_start}}")
    made.edit("optimizer: [sgd], schedule: [none]", "optimizer: [own], schedule: [own]")
    one, other = (f"results/small/runs/{name}-own-bs50-seed0/run.json" for name in ("own", "other"))
    made.snakemake(one)
    run = records.read_run((made.folder / one).parent)
    assert run["steps"]["lr"] == pytest.approx([0.05, 0.1, 0.1, 0.1])
    assert all(
        len(run["run"]["parameters"][part]["source_digest"]) == 64
        for part in ("model", "optimizer", "schedule")
    )

    # One more optimizer of one's own: it alone is checked and trained.
    made.edit("rho: 0.8}}", "rho: 0.8}, other: {name: ../own.py:adadelta}}")
    made.edit("optimizer: [own], schedule", "optimizer: [own, other], schedule")
    assert made.planned(one, other) == ["check_parts", "train other-own-bs50-seed0"]

    # Another source is another model.
    path = made.folder / "config/own.py"
    path.write_text(path.read_text() + "\n# a change\n")
    assert made.planned(one) == ["check_parts", "train own-own-bs50-seed0"]


def test_a_study_of_built_in_parts_has_no_check(finished):
    assert not (finished.folder / "results/small/checks").exists()
