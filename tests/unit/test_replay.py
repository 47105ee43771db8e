"""The tables of docs/writeups.md: runs laid over the published losses, and the run that has none to be laid over."""

import gzip
from pathlib import Path

import numpy as np
import pytest
from rangefinder import published, published_curves, records, replay, study
from rangefinder.errors import InputError
from test_records import MACHINE, example_run

ROOT = Path(__file__).resolve().parents[2]
STEPS, PER_EPOCH = 14_070, 469
RUNS = {
    schedule: f"published-sgd-{schedule}-bs128-lr1e_05-seed1024"
    for schedule in ("none", "exponential-growing")
}
STORED = ROOT / "docs/gallery/writeup1-experiment3"


@pytest.fixture
def folder(tmp_path):
    records.write_json(
        tmp_path / "study.json", study.load(ROOT / "config/studies/sgd-schedules.yaml").record()
    )
    return tmp_path


def write(folder, run, losses, *, diverged=False):
    epochs = len(losses) // PER_EPOCH
    columns = {name: np.full(epochs, 0.5) for name in records.EPOCH_COLUMNS}
    columns |= {"epoch": np.arange(1, epochs + 1), "test_accuracy": np.linspace(0.1, 0.4, epochs)}
    columns |= {"lr": np.full(epochs, 1e-5)}
    steps = {"step": np.arange(len(losses)), "lr": np.full(len(losses), 1e-5), "loss": losses}
    record = example_run() | {"run": run, "steps": len(losses), "steps_per_epoch": PER_EPOCH}
    if diverged:
        divergence = {
            "step": len(losses),
            "epoch": epochs + 1,
            "last_finite_loss": 1.0,
            "cause": "non_finite_loss",
        }
        record |= {"status": "diverged", "divergence": divergence}
    records.write_run(folder / "runs" / run, record, MACHINE, columns, steps)


def published_losses():
    curves = published_curves.read("sgd_schedules")
    (curve,) = [c for c in curves if c.axes["schedule"] == "none" and c.quantity == "train_loss"]
    return curve.y.copy()


def test_a_run_is_laid_over_its_published_losses_step_by_step(folder):
    losses = published_losses()
    losses[0] += 4e-5
    losses[3 * PER_EPOCH] += 2e-4
    losses[5 * PER_EPOCH + 7] -= 7e-4
    write(folder, RUNS["none"], losses)
    text = replay.tables(folder)
    assert "Write-up 1, log of experiment 4, 14,070 steps." in text
    assert (
        "- within 0.0001 up to step 1,407\n- within 0.0005 up to step 2,352\n- within 0.001 up to the end"
        in text
    )
    assert f"| 1 | 1e-05 | 4e-05 | {4e-5 / PER_EPOCH:.2g} |" in text
    assert f"| 4 | 1e-05 | 0.0002 | {2e-4 / PER_EPOCH:.2g} |" in text
    assert f"| 6 | 1e-05 | 0.0007 | {7e-4 / PER_EPOCH:.2g} |" in text


def test_a_run_that_diverged_has_no_difference_from_there_on(folder):
    write(folder, RUNS["none"], published_losses()[: 2 * PER_EPOCH], diverged=True)
    text = replay.tables(folder)
    assert "- within 0.001 up to step 938" in text
    assert "| 2 | 1e-05 | 0 | 0 |\n| 3 | – | – | – |" in text


def test_a_run_without_published_losses_comes_last_with_its_own(folder):
    write(folder, RUNS["exponential-growing"], np.full(STEPS, 2.0))
    write(folder, RUNS["none"], published_losses())
    text = replay.tables(folder)
    assert [line[4:] for line in text.splitlines() if line.startswith("### ")] == list(RUNS.values())
    table = text.split("No losses were published; ours over 14,070 steps.")[1]
    assert "| 1 | 1e-05 | 0.5 | 0.5 | 10.00 |" in table and "| 30 | 1e-05 | 0.5 | 0.5 | 40.00 |" in table


