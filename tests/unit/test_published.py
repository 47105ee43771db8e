"""Published numbers: what is refused and how it is said, verdicts by hand, footnotes in table and report."""

import csv
import gzip
import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from rangefinder import (
    cells,
    collection,
    formats,
    published,
    published_curves,
    report,
    shown_tables,
    study,
    tables,
)
from rangefinder.errors import InputError
from rangefinder.statistics import Interval

ROOT = Path(__file__).resolve().parents[2]
WITH_NUMBERS = ("lenet5-mnist", "lars-cifar10", "sgd-schedules")
COLUMNS = "optimizer, schedule, batch_size, lr, metric, value, train_seconds, source, revision, footnote"
METRICS = (
    "final_test_accuracy, batch_mean_test_accuracy, best_test_accuracy, closest_to_baseline, final_test_loss, "
    "lowest_test_loss"
)
HEADER = COLUMNS.replace(", ", ",")
GOOD = "sgd,none,64,0.1,final_test_accuracy,0.9,12.5,Table 1,first,\n"


def planned(*axes, form="as-published", seeds=(0, 1, 2)):
    """A study's record with one cell for each of `axes` (optimizer, schedule, batch size, LR)."""
    runs = [
        {
            "run": f"{'-'.join(map(str, cell))}-seed{seed}",
            "form": form,
            "sweeps": ["s"],
            "axes": [list(pair) for pair in zip(published.AXES, cell, strict=True)],
            "seed": seed,
        }
        for cell in axes
        for seed in seeds
    ]
    names = {
        f"{kind}s": list(dict.fromkeys(cell[place] for cell in axes))
        for place, kind in enumerate(("optimizer", "schedule"))
    }
    return {"name": "s", "published": "numbers", "trial": None, "runs": runs} | names


def run(entry, accuracies, *, losses=None, kind="SGD", diverged=False, images=10_000):
    """The record of a planned run with these test accuracies (and losses) by epoch, on so many images."""
    accuracies = np.asarray(accuracies, dtype=float)
    losses = np.asarray(1 - accuracies if losses is None else losses, dtype=float)
    return {
        "run": {
            "run": entry["run"],
            "status": "diverged" if diverged else "completed",
            "divergence": {"step": 7} if diverged else None,
            "parameters": {"optimizer": {"name": kind}},
            "lr": {"value": 0.1},
            "samples": {"test": images},
            "results": {
                "final_test_accuracy": None if diverged else accuracies[-1],
                "final_test_loss": None if diverged else losses[-1],
                "best_test_accuracy": accuracies.max(),
                "best_test_epoch": int(accuracies.argmax()) + 1,
            },
        },
        "epochs": {
            "epoch": np.arange(1.0, len(accuracies) + 1),
            "test_accuracy": accuracies,
            "test_loss": losses,
        },
    }


def numbers(folder, body, header=HEADER):
    file = folder / "numbers.csv"
    file.write_text(f"{header}\n{body}", encoding="utf-8")
    return file


def compared(folder, rows, plan, runs):
    numbers(folder, rows)
    return published.compare(plan, cells.group(plan, runs), directory=folder)


# --- what is refused -----------------------------------------------------------------------------------

