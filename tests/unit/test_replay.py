"""Write-up 1 replayed: the tables of docs/writeups.md, the records they are made from, the first steps anew."""

import gzip
from pathlib import Path

import numpy as np
import pytest
import torch
from genuine import FOLDER, needs_mnist
from rangefinder import data, published, records, replay, resolution, study
from rangefinder.clocks import Clocks
from rangefinder.errors import InputError
from rangefinder.trainer import Trainer
from test_records import MACHINE, example_run

ROOT = Path(__file__).resolve().parents[2]
STEPS, PER_EPOCH = 14_070, 469
STORED = {
    1: "published-sgd-step-growing-bs128-lr1e_05-seed1024",
    2: "published-sgd-onecycle-bs128-lr2-seed1024",
    3: "published-sgd-exponential-growing-bs128-lr1e_05-seed1024",
    4: "published-sgd-none-bs128-lr1e_05-seed1024",
}
RUNS = {"none": STORED[4], "exponential-growing": STORED[3]}


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


def published_losses(number=4):
    """Training losses of experiment 1, 2 or 4 of write-up 1, float64 [14,070], read without the engine."""
    file = ROOT / f"config/published/curves/writeup1_exp{number}_train_loss.csv.gz"
    return np.loadtxt(file, delimiter=",", skiprows=1, usecols=1)


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
def stored(tmp_path_factory):
    """The stored records as the study's folder; each is checked against its own digests when it is read."""
    folder = tmp_path_factory.mktemp("writeup1")
    planned = study.load(ROOT / "config/studies/sgd-schedules.yaml").record()
    records.write_json(folder / "study.json", planned)
    for number, run in STORED.items():
        place, kept = folder / "runs" / run, ROOT / f"docs/gallery/writeup1-experiment{number}"
        place.mkdir(parents=True)
        for name in ("run.json", "machine.json", "epochs.csv"):
            (place / name).write_bytes((kept / name).read_bytes())
        (place / "steps.csv").write_bytes(gzip.decompress((kept / "steps.csv.gz").read_bytes()))
    return folder


def losses_of(stored, number):
    return records.read_run(stored / "runs" / STORED[number])["steps"]["loss"]


def per_epoch(factor):
    return 1e-5 * factor ** (np.arange(STEPS) // PER_EPOCH)


def one_cycle():
    """The LR of every step by torch's own scheduler."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=2.0, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=2.0, total_steps=STEPS)
    lrs = []
    for _ in range(STEPS):
        lrs.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return lrs


LRS = {1: lambda: per_epoch(1.52), 2: one_cycle, 3: lambda: per_epoch(1.5), 4: lambda: per_epoch(1.0)}


@pytest.mark.parametrize("number", STORED)
def test_a_stored_record_is_the_studys_own_run(number, stored):
    run = records.read_run(stored / "runs" / STORED[number])
    planned = study.load(ROOT / "config/studies/sgd-schedules.yaml").runs[STORED[number]]
    settings = ("dataset", "model", "optimizer", "schedule", "lr", "batch_size", "epochs", "order", "seed")
    parameters = resolution.resolve(planned.spec["parameters"], None)
    assert all(run["run"]["parameters"][name] == parameters[name] for name in settings)
    assert len(run["steps"]["loss"]) == run["run"]["steps"] == STEPS
    np.testing.assert_allclose(run["steps"]["lr"], LRS[number](), rtol=1e-12)


@pytest.mark.parametrize(
    ("number", "steps", "tolerance"), [(1, 10_000, 5e-4), (2, 200, 1e-3), (4, STEPS, 1e-4)]
)
def test_a_stored_record_is_as_near_to_the_published_losses_as_it_must_be(number, steps, tolerance, stored):
    apart = np.abs(losses_of(stored, number) - published_losses(number))[:steps]
    assert len(apart) == steps
    assert apart.max() <= tolerance


def test_experiment_3_begins_as_the_published_experiments_do(stored):
    """Its first epoch has their LR, from the same weights on the same batches."""
    apart = np.abs(losses_of(stored, 3) - published_losses(4))
    assert apart[:PER_EPOCH].max() < 1e-5
    assert apart[PER_EPOCH : 2 * PER_EPOCH].max() > 1e-4


def test_the_tables_in_the_docs_are_those_of_the_records(stored):
    page = (ROOT / "docs/writeups.md").read_text()
    tables = replay.tables(stored).strip()
    assert tables in page
    assert [line[4:] for line in tables.splitlines() if line.startswith("### ")] == [
        STORED[number] for number in (1, 2, 4, 3)
    ]


def test_two_machines_of_ours_end_apart_where_the_docs_say_so(stored):
    """CPU and H200, from the records of both: the rows of the table are made from them."""
    page = (ROOT / "docs/writeups.md").read_text()
    for number, run in STORED.items():
        cells = [str(number)]
        for name in ("final_test_loss", "final_test_accuracy"):
            for place in (stored, ROOT / "docs/gallery/nvidia-h200/sgd-schedules"):
                value = records.read_json(place / "runs" / run / "run.json", "run")["results"][name]
                cells.append(f"{value:.4g}" if name.endswith("loss") else f"{100 * value:.2f}")
        assert f"| {' | '.join(cells)} |" in page


@pytest.fixture(scope="module")
def mnist(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "mnist"
    data.prepare({"name": "mnist", "resize": 32}, folder, data_dir=FOLDER)
    return data.load(folder)


@needs_mnist
@pytest.mark.parametrize(("number", "steps", "tolerance"), [(2, 200, 1e-3), (4, 40, 1e-5)])
def test_training_from_the_study_follows_the_published_losses(number, steps, tolerance, mnist):
    """Data, initialisation, order, optimizer and schedule at once, OneCycleLR's cycle of the momentum included."""
    planned = study.load(ROOT / "config/studies/sgd-schedules.yaml").runs[STORED[number]]
    parameters = resolution.resolve(planned.spec["parameters"], None)
    parameters |= {"steps": steps, "eval_every": 30}
    trainer = Trainer(parameters, mnist, device=torch.device("cpu"), clocks=Clocks())
    trainer.train()
    apart = np.abs(trainer.step_table()["loss"] - published_losses(number)[:steps])
    assert len(apart) == steps
    assert apart.max() <= tolerance