def test_a_study_of_ones_own_is_laid_over_its_own_curves(folder, tmp_path_factory):
    write(folder, RUNS["none"], published_losses())
    own = tmp_path_factory.mktemp("own")
    for name in ("sgd_schedules.csv", "curves/sgd_schedules.yaml"):
        (own / name).parent.mkdir(exist_ok=True)
        (own / name).write_bytes((published.DIRECTORY / name).read_bytes())
    for file in (published.DIRECTORY / "curves").glob("*.csv*"):
        (own / "curves" / file.name).write_bytes(file.read_bytes())
    losses = (
        gzip.decompress((own / "curves/writeup1_exp4_train_loss.csv.gz").read_bytes()).decode().split("\n")
    )
    losses[1] = "0,3.5"
    (own / "curves/writeup1_exp4_train_loss.csv.gz").write_bytes(gzip.compress("\n".join(losses).encode()))
    apart = 3.5 - published_losses()[0]
    assert f"| 1 | 1e-05 | {apart:.2g} |" in replay.tables(folder, own)
    assert "| 1 | 1e-05 | 0 |" in replay.tables(folder)


def test_a_folder_without_the_studys_numbers_is_not_taken_for_one_without_losses(folder, tmp_path_factory):
    write(folder, RUNS["none"], published_losses())
    with pytest.raises(InputError, match="no such file of published numbers"):
        replay.tables(folder, tmp_path_factory.mktemp("empty"))


def test_a_study_without_published_numbers_is_named(folder):
    content = study.load(ROOT / "config/studies/sgd-schedules.yaml").record() | {"published": None}
    records.write_json(folder / "study.json", content)
    with pytest.raises(InputError, match=r"study\.json: names no published numbers"):
        replay.tables(folder)


def test_nothing_to_lay_over_anything_is_said(folder):
    with pytest.raises(InputError, match="no run as published has a record yet"):
        replay.tables(folder)


@pytest.fixture(scope="module")
def experiment3(tmp_path_factory):
    """The stored record of experiment 3 as a run's folder, checked against its own digests when it is read."""
    place = tmp_path_factory.mktemp("writeup1") / "runs" / RUNS["exponential-growing"]
    place.mkdir(parents=True)
    for name in ("run.json", "machine.json", "epochs.csv"):
        (place / name).write_bytes((STORED / name).read_bytes())
    (place / "steps.csv").write_bytes(gzip.decompress((STORED / "steps.csv.gz").read_bytes()))
    return place


def test_the_stored_record_of_experiment_3_is_the_studys_own_run(experiment3):
    run = records.read_run(experiment3)
    planned = study.load(ROOT / "config/studies/sgd-schedules.yaml").runs[RUNS["exponential-growing"]]
    settings = ("dataset", "model", "optimizer", "schedule", "lr", "batch_size", "epochs", "order", "seed")
    assert all(run["run"]["parameters"][name] == planned.parameters[name] for name in settings)
    assert len(run["steps"]["loss"]) == run["run"]["steps"] == STEPS
    np.testing.assert_allclose(run["steps"]["lr"], 1e-5 * 1.5 ** (np.arange(STEPS) // PER_EPOCH), rtol=1e-12)


def test_experiment_3_begins_as_the_published_experiments_do(experiment3):
    """Its first epoch has their LR, from the same weights on the same batches."""
    losses = records.read_run(experiment3)["steps"]["loss"]
    assert np.abs(losses - published_losses())[:PER_EPOCH].max() < 1e-5
    assert np.abs(losses - published_losses())[PER_EPOCH : 2 * PER_EPOCH].max() > 1e-4


def test_the_table_of_experiment_3_in_the_docs_is_that_of_its_record(experiment3, folder):
    (folder / "runs").symlink_to(experiment3.parent)
    page = (ROOT / "docs/writeups.md").read_text()
    assert replay.tables(folder).strip() in page
