"""Kept runs in other arithmetic, against those with the same seed in full precision, and what the docs say of them."""

import csv
import gzip
import hashlib
from itertools import product

import numpy as np
import pytest
from rangefinder import records
from workplace import ROOT

GALLERY = ROOT / "docs/gallery"
CPU, H200 = GALLERY / "precision-digits-cpu", GALLERY / "nvidia-h200/precision-mnist"
PAGE = (ROOT / "docs/performance.md").read_text()
STEPS = 580  # 20 epochs of 29 batches
FIRST = (1, 10, 100, STEPS)
ON_CPU = {
    "fp32": "-channels_lastFalse",
    "fp32, `channels_last`": "",
    "fp32, `channels_last`, `compile`": "-compileTrue",
    "bf16": "-precisionbf16-channels_lastFalse",
    "bf16, `channels_last`": "-precisionbf16",
}
ON_H200 = {
    "`cuda_graph: false`": "-cuda_graphFalse",
    "`channels_last`": "-channels_lastTrue",
    "tf32": "-precisiontf32",
    "bf16": "-precisionbf16",
    "bf16, `channels_last`": "-precisionbf16-channels_lastTrue",
}


def record(folder, batch, setting, seed):
    """A kept run's record, held against its own checksum."""
    return records.read_json(folder / f"runs/adam-none-bs{batch}{setting}-seed{seed}/run.json", "run")


def loss(setting, seed):
    """The loss of every step of a run on the CPU, from the bytes that its record names."""
    content = (CPU / f"runs/adam-none-bs50{setting}-seed{seed}/steps.csv.gz").read_bytes()
    steps = gzip.decompress(content)
    assert hashlib.sha256(steps).hexdigest() == record(CPU, 50, setting, seed)["files"]["steps.csv"]
    return np.array([float(step["loss"]) for step in csv.DictReader(steps.decode().splitlines())])


def row(name, numbers):
    return f"| {name} | " + " | ".join(f"{number:.2g}" for number in numbers) + " |"


@pytest.fixture(scope="module")
def apart():
    """Largest difference from the loss in fp64 with the same seed, over three seeds, by setting: of the first steps."""
    found = {}
    for name, setting in ON_CPU.items():
        differences = [abs(loss(setting, seed) - loss("-precisionfp64", seed)) for seed in range(3)]
        assert {len(each) for each in differences} == {STEPS}
        found[name] = [max(each[:first].max() for each in differences) for first in FIRST]
    return found


def test_every_step_on_a_cpu_is_within_its_precision(apart):
    """A step rounds to 6e-8 or 4e-3 of a value: no loss of all 580 is further off than ten times or once that."""
    for name, differences in apart.items():
        assert 0 < differences[-1] < (2**-24 * 10 if name.startswith("fp32") else 2**-8), name
        assert name.startswith("fp32") or differences[-1] > 2**-12, name  # reduced in fact, not in name


def test_the_docs_have_the_differences_on_a_cpu(apart):
    for name, differences in apart.items():
        assert row(name, differences) in PAGE, row(name, differences)


def test_runs_on_the_h200_end_within_their_precision():
    """The final test losses against fp32's with the same seed; capturing the step in a graph changes nothing at all."""

    def final(setting, seed):
        return record(H200, 128, setting, seed)["results"]["final_test_loss"]

    for name, setting in ON_H200.items():
        found = [abs(final(setting, seed) - final("", seed)) for seed in range(3)]
        assert row(name, found) in PAGE, row(name, found)
    assert all(final("-cuda_graphFalse", seed) == final("", seed) for seed in range(3))


@pytest.mark.parametrize(("folder", "settings"), [(CPU, ON_CPU), (H200, ON_H200)])
def test_seeds_data_and_all_other_settings_are_the_same(folder, settings):
    batch = 50 if folder is CPU else 128
    for setting, seed in product(settings.values(), range(3)):
        found, other = record(folder, batch, setting, seed), record(folder, batch, "", seed)
        assert found["status"] == "completed"
        assert found["provenance"] == other["provenance"]
        changed = {key for key in found["parameters"] if found["parameters"][key] != other["parameters"][key]}
        assert changed <= {"precision", "channels_last", "compile", "cuda_graph"}
        assert len(changed) == setting.count("-")


@pytest.mark.parametrize("seed", range(3))
def test_runs_on_a_cpu_were_kept_in_the_format_that_they_are_shown_for(seed):
    formats = {}
    for name, setting in {**ON_CPU, "fp64": "-precisionfp64"}.items():
        folder = CPU / f"runs/adam-none-bs50{setting}-seed{seed}"
        formats[name] = records.read_json(folder / "machine.json", "machine")["channels_last"]
    assert formats == {name: "channels_last" in name for name in formats}


def test_differences_are_seen():
    """The oracle itself: another seed's losses are far outside of what is allowed."""
    assert abs(loss("", 0) - loss("", 1)).max() > 0.1
    assert np.array_equal(loss("", 0), loss("", 0))
