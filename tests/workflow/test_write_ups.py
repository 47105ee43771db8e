"""The studies of the write-ups, shrunk, through the whole chain on the genuine MNIST and CIFAR-10."""

import shutil
from collections import Counter

import pandas as pd
import pytest
from genuine import FOLDER, needs_cifar10, needs_mnist
from rangefinder import records
from test_chain import digests
from workplace import ROOT, Workplace

DATA = (f"data_dir={FOLDER}", "download=false", "runs_per_job=20")
LARGE = 8192


def finish(place: Workplace, *names: str, trial: str) -> dict[str, dict]:
    """Run studies as trials to their reports; the records of their runs by name, each completed or diverged."""
    place.snakemake(*names, "--config", f"studies=[{','.join(names)}]", *DATA, f"trial={trial}")
    runs = {}
    for name in names:
        folder = place.folder / f"results/{name}-trial"
        planned = pd.read_csv(folder / "runs.csv")["run"]
        made = {run: records.read_run(folder / "runs" / run) for run in planned}
        shown = pd.read_csv(folder / "tables/runs.csv").set_index("run")["status"]
        assert dict(shown) == {run: record["run"]["status"] for run, record in made.items()}
        for page in ("report.html", "report.md"):
            text = (folder / page).read_text()
            assert "This is a trial" in text and "Not complete" not in text, folder / page
            assert "A trial answers none of them" in text  # the findings
        runs |= made
    for run, record in runs.items():
        divergence = record["run"]["divergence"]
        assert (divergence is None) == (record["run"]["status"] == "completed"), run
        assert len(record["steps"]["loss"]) == record["run"]["steps"], run
    return runs


@needs_mnist
def test_both_studies_of_lenet5_run_to_their_reports(tmp_path):
    place = Workplace(tmp_path)
    shutil.copytree(ROOT / "config", tmp_path / "config")
    trial = "{epochs: 2, seeds: 1, train_samples: 256, validation_samples: 64, test_samples: 100, steps_per_decade: 10}"
    runs = finish(place, "lenet5-mnist", "sgd-schedules", trial=trial)
    assert len(runs) == 3 + 4 * 3 + 5 * 3 + 4 + 4
    # As published nothing is set apart; put right, the LR is the one that was found.
    for run, record in runs.items():
        published = run.startswith("published-")
        assert record["run"]["samples"]["validation"] == (0 if published else 64)
        assert (record["run"]["lr"]["range_test"] is None) == published
    # Tables and pages are a pure function of the records.
    for name in ("lenet5-mnist", "sgd-schedules"):
        folder = place.folder / f"results/{name}-trial"
        before = digests(folder)
        shutil.rmtree(folder / "tables")
        (folder / "report.html").unlink()
        finish(place, "lenet5-mnist", "sgd-schedules", trial=trial)
        assert digests(folder) == before


@needs_cifar10
def test_five_attempts_at_all_batches_and_put_right_run_to_their_report(tmp_path):
    """The whole study in one run, on a small network with batch normalisation in place of ResNet-50."""
    place = Workplace(tmp_path)
    shutil.copytree(ROOT / "config", tmp_path / "config")
    file = tmp_path / "config/studies/lars-cifar10.yaml"
    text = file.read_text()
    for own, small in (
        ("name: ResNet50\n  stem: imagenet\n", "name: BNCNN\n  widths: [4, 8, 8]\n"),
        ("model: {stem: cifar, classes: 10}", "model: {classes: 10}"),
    ):
        assert own in text
        text = text.replace(own, small)
    file.write_text(text)
    trial = (
        "{epochs: 2, seeds: 1, train_samples: 160, validation_samples: 32, test_samples: 50, batch_divisor: 64"
        ", steps_per_decade: 2}"
    )
    runs = finish(place, "lars-cifar10", trial=trial)
    published = {
        run: record["run"]["parameters"] for run, record in runs.items() if run.startswith("attempt")
    }
    assert (len(runs), len(published)) == (119, 105)
    assert Counter(parameters["batch_size"] for parameters in published.values()) == {
        2 * 2**power: 15 for power in range(7)
    }
    # Three optimizers, from the same weights on the same batch; He initialisation from attempt 3 on.
    for number in range(1, 6):
        for size in (128 * 2**power for power in range(7)):
            three = [
                runs[f"attempt{number}-{optimizer}-attempt{number}-bs{size}-seed0"]
                for optimizer in ("sgd", "lars-writeup", "lars")
            ]
            assert len({record["steps"]["loss"][0] for record in three}) == 1
            initialised = {record["run"]["parameters"]["initialisation"] for record in three}
            assert initialised == {"default" if number < 3 else "kaiming_uniform_fan_in"}


@needs_cifar10
def test_five_attempts_at_the_largest_batch(tmp_path):
    """Batches of 8,192 become 128; the other six sizes of a cell differ in nothing else."""
    place = Workplace(tmp_path)
    shutil.copytree(ROOT / "config", tmp_path / "config")
    folder = tmp_path / "results/lars-cifar10-trial"
    trial = "trial={epochs: 2, seeds: 1, train_samples: 130, test_samples: 50, batch_divisor: 64}"
    config = ("--config", "studies=lars-cifar10", *DATA[:2], trial)
    names = {
        (number, optimizer): f"attempt{number}-{optimizer}-attempt{number}-bs{LARGE}-seed0"
        for number in range(1, 6)
        for optimizer in ("sgd", "lars-writeup", "lars")
    }
    place.snakemake(*(f"results/lars-cifar10-trial/runs/{run}/run.json" for run in names.values()), *config)
    runs = {cell: records.read_run(folder / "runs" / run) for cell, run in names.items()}
    for number in range(1, 6):
        three = [runs[number, optimizer] for optimizer in ("sgd", "lars-writeup", "lars")]
        assert {record["run"]["model_parameters"] for record in three} == {25_557_032}
        assert {record["run"]["steps_per_epoch"] for record in three} == {2}
        initialised = {record["run"]["parameters"]["initialisation"] for record in three}
        assert initialised == {"default" if number < 3 else "kaiming_uniform_fan_in"}
        # Three optimizers, from the same weights on the same batch.
        assert len({record["steps"]["loss"][0] for record in three}) == 1
        for record in three:
            assert record["run"]["status"] == ("diverged" if record["run"]["divergence"] else "completed")


@needs_cifar10
def test_large_batches_put_right_are_tried_though_so_short_a_sweep_finds_no_lr(tmp_path):
    place = Workplace(tmp_path)
    shutil.copytree(ROOT / "config", tmp_path / "config")
    folder = tmp_path / "results/lars-cifar10-trial"
    trial = "trial={epochs: 2, seeds: 1, train_samples: 24, validation_samples: 8, test_samples: 8, batch_divisor: 1024"
    config = ("--config", "studies=lars-cifar10", *DATA[:2], trial + ", steps_per_decade: 1}")
    runs = [f"right-{optimizer}-polynomial-bs{LARGE}-seed0" for optimizer in ("sgd", "lars-excluding")]
    place.snakemake(*(f"results/lars-cifar10-trial/runs/{run}/run.json" for run in runs), *config)
    for run, middle in zip(runs, (10**-1.5, 10**0.5), strict=True):
        found = records.read_run(folder / "runs" / run)["run"]
        assert found["lr"]["range_status"] == "too_few_points"
        # Times the study's k, though the batch is 8 and no whole number a 64th of it.
        assert found["lr"]["value"] == pytest.approx(middle * LARGE / 128)
        assert "this trial takes" in (folder / f"logs/train/{run}.log").read_text()
