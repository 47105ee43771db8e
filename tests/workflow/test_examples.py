"""The example studies, a run of each kind of part, in one Snakemake; the tutorial's is run by its own test."""

import subprocess
import sys

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
}


def test_every_kind_of_part_trains(tmp_path):
    place = Workplace(pages.checkout(tmp_path / "rangefinder", ROOT))
    subprocess.run([sys.executable, "make_shapes.py"], cwd=place.folder / "config/examples", check=True)
    results = {name: place.folder / f"results/{name}-trial/runs/{run}" for name, run in RUNS.items()}
    targets = [str((path / "run.json").relative_to(place.folder)) for path in results.values()]
    trial = "trial={epochs: 2, seeds: 1, train_samples: 200, steps_per_decade: 10}"
    config = [f"studies=[{','.join(RUNS)}]", "studies_dir=config/examples", trial]
    place.snakemake(*targets, "--config", *config)
    for name, path in results.items():
        record = records.read_run(path)
        assert record["run"]["status"] == "completed" and len(record["epochs"]["epoch"]) == 2
        losses = record["steps"]["loss"]
        # Eight steps are few for a deep network with batch normalisation.
        assert losses[-1] < losses[0] or (name == "torchvision-model" and losses[-1] != losses[0]), path
    steps = records.read_run(results["own-schedule"])["steps"]["lr"]
    assert len(steps) == 8 and steps[0] == steps[-1] == 0.05 and steps[3] == 0.1


def test_every_example_is_a_good_study_and_on_the_page(tmp_path):
    place = pages.checkout(tmp_path / "rangefinder", ROOT)
    subprocess.run([sys.executable, "make_shapes.py"], cwd=place / "config/examples", check=True)
    found = study.find(place / "config/examples")
    assert set(found) == {*RUNS, "own-model", "batch-sizes-with-lars"}
    text = "".join(path.read_text() for path in (ROOT / "docs/how-to").glob("*.md"))
    for name, path in found.items():
        assert len(study.load(path).runs) >= 4
        assert f"{name}.yaml" in text
