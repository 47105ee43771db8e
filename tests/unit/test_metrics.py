"""Every metric under its own name, by hand on made-up epochs: accuracies, and times to train, to best, to baseline."""

import io
import math

import numpy as np
import pandas as pd
import pytest
from rangefinder import cells, shown_tables, tables
from test_published import planned
from test_published import run as base_run

NAN = math.nan
FORM = "as-published"

# Test and validation accuracy of five epochs; epoch e takes e seconds, so that each time names its epochs:
# 1, 3, 6, 10, 15 seconds up to and with each.
UPTO = (1.0, 3.0, 6.0, 10.0, 15.0)
TEST = [0.50, 0.90, 0.80, 0.86, 0.84]
VALIDATION = [0.40, 0.60, 0.70, 0.95, 0.90]


def run(entry, test, validation=None, *, kind="SGD", diverged=False):
    record = base_run(entry, test, kind=kind, diverged=diverged)
    validation = np.asarray(validation if validation is not None else [NAN] * len(test), dtype=float)
    best = None if np.isnan(validation).all() else int(np.nanargmax(validation))
    record["epochs"]["validation_accuracy"] = validation
    record["run"]["results"] |= {
        "test_accuracy_at_best_validation": None if best is None else test[best],
        "best_validation_epoch": None if best is None else best + 1,
    }
    record["run"]["samples"] = {"train": 30}
    record["machine"] = {
        "device": "cpu",
        "clocks": {"evaluate_s": 0.5, "startup_s": 2.0},
        "epochs": [{"epoch": e, "train_s": float(e), "evaluate_s": 100.0} for e in range(1, len(test) + 1)],
    }
    return record


def gathered(*runs_of, form=FORM, seeds=(0,)):
    """Cells by optimizer from (optimizer, batch size, records as functions of the planned entry)."""
    plan = planned(*((name, "none", size, 0.1) for name, size, *_ in runs_of), form=form, seeds=seeds)
    runs = []
    for (_, _, *makers), first in zip(runs_of, range(0, len(plan["runs"]), len(seeds)), strict=True):
        entries = plan["runs"][first : first + len(makers)]
        runs += [maker(entry) for maker, entry in zip(makers, entries, strict=True)]
    return cells.group(plan, runs)


def row(frame, **wanted):
    for key, value in wanted.items():
        frame = frame[frame[key] == value]
    (found,) = frame.to_dict("records")
    return found


def as_read(frame):
    """A table as it is on disk."""
    return pd.read_csv(io.StringIO(tables.csv(frame)), keep_default_na=False, dtype=str)


@pytest.mark.parametrize("form", ["as-published", "put-right"])
def test_four_accuracies_of_one_run_each_under_its_own_name(form):
    group = gathered(
        ("sgd", 64, lambda entry: run(entry, TEST, VALIDATION)),
        ("lars", 64, lambda entry: run(entry, [0.2, 0.7, 0.99, 0.91, 0.85], VALIDATION, kind="LARS")),
        form=form,
    )
    frame = tables.accuracy(group)
    sgd, lars = (row(frame, optimizer=name) for name in ("sgd", "lars"))
    names = (
        "final_test_accuracy",
        "test_accuracy_at_best_validation",
        "best_test_accuracy",
        "closest_to_baseline",
    )
    assert [sgd[name] for name in names] == [0.84, 0.86, 0.90, 0.90]
    # The base line is SGD's best, 0.90: its own best epoch, and of LARS the epoch at 0.91, not the best at 0.99.
    assert [lars[name] for name in names] == [0.85, 0.91, 0.99, 0.91]
    shown = shown_tables.accuracy_table(frame, group)
    texts = {h: cell["text"] for h, cell in zip(shown["headings"], shown["rows"][-1], strict=True)}
    assert texts["final test accuracy (%)"] == "85.00"
    assert texts["test accuracy at best validation (%)"] == "91.00"
    assert texts["best on test (%)"] == "99.00"
    assert texts["closest to baseline (%)"] == "91.00"
    assert "“closest to baseline” is that of the epoch" in shown["caption"]