UNUSABLE = [
    (
        HEADER.replace("metric", "metrik"),
        GOOD,
        f"line 1: unknown column (got 'metrik'); did you mean 'metric'?; allowed: {COLUMNS}",
    ),
    (
        HEADER.replace(",lr", ""),
        GOOD,
        f"line 1: the column 'lr' is missing; allowed: {COLUMNS}",
    ),
    (
        HEADER + ",lr",
        GOOD,
        f"line 1: the column 'lr' stands twice; allowed: {COLUMNS}",
    ),
    (
        HEADER,
        GOOD + GOOD,
        "line 3: the same cell, metric and revision as line 2 (got 'sgd,none,64,0.1,final_test_accuracy,first'); "
        "allowed: one value of a metric for each cell and revision",
    ),
    (
        HEADER,
        GOOD + GOOD.replace("0.1,", "1e-1,"),
        "line 3: the same cell, metric and revision as line 2 (got 'sgd,none,64,1e-1,final_test_accuracy,first'); "
        "allowed: one value of a metric for each cell and revision",
    ),
    (
        HEADER,
        GOOD.replace(",64,", ",96,"),
        "line 2: unknown cell: study 's' has none in the form as-published (got 'sgd,none,96,0.1'); "
        "did you mean 'sgd,none,64,0.1'?; allowed: sgd,none,64,0.1",
    ),
    (
        HEADER,
        GOOD.replace(",64,", ",64.5,"),
        "line 2, batch_size: not usable (got '64.5'); allowed: a whole number from 1",
    ),
    (
        HEADER,
        GOOD.replace("final_test_accuracy", "final_accuracy"),
        "line 2, metric: not usable (got 'final_accuracy'); did you mean 'final_test_accuracy'?; "
        f"allowed: {METRICS}",
    ),
    (
        HEADER,
        GOOD.replace("0.9,", "90 %,"),
        "line 2, value: not usable (got '90 %'); allowed: a fraction from 0 to 1, or nothing",
    ),
    (
        HEADER,
        GOOD.replace("0.9,", "90.1,"),
        "line 2, value: not usable (got '90.1'); allowed: a fraction from 0 to 1, or nothing",
    ),
    (
        HEADER,
        GOOD.replace("0.9,", "nan,"),
        "line 2, value: not usable (got 'nan'); allowed: a fraction from 0 to 1, or nothing",
    ),
    (
        HEADER,
        GOOD.replace("final_test_accuracy,0.9", "final_test_loss,-0.1"),
        "line 2, value: not usable (got '-0.1'); allowed: a loss from 0, or nothing",
    ),
    (
        HEADER,
        GOOD.replace("12.5", "1_000"),
        "line 2, train_seconds: not usable (got '1_000'); allowed: seconds from 0, or nothing",
    ),
    (
        HEADER,
        GOOD.replace("Table 1", " "),
        "line 2, source: not usable (got ' '); allowed: some text",
    ),
    (
        HEADER,
        GOOD.replace(",first,", ",first"),
        "line 2: 9 values under 10 columns (got 'sgd,none,64,0.1,final_test_accuracy,0.9,12.5,Table 1,first'); "
        "allowed: one value for each column; text with a comma in it stands in quotes",
    ),
    (
        HEADER,
        GOOD.replace("Table 1", '"Table 1'),
        "is not a CSV file: unexpected end of data",
    ),
]


@pytest.mark.parametrize(("header", "body", "message"), UNUSABLE, ids=[case[2][:40] for case in UNUSABLE])
def test_what_cannot_be_used_is_named(tmp_path, header, body, message):
    file = numbers(tmp_path, body, header)
    with pytest.raises(InputError) as error:
        published.read("numbers", planned(("sgd", "none", 64, 0.1)), directory=tmp_path)
    assert str(error.value) == f"{file}: {message}"


def test_an_unknown_file_names_those_there_are(tmp_path):
    numbers(tmp_path, GOOD)
    with pytest.raises(InputError) as error:
        published.read("number", directory=tmp_path)
    assert str(error.value) == (
        "published: no such file of published numbers (got 'number'); did you mean 'numbers'?; allowed: numbers"
    )


def test_a_cell_of_another_form_is_unknown(tmp_path):
    numbers(tmp_path, GOOD)
    with pytest.raises(InputError, match="line 2: unknown cell"):
        published.read("numbers", planned(("sgd", "none", 64, 0.1), form="put-right"), directory=tmp_path)


def test_of_many_cells_the_closest_are_named(tmp_path):
    file = numbers(tmp_path, GOOD.replace("none", "noen"))
    plan = planned(*(("sgd", schedule, size, 0.1) for schedule in ("step", "none") for size in (32, 64, 96)))
    with pytest.raises(InputError) as error:
        published.read("numbers", plan, directory=tmp_path)
    assert str(error.value) == (
        f"{file}: line 2: unknown cell: study 's' has none in the form as-published (got 'sgd,noen,64,0.1'); "
        "did you mean 'sgd,none,64,0.1'?; allowed: sgd,none,64,0.1, sgd,none,96,0.1, sgd,step,64,0.1, and 3 more"
    )


def test_a_spreadsheets_byte_order_mark_is_no_column(tmp_path):
    (tmp_path / "numbers.csv").write_text(f"{HEADER}\n{GOOD}", encoding="utf-8-sig")
    (row,) = published.read("numbers", planned(("sgd", "none", 64, 0.1)), directory=tmp_path)
    assert (row["optimizer"], row["batch_size"], row["lr"], row["value"]) == ("sgd", 64, 0.1, 0.9)


