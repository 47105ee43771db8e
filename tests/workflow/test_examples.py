"""The example studies, a run of each kind of part, in one Snakemake; the tutorial's is run by its own test."""

import struct
import subprocess
import sys

import numpy as np
import pages
from rangefinder import records, study
from workplace import ROOT, Workplace

# A run of each study that shows the part which it is about.
RUNS = {
    "image-folder": "sgd-cosine-bs50-seed0",
    "torch-datasets": "sgd-constant-bs50-seed0",
    "torchvision-model": "sgd-constant-bs50-seed0",
    "own-optimizer": "mine-constant-bs50-seed0",
    "own-schedule": "sgd-trapezoid-bs50-seed0",
    "by-name": "rmsprop-cosine-bs64-seed0",
}


def make_kmnist(folder, count):
    """The files of torchvision's KMNIST with pictures as bright as their class, so that nothing is downloaded."""
    folder.mkdir(parents=True)
    generator = np.random.default_rng(0)
    labels = (np.arange(count) % 10).astype(np.uint8)
    images = (20 * labels[:, None, None] + generator.integers(0, 20, (count, 28, 28))).astype(np.uint8)
    for part in ("train", "t10k"):
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            header = struct.pack(f">BBBB{array.ndim}i", 0, 0, 8, array.ndim, *array.shape)
            (folder / f"{part}-{kind}-ubyte").write_bytes(header + array.tobytes())


def test_every_kind_of_part_trains(tmp_path):
    place = Workplace(pages.checkout(tmp_path / "rangefinder", ROOT))
    subprocess.run([sys.executable, "make_shapes.py"], cwd=place.folder / "config/examples", check=True)
    results = {name: place.folder / f"results/{name}-trial/runs/{run}" for name, run in RUNS.items()}
    targets = [str((path / "run.json").relative_to(place.folder)) for path in results.values()]
    make_kmnist(tmp_path / "data/KMNIST/raw", count=2000)
    trial = "trial={epochs: 2, seeds: 1, train_samples: 200, steps_per_decade: 10}"
    config = [f"studies=[{','.join(RUNS)}]", "studies_dir=config/examples", trial]
    config += [f"data_dir={tmp_path / 'data'}", "download=false"]
    place.snakemake(*targets, "--config", *config)
    for name, path in results.items():
        record = records.read_run(path)
        assert record["run"]["status"] == "completed" and len(record["epochs"]["epoch"]) == 2
        losses = record["epochs"]["test_loss"]  # of all samples: that of one batch is too noisy to tell
        # Eight steps are few for a deep network with batch normalisation.
        assert losses[-1] < losses[0] or (name == "torchvision-model" and losses[-1] != losses[0]), path
    steps = records.read_run(results["own-schedule"])["steps"]["lr"]
    assert len(steps) == 8 and steps[0] == steps[-1] == 0.05 and steps[3] == 0.1
    # The middle of a cosine from 0.001 to 0.00001.
    lr = records.read_run(results["by-name"])["steps"]["lr"]
    assert len(lr) == 8 and lr[0] == 1e-3 and abs(lr[4] - 5.05e-4) < 1e-12


def test_every_example_is_a_good_study_and_on_the_page(tmp_path):
    place = pages.checkout(tmp_path / "rangefinder", ROOT)
    subprocess.run([sys.executable, "make_shapes.py"], cwd=place / "config/examples", check=True)
    found = study.find(place / "config/examples")
    assert set(found) == {*RUNS, "own-model", "batch-sizes-with-lars"}
    text = "".join(path.read_text() for path in (ROOT / "docs/how-to").glob("*.md"))
    for name, path in found.items():
        assert len(study.load(path).runs) >= 4
        assert f"{name}.yaml" in text