def test_closest_to_baseline_is_not_shown_where_no_write_up_is_reproduced():
    group = gathered(("sgd", 64, lambda entry: run(entry, TEST)), form=None)
    shown = shown_tables.accuracy_table(tables.accuracy(group), group)
    assert "closest to baseline (%)" not in shown["headings"]


@pytest.mark.parametrize("form", ["as-published", "put-right"])
def test_times_to_train_to_best_and_to_baseline(form):
    # The baseline is the final accuracy at the smallest batch, 0.84, less a point.
    group = gathered(
        ("sgd", 64, lambda entry: run(entry, TEST, VALIDATION)),
        ("sgd", 128, lambda entry: run(entry, [0.1, 0.2, 0.829, 0.83, 0.8], VALIDATION)),
        ("sgd", 256, lambda entry: run(entry, [0.1, 0.2, 0.82, 0.82, 0.8], VALIDATION)),
        form=form,
    )
    frame = tables.time(group)
    first, second, third = (row(frame, batch_size=size) for size in (64, 128, 256))
    assert first["baseline"] == pytest.approx(0.83)
    assert first["to_train_s"] == UPTO[4]
    assert first["to_best_validation_s"] == UPTO[3]
    assert first["to_best_test_s"] == UPTO[1]
    assert (first["to_baseline_s"], first["reached"]) == (UPTO[1], "1/1")
    assert (second["to_baseline_s"], second["reached"]) == (UPTO[3], "1/1")
    assert (third["to_baseline_s"], third["reached"]) == ("not reached", "0/1")
    assert third["to_best_test_s"] == UPTO[2]  # the earlier of two equal epochs
    # Three images a second: 30 images in 15 s over 5 epochs.
    assert (first["per_epoch_s"], first["images_per_s"]) == (3.0, 10.0)


def test_the_baseline_of_one_form_is_not_that_of_another():
    plan = planned(("sgd", "none", 64, 0.1), seeds=(0,))
    right = planned(("sgd", "none", 64, 0.1), form="put-right", seeds=(0,))
    right["runs"][0]["run"] += "-right"
    plan["runs"] += right["runs"]
    runs = [run(plan["runs"][0], TEST), run(plan["runs"][1], [0.1, 0.2, 0.3, 0.4, 0.4], VALIDATION)]
    frame = tables.time(cells.group(plan, runs))
    assert row(frame, form="put-right")["baseline"] == pytest.approx(0.39)
    assert row(frame, form="put-right")["to_baseline_s"] == UPTO[3]
    assert row(frame, form="as-published")["baseline"] == pytest.approx(0.83)


def attempts(values, form=FORM):
    """Cells of two schedules with SGD and LARS: records by (optimizer, schedule)."""
    plan = planned(*((name, schedule, 64, 0.1) for name, schedule in values), form=form, seeds=(0,))
    kinds = {"sgd": "SGD", "lars": "LARS"}
    runs = [
        run(entry, accuracies, kind=kinds[name], diverged=len(accuracies) == 1)
        for entry, ((name, _), accuracies) in zip(plan["runs"], values.items(), strict=True)
        if accuracies
    ]
    return cells.group(plan, runs)


def test_the_baseline_of_an_attempt_is_the_one_that_closest_to_baseline_is_near_to():
    group = attempts(
        {
            ("sgd", "one"): [0.5, 0.9, 0.8],
            ("lars", "one"): [0.5, 0.7, 0.895],
            ("sgd", "two"): [0.5, 0.6, 0.7],
            ("lars", "two"): [0.5, 0.69, 0.8],
        }
    )
    times, accuracies = tables.time(group), tables.accuracy(group)
    for schedule, line, seconds in (("one", 0.9, UPTO[2]), ("two", 0.7, UPTO[1])):
        lars = row(times, optimizer="lars", schedule=schedule)
        assert lars["baseline"] == pytest.approx(line - 0.01)
        assert lars["to_baseline_s"] == seconds
        # SGD is nearest to its own best epoch, which is the base line.
        sgd = row(accuracies, optimizer="sgd", schedule=schedule)
        assert sgd["closest_to_baseline"] == sgd["best_test_accuracy"] == line
    caption = shown_tables.time_table(times, group)["caption"]
    assert "“baseline” is the best accuracy of SGD on the test set at the same form and schedule" in caption