@pytest.mark.parametrize("name", WITH_NUMBERS)
def test_the_files_here_fit_their_studies(name):
    record = study.load(ROOT / f"config/studies/{name}.yaml").record()
    rows = published.compare(record, cells.group(record, []))
    with (ROOT / f"config/published/{record['published']}.csv").open(newline="") as lines:
        assert len(rows) == len(list(csv.DictReader(lines)))
    assert {row["verdict"] for row in rows} == {"not run"}
    planned_cells = {tuple(dict(run["axes"]).values()) for run in record["runs"]}
    for curve in published_curves.read(record["published"]):
        assert tuple(curve.axes[axis] for axis in published.AXES) in planned_cells


CURVE = """- {optimizer: sgd, schedule: none, batch_size: 64, lr: 0.1, quantity: train_loss, file: c.csv.gz,
   source: a log, revision: write-up}
"""


def curves(folder, entry=CURVE, points=b"step,train_loss\n0,2.3\n1,2.2\n", damaged=False):
    data = bytearray(gzip.compress(points, mtime=0))
    if damaged:
        data[12] ^= 0xFF  # in the compressed part
    (folder / "curves").mkdir()
    (folder / "curves/c.csv.gz").write_bytes(data)
    (folder / "curves/numbers.yaml").write_text(entry)
    return published_curves.read("numbers", directory=folder)


def test_a_curve_is_read(tmp_path):
    (curve,) = curves(tmp_path)
    assert (curve.quantity, curve.x.tolist(), curve.y.tolist()) == ("train_loss", [0, 1], [2.3, 2.2])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"damaged": True}, r"c\.csv\.gz: is not a curve"),
        ({"points": b"step,loss\n0,2.3\n"}, r"c\.csv\.gz: is not a curve: 'train_loss'"),
        (
            {"points": b"step,train_loss\n99999999999999999999,2\n"},
            r"c\.csv\.gz: is not a curve: .* too large",
        ),
        ({"points": b"step,train_loss\n1,2.3\n0,2\n"}, r"c\.csv\.gz: step: has no points, or not in order"),
        ({"entry": CURVE.replace("c.csv.gz", "7")}, r"numbers\.yaml: \[0\]\.file: not usable \(got 7\)"),
        ({"entry": CURVE.replace("train_loss", "[a]")}, r"numbers\.yaml: \[0\]\.quantity: not usable"),
        ({"entry": CURVE.replace("train_loss", "loss")}, r"\.quantity: unknown quantity .*did you mean"),
        ({"entry": CURVE.replace("source: a log, ", "")}, r"\[0\]: the key is missing \(got 'source'\)"),
        (
            {"entry": CURVE.replace("lr: 0.1", "lr: [0.1]")},
            r"numbers\.yaml: \[0\]\.lr: not usable \(got \[0\.1\]\); allowed: text or a number",
        ),
    ],
)
def test_a_curve_that_cannot_be_used_is_named(tmp_path, given, message):
    with pytest.raises(InputError, match=message):
        curves(tmp_path, **given)


def test_a_curve_of_a_cell_that_the_study_does_not_have_is_named(tmp_path):
    curves(tmp_path, CURVE.replace("none", "noen"))
    plan = planned(("sgd", "none", 64, 0.1))
    with pytest.raises(InputError) as error:
        published_curves.read("numbers", plan, directory=tmp_path)
    assert str(error.value) == (
        f"{tmp_path}/curves/numbers.yaml: [0]: unknown cell: study 's' has none in the form as-published "
        "(got 'sgd,noen,64,0.1'); did you mean 'sgd,none,64,0.1'?; allowed: sgd,none,64,0.1"
    )
    (tmp_path / "curves/numbers.yaml").write_text(
        CURVE.replace("64", "64.0")
    )  # a number however it is written
    assert len(published_curves.read("numbers", plan, directory=tmp_path)) == 1


CLAIM = {
    "id": "c",
    "study": "s",
    "claim": "It is so.",
    "source": "Page 1",
}
WITHIN = {"form": "as-published", "relation": "within", "metric": "final_test_accuracy", "high": 0.5}
RANGE = {"form": None, "relation": "range_within", "range_test": "t", "answer": "fastai_valley", "high": 1}


@pytest.mark.parametrize(
    ("test", "message"),
    [
        (
            WITHIN | {"a": {"batch_size": 96}},
            "claims.0.tests.0.a.batch_size: no such cell in the form as-published (got 96); allowed: 64",
        ),
        (
            RANGE | {"range_test": "u"},
            "claims.0.tests.0.range_test: no such range test (got 'u'); allowed: t",
        ),
        (
            RANGE | {"answer": "fastai_vally"},
            "claims.0.tests.0.answer: no such answer (got 'fastai_vally'); did you mean 'fastai_valley'?; allowed: "
            "lr_min, suggested_lr, lr_max, fastai_valley, ",
        ),
    ],
)
def test_a_claim_about_what_the_study_does_not_have_is_named_before_any_run(tmp_path, test, message):
    numbers(tmp_path, GOOD)
    plan, file = planned(("sgd", "none", 64, 0.1)), tmp_path / "claims.yaml"
    usable = [RANGE, WITHIN | {"a": {"batch_size": 64}}]
    file.write_text(yaml.safe_dump({"claims": [CLAIM | {"tests": usable}]}))
    collection.check_published(plan, ["t"], tmp_path)
    file.write_text(yaml.safe_dump({"claims": [CLAIM | {"tests": [test]}]}))
    with pytest.raises(InputError) as error:
        collection.check_published(plan, ["t"], tmp_path)
    assert str(error.value).startswith(f"{tmp_path}/claims.yaml: {message}")


def test_a_curve_of_an_unknown_cell_is_named_before_any_run(tmp_path):
    numbers(tmp_path, GOOD)
    curves(tmp_path, CURVE.replace("64", "96"))
    with pytest.raises(InputError, match=r"numbers\.yaml: \[0\]: unknown cell"):
        collection.check_published(planned(("sgd", "none", 64, 0.1)), [], tmp_path)


@pytest.mark.parametrize("trial", [None, {"epochs": 1, "seeds": 1, "batch_divisor": 32}])
@pytest.mark.parametrize("name", WITH_NUMBERS)
def test_what_the_studies_here_are_compared_with_can_be_used(name, trial):
    plan = study.load(ROOT / f"config/studies/{name}.yaml", trial)
    collection.check_published(plan.record(), list(plan.range_tests), published.DIRECTORY)


# --- verdicts ------------------------------------------------------------------------------------------

# Three seeds, mean 0.90, standard deviation 0.01: the interval's half is t·s/√3 with t(0.975, 2) = 4.302653.
HALF = 4.302653 * 0.01 / np.sqrt(3)
BESIDE_REPRODUCED = 0.9 + HALF - 1e-6
BESIDE_WORSE = 0.9 + HALF + 1e-6
BESIDE_BETTER = 0.9 - HALF - 1e-6


@pytest.mark.parametrize(
    ("value", "verdict"),
    [
        (BESIDE_REPRODUCED, "reproduced"),
        (BESIDE_WORSE, "worse"),
        (BESIDE_BETTER, "better"),
        ("", "not published"),
    ],
)
def test_verdict_over_seeds(tmp_path, value, verdict):
    plan = planned(("sgd", "none", 64, 0.1))
    runs = [run(entry, [0.5, last]) for entry, last in zip(plan["runs"], (0.89, 0.9, 0.91), strict=True)]
    (row,) = compared(tmp_path, GOOD.replace("0.9,", f"{value},"), plan, runs)
    assert row["verdict"] == verdict
    assert row["ours"].mean == pytest.approx(0.9) and row["ours"].half == pytest.approx(HALF, rel=1e-6)
    assert row["difference"] is None if value == "" else row["difference"] == pytest.approx(0.9 - value)


@pytest.mark.parametrize(
    ("metric", "value", "verdict"),
    [
        # One seed: two standard errors of 90 % on 10,000 images either way, 0.6 points; 0.005 for a loss, of which the
        # lower is the better.
        ("final_test_accuracy", 0.8941, "reproduced"),
        ("final_test_accuracy", 0.8939, "better"),
        ("final_test_accuracy", 0.9059, "reproduced"),
        ("final_test_accuracy", 0.9061, "worse"),
        ("final_test_loss", 0.3049, "reproduced"),
        ("final_test_loss", 0.3051, "better"),
        ("final_test_loss", 0.2949, "worse"),
        ("lowest_test_loss", 0.2, "reproduced"),
        ("best_test_accuracy", 0.95, "reproduced"),
    ],
)
def test_verdict_on_one_run(tmp_path, metric, value, verdict):
    plan = planned(("sgd", "none", 64, 0.1), seeds=(0,))
    runs = [run(plan["runs"][0], [0.7, 0.95, 0.9], losses=[0.4, 0.2, 0.3])]
    (row,) = compared(tmp_path, GOOD.replace("final_test_accuracy,0.9", f"{metric},{value}"), plan, runs)
    assert row["verdict"] == verdict