def test_a_study_without_a_form_has_one_baseline_for_all_schedules():
    values = {
        ("sgd", "one"): TEST,
        ("lars", "one"): TEST,
        ("sgd", "two"): [0.1] * 5,
        ("lars", "two"): [0.1] * 5,
    }
    group = attempts(values, form=None)
    assert tables.time(group)["baseline"].tolist() == pytest.approx([0.83] * len(group))
    assert "SGD" not in shown_tables.time_table(tables.time(group), group)["caption"]


def test_where_sgd_is_alone_nothing_is_closest_to_it():
    group = attempts({("sgd", "one"): TEST, ("sgd", "two"): [0.1] * 5})
    assert tables.accuracy(group)["closest_to_baseline"].isna().all()
    assert tables.time(group)["baseline"].tolist() == pytest.approx([0.83] * len(group))


def test_an_attempt_whose_sgd_diverged_has_no_base_line():
    values = {("sgd", "one"): [0.95], ("lars", "one"): TEST, ("sgd", "two"): TEST, ("lars", "two"): TEST}
    found = row(tables.time(attempts(values)), optimizer="lars", schedule="one")
    assert (found["to_baseline_s"], found["reached"]) == ("no base line", "0/1")
    assert np.isnan(found["baseline"])


def test_a_miss_is_not_reached_and_no_time_is_blank():
    group = gathered(
        ("sgd", 64, lambda entry: run(entry, TEST), lambda entry: run(entry, TEST)),
        ("sgd", 128, lambda entry: run(entry, TEST), lambda entry: run(entry, [0.1] * 5)),
        ("sgd", 256, lambda entry: run(entry, TEST), lambda entry: run(entry, [0.1], diverged=True)),
        ("sgd", 512, *[lambda entry: run(entry, [0.95], diverged=True)] * 2),
        ("sgd", 1024),
        seeds=(0, 1),
    )
    columns = ["to_train_s", "to_best_validation_s", "to_best_test_s", "to_baseline_s", "reached"]
    found = as_read(tables.time(group))[columns].to_numpy().tolist()
    assert found == [
        ["15", "no validation split", "3", "3", "2/2"],
        ["15", "no validation split", "2", "not reached", "1/2"],
        ["15", "no validation split", "3", "not reached", "1/2"],
        ["diverged", "diverged", "diverged", "not reached", "0/2"],
        ["not run", "not run", "not run", "not run", "0/0"],
    ]
    shown = shown_tables.time_table(tables.time(group), group)
    texts = [
        {h: cell["text"] for h, cell in zip(shown["headings"], line, strict=True)} for line in shown["rows"]
    ]
    assert [line["time to baseline (s)"] for line in texts] == [
        "3.00",
        "not reached",
        "not reached",
        "not reached",
        "not run",
    ]
    assert [line["time to best on test (s)"] for line in texts] == [
        "3.00",
        "2.00",
        "3.00",
        "diverged",
        "not run",
    ]


def test_accuracies_that_were_published_are_written_in_per_cent():
    plan = planned(("sgd", "none", 64, 0.1), seeds=(0,))
    entry = {
        **dict(plan["runs"][0]["axes"]),
        "metric": "closest_to_baseline",
        "revision": "first",
        "published": 0.9,
        "ours": tables.mean_interval([0.91]),
        "difference": 0.01,
        "verdict": "better",
        "footnote": "",
    }
    shown = shown_tables.published_table([entry])
    texts = {h: cell["text"] for h, cell in zip(shown["headings"], shown["rows"][0], strict=True)}
    assert (texts["published"], texts["ours"], texts["difference"]) == ("90.00", "91.00", "+1.00")