@pytest.mark.parametrize(
    ("accuracy", "images", "half"),
    # By hand: 2·√(0.77·0.23/10,000), 2·√(0.9·0.1/1,000), and the least tolerance.
    [(0.77, 10_000, 0.0084167), (0.9, 1000, 0.0189737), (0.995, 10_000, 0.002)],
)
def test_one_run_is_as_uncertain_as_the_test_set_it_was_measured_on(tmp_path, accuracy, images, half):
    plan = planned(("sgd", "none", 64, 0.1), seeds=(0,))
    runs = [run(plan["runs"][0], [0.7, accuracy], images=images)]
    for published_value, verdict in (
        (accuracy - half + 1e-6, "reproduced"),
        (accuracy - half - 1e-6, "better"),
    ):
        (row,) = compared(tmp_path, GOOD.replace("0.9,", f"{published_value},"), plan, runs)
        assert row["verdict"] == verdict


def test_a_mean_over_batches_is_held_against_ours_and_never_against_the_mean_over_images(tmp_path):
    plan = planned(("sgd", "none", 64, 0.1), seeds=(0,))
    line = GOOD.replace("final_test_accuracy", "batch_mean_test_accuracy")
    old, new = (run(plan["runs"][0], [0.9]) for _ in range(2))
    new["run"]["results"]["batch_mean_test_accuracy"] = 0.91
    (row,) = compared(tmp_path, line, plan, [new])
    assert (row["verdict"], row["ours"].mean) == ("better", 0.91)
    (row,) = compared(tmp_path, line, plan, [old])
    assert (row["verdict"], row["ours"].mean) == ("not measured", None)
    (row,) = compared(tmp_path, line.replace("0.9,", ","), plan, [old])
    assert row["verdict"] == "not published"


def test_the_accuracies_of_write_up_3_are_named_as_it_measured_them():
    assert {row["metric"] for row in published.read("lenet5_mnist")} == {"batch_mean_test_accuracy"}


def test_a_diverged_run_and_one_without_a_record_have_no_value(tmp_path):
    plan = planned(("sgd", "none", 64, 0.1), seeds=(0,))
    (row,) = compared(tmp_path, GOOD, plan, [])
    assert (row["verdict"], row["ours"].mean, row["difference"]) == ("not run", None, None)
    (row,) = compared(tmp_path, GOOD, plan, [run(plan["runs"][0], [0.9], diverged=True)])
    assert (row["verdict"], row["ours"].mean, row["difference"]) == ("diverged", None, None)


def test_closest_to_the_best_of_any_sgd_batch_size(tmp_path):
    plan = planned(
        ("sgd", "none", 64, 0.1),
        ("sgd", "none", 128, 0.1),
        ("sgd", "step", 64, 0.1),
        ("lars", "none", 64, 0.1),
        seeds=(0,),
    )
    kinds = ("SGD", "SGD", "SGD", "LARS")
    epochs = ([0.7, 0.80], [0.85, 0.6], [0.99, 0.99], [0.83, 0.86, 0.95])
    runs = [run(e, a, kind=k) for e, a, k in zip(plan["runs"], epochs, kinds, strict=True)]
    # The base line is 0.85: SGD at batch 128, its best epoch. 0.99 is of another schedule, 0.95 of no SGD.
    rows = GOOD.replace("final_test_accuracy", "closest_to_baseline").replace("sgd", "lars")
    (row,) = compared(tmp_path, rows, plan, runs)
    assert row["ours"].mean == 0.86
    (row,) = compared(tmp_path, rows, plan, runs[3:])
    assert row["verdict"] == "not run"


def test_the_base_line_of_the_lars_study_as_recorded():
    plan = study.load(ROOT / "config/studies/lars-cifar10.yaml")
    record = plan.record()
    epochs = {
        "sgd-attempt1-bs128": [0.7],
        "sgd-attempt1-bs256": [0.8],
        "lars-writeup-attempt1-bs128": [0.5, 0.79, 0.95],
    }
    runs = []
    for name, accuracies in epochs.items():
        entry = next(entry for entry in record["runs"] if entry["run"] == f"attempt1-{name}-seed0")
        kind = plan.runs[entry["run"]].parameters["optimizer"]["name"]
        runs.append(run(entry, accuracies, kind=kind))
    rows = published.compare(record, cells.group(record, runs))
    values = {
        row["metric"]: row["ours"].mean
        for row in rows
        if row["ours"].n and row["optimizer"] == "lars-writeup"
    }
    assert values == {"closest_to_baseline": 0.79, "best_test_accuracy": 0.95}


def test_the_earlier_of_two_equally_close_epochs():
    assert published.closest(np.array([np.nan, 0.75, 0.25, 0.75]), 0.5) == 0.75


def test_a_trial_is_compared_with_nothing(tmp_path):
    plan = planned(("sgd", "none", 64, 0.1)) | {"trial": {"epochs": 1}}
    assert compared(tmp_path, GOOD, plan, []) == []


# --- what is shown -------------------------------------------------------------------------------------


def test_a_wrong_cell_keeps_its_footnote_in_table_and_report(tmp_path):
    plan = planned(("sgd", "none", 64, 0.1), ("sgd", "none", 128, 0.1), seeds=(0,))
    rows = GOOD.replace(",first,", ",first,A misprint of 0.8|9.") + GOOD.replace(",64,", ",128,")
    comparisons = compared(tmp_path, rows, plan, [run(plan["runs"][0], [0.9])])
    frame = pd.read_csv(io.StringIO(tables.csv(published.table(comparisons))), keep_default_na=False)
    assert list(frame["footnote"]) == ["A misprint of 0.8|9.", ""]
    assert list(frame["verdict"]) == ["reproduced", "not run"]
    shown = shown_tables.published_table(comparisons)
    notes = [row[shown["headings"].index("note")]["text"] for row in shown["rows"]]
    assert notes == ["A misprint of 0.8|9.", formats.MISSING]
    assert "A misprint of 0.8\\|9." in report._markdown_table(shown)


def test_a_loss_is_shown_with_its_interval(tmp_path):
    plan = planned(("sgd", "none", 64, 0.1))
    runs = [run(e, [0.5], losses=[loss]) for e, loss in zip(plan["runs"], (0.11, 0.12, 0.13), strict=True)]
    comparisons = compared(
        tmp_path, GOOD.replace("final_test_accuracy,0.9", "final_test_loss,0.2"), plan, runs
    )
    shown = shown_tables.published_table(comparisons)
    # t(0.975, 2)·0.01/√3
    assert shown["rows"][0][shown["headings"].index("ours")]["text"] == "0.1200 ± 0.0248"


@pytest.mark.parametrize(
    ("interval", "text"),
    [
        (Interval(3, 186.9627, 180, 193.9254), "187.0 ± 7.0"),
        (Interval(3, 0.04924516, 0.04, 0.05849), "0.04925 ± 0.00924"),
        (Interval(1, 2.301728, None, None), "2.302"),
        (Interval(0, None, None, None), "–"),
        (Interval(3, 12345.6, 12000.0, 12691.2), "1.235e+04 ± 346"),
    ],
)
def test_a_loss_and_its_interval_have_the_same_decimals(interval, text):
    assert formats.loss_interval(interval) == text


def test_numbers_of_a_later_revision_say_that_ours_are_of_the_first_ones_code():
    rows = published.read("lars_cifar10")
    plan = study.load(ROOT / "config/studies/lars-cifar10.yaml")
    used = {run.parameters["optimizer"].get("revision", "first") for run in plan.runs.values()}
    assert used == {"first"}
    for row in rows:
        later = row["revision"] == "later revision" and row["optimizer"] == "lars-writeup"
        assert ("(revision: first)" in row["footnote"]) == later


@pytest.mark.parametrize("name", WITH_NUMBERS)
def test_every_footnote_here_reaches_the_report(name):
    record = study.load(ROOT / f"config/studies/{name}.yaml").record()
    comparisons = published.compare(record, cells.group(record, []))
    shown = shown_tables.published_table(comparisons)
    place = shown["headings"].index("note")
    expected = [entry["footnote"] or formats.MISSING for entry in comparisons]
    assert [row[place]["text"] for row in shown["rows"]] == expected
    assert any(entry["footnote"] for entry in comparisons)
