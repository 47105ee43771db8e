"""Confirmation of an LR range: what is tried, from which start, what a killed job leaves, who is called right."""

import json
import os
import signal

import numpy as np
import pytest
import torch
from rangefinder import (
    answers,
    clocks,
    collection,
    confirmation,
    data,
    lr_range,
    records,
    shown_ranges,
    study,
    tables,
    verdicts,
)
from rangefinder.errors import InputError
from rangefinder.memory import OutOfMemory
from rangefinder.stopping import Interrupted
from rangefinder.trainer import Trainer
from scipy import stats

PARAMETERS = {
    "dataset": {"name": "digits", "validation": 200, "train_samples": 250, "test_samples": 100},
    "model": {"name": "LeNetSmall"},
    "optimizer": {"name": "SGD", "momentum": 0.9},
    "batch_size": 64,
    "epochs": 2,
    "steps": None,
    "precision": "fp32",
}
HOPELESS = 3e38  # diverges in its first step


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """As in a job; two threads on so small a network wait for each other more than they compute."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "digits"
    data.prepare({"name": "digits"}, folder)
    return folder


def found(**values):
    """The content of range.json as far as a confirmation reads it; the finders answer `values`, or nothing."""
    own = {
        name: {"value": values[name]} if name in values else None
        for name in ("lr_min", "suggested_lr", "lr_max")
    }
    rules = {
        name: {"value": values.get(name)}
        for name in ("fastai_valley", "lightning", "torch_lr_finder", "ignite")
    }
    own |= {"study": "s", "range_test": "sgd"}
    return own | {"rules": rules, "status": "ok" if "lr_max" in values else "diverged", "checksum": "c" * 64}


RANGE = found(lr_min=0.01, suggested_lr=0.05, lr_max=0.2, fastai_valley=float(np.float32(0.05)), ignite=0.02)


def confirm(digits, folder, entry=RANGE, lrs=(), **changes):
    spec = {
        "study": "s",
        "range_test": "sgd",
        "seed": 3,
        "parameters": PARAMETERS | changes,
        "lrs": dict(lrs),
    }
    return confirmation.run(
        spec,
        lr_range=entry,
        data_folder=digits,
        folder=folder / "out",
        checkpoint_folder=folder / "checkpoints",
    )


def written(folder):
    return (folder / "out/confirmation.json").read_bytes()


# --- what is tried ---


def test_every_rules_answer_is_collected_in_order():
    rules = answers.collect(RANGE, {"published": 6e-5})
    assert list(rules) == [*answers.RESERVED, "published"]
    assert rules["twice_lr_max"] == 0.4 and rules["published"] == 6e-5
    assert rules["lightning"] is None and rules["fastai_slide"] is None


def test_without_a_range_only_the_other_rules_are_tried():
    rules = answers.collect(found(ignite=0.02), {})
    assert {name: lr for name, lr in rules.items() if lr is not None} == {"ignite": 0.02}


def test_equal_answers_are_trained_once_whatever_precision_they_were_given_in():
    given = {"a": 0.3, "b": None, "c": float(np.float32(0.1)), "d": 0.1, "e": 0.1001}
    rates, place = answers.distinct(given)
    assert rates == [0.1, 0.1001, 0.3]
    assert place == {"a": 2, "b": None, "c": 0, "d": 0, "e": 1}
    assert answers.distinct({"a": None}) == ([], {"a": None})


def test_what_is_collected_from_a_real_extraction_has_every_rule():
    lr = np.logspace(-5, 1, 301)
    loss = 0.5 + 1.8 / (1 + (lr / 1e-2) ** 2) + lr**4
    entry = lr_range.extract([{"seed": 0, "lr": lr, "loss": loss}])
    rules = answers.collect(entry, {})
    assert None not in rules.values() and set(rules) == set(answers.RESERVED)
    assert rules["suggested_lr"] == entry["suggested_lr"]["value"]


# --- the trainings ---


def test_each_training_is_the_one_that_a_run_makes_at_that_lr(digits, tmp_path):
    record = confirm(digits, tmp_path, lrs={"published": 0.001, "hopeless": HOPELESS})
    assert record["split"] == "validation" and record["samples"] == {"train": 250, "validation": 200}
    assert [entry["lr"] for entry in record["trainings"]] == [0.001, 0.01, 0.02, 0.05, 0.2, 0.4, HOPELESS]
    at = {entry["rule"]: entry["training"] for entry in record["answers"]}
    assert at["suggested_lr"] == at["fastai_valley"] == 3 and at["published"] == 0 and at["lightning"] is None
    for entry in record["trainings"][:-1]:
        alone = Trainer(
            PARAMETERS | {"lr": entry["lr"], "schedule": {"name": "none"}, "seed": 3},
            data.load(digits),
            device=torch.device("cpu"),
            clocks=clocks.Clocks(),
        )
        alone.train()
        result = alone.record()["results"]
        assert entry["accuracy"] == result["final_validation_accuracy"]
        assert entry["loss"] == result["final_validation_loss"]
        assert entry["initial_loss"] == alone.losses[0].item()
        assert entry["steps"] == 8 and entry["status"] == "completed"
    assert (
        len({entry["initial_loss"] for entry in record["trainings"]}) == 1
    )  # the same start, the same batch
    assert (
        records.read_json(tmp_path / "out/confirmation.json", "confirmation")["trainings"]
        == record["trainings"]
    )
    assert records.read_json(tmp_path / "out/machine.json", "machine")["clocks"]["train_s"] > 0
    assert not (tmp_path / "checkpoints").exists()


def test_a_diverged_training_is_typed_and_has_no_accuracy(digits, tmp_path):
    (entry,) = confirm(digits, tmp_path, found(), lrs={"hopeless": HOPELESS})["trainings"]
    assert entry["status"] == "diverged" and entry["divergence"]["cause"] == "non_finite_loss"
    assert (entry["accuracy"], entry["loss"]) == (None, None) and entry["steps"] == entry["divergence"][
        "step"
    ]


def test_without_a_validation_split_the_test_set_is_used_and_named(digits, tmp_path):
    dataset = PARAMETERS["dataset"] | {"validation": 0}
    record = confirm(digits, tmp_path, found(ignite=0.02), dataset=dataset)
    assert record["split"] == "test" and record["samples"] == {"train": 250, "test": 100}
    assert len(record["trainings"]) == 1 and record["range"]["status"] == "diverged"


def test_a_range_that_answers_nothing_leaves_a_record_that_says_so(digits, tmp_path):
    record = confirm(digits, tmp_path, found())
    assert record["trainings"] == [] and {entry["lr"] for entry in record["answers"]} == {None}
    records.read_json(tmp_path / "out/confirmation.json", "confirmation")


def test_a_length_in_steps_stops_inside_an_epoch(digits, tmp_path):
    whole = confirm(digits, tmp_path / "whole", found(ignite=0.02))["trainings"][0]
    record = confirm(digits, tmp_path / "part", found(ignite=0.02), epochs=None, steps=6)
    (part,) = record["trainings"]
    assert part["steps"] == 6 and record["parameters"]["epochs"] == 2
    assert part["initial_loss"] == whole["initial_loss"] and part["loss"] != whole["loss"]
    # A trial's limit in epochs holds beside a length in steps.
    assert (
        confirm(digits, tmp_path / "short", found(ignite=0.02), epochs=1, steps=6)["trainings"][0]["steps"]
        == 4
    )


def test_a_batch_that_leaves_no_step_is_refused(digits, tmp_path):
    with pytest.raises(InputError, match=r"batch_size: impossible batch size \(got 300\); allowed: 1 to 250"):
        confirm(digits, tmp_path, batch_size=300, drop_last=True)


# --- killed, damaged, wrong ---


@pytest.mark.parametrize(
    "how",
    [signal.SIGTERM, MemoryError, SystemExit],
    ids=lambda how: how.name if isinstance(how, int) else how.__name__,
)
def test_a_killed_confirmation_continues_to_the_same_record(digits, tmp_path, monkeypatch, how):
    confirm(digits, tmp_path / "undisturbed")
    steps, begun = Trainer._steps, []

    def cut_short(self, until, first_of_epoch):
        steps(self, until, first_of_epoch)
        if self.parameters["lr"] == 0.05 and self.step == 4:  # half-way through the third of five trainings
            if isinstance(how, int):
                os.kill(os.getpid(), how)
            else:
                raise how

    monkeypatch.setattr(Trainer, "_steps", cut_short)
    with pytest.raises((Interrupted, OutOfMemory, SystemExit)):
        confirm(digits, tmp_path / "killed")
    assert not (tmp_path / "killed/out").exists()  # nothing that looks like a result

    def counted(self, until, first_of_epoch):
        begun.append((self.parameters["lr"], self.step))
        steps(self, until, first_of_epoch)

    monkeypatch.setattr(Trainer, "_steps", counted)
    confirm(digits, tmp_path / "killed")
    assert written(tmp_path / "killed") == written(tmp_path / "undisturbed")
    # What was finished is not trained again; told to stop, it continues inside the training it was in.
    assert begun[0] == (0.05, 4 if isinstance(how, int) else 0)
    machine = json.loads((tmp_path / "killed/out/machine.json").read_text())
    assert machine["resumed"] == 1 and not (tmp_path / "killed/checkpoints").exists()


def test_another_range_does_not_continue_from_the_old_ones_trainings(digits, tmp_path, monkeypatch):
    confirm(digits, tmp_path / "undisturbed", found(ignite=0.03))
    finish = confirmation._Progress.finish

    def cut_short(self, entry):
        finish(self, entry)
        raise SystemExit

    monkeypatch.setattr(confirmation._Progress, "finish", cut_short)
    with pytest.raises(SystemExit):
        confirm(digits, tmp_path / "changed", found(ignite=0.02))
    monkeypatch.setattr(confirmation._Progress, "finish", finish)
    confirm(digits, tmp_path / "changed", found(ignite=0.03))
    assert written(tmp_path / "changed") == written(tmp_path / "undisturbed")


def test_another_tests_range_is_not_confirmed(digits, tmp_path):
    with pytest.raises(InputError, match=r"range_test: is given the LR range of another range test"):
        confirm(digits, tmp_path, RANGE | {"range_test": "adam"})
    assert not (tmp_path / "out").exists()


def test_a_tampered_record_is_refused(digits, tmp_path):
    confirm(digits, tmp_path, found(ignite=0.02), lrs={"hopeless": HOPELESS})
    path = tmp_path / "out/confirmation.json"
    good = json.loads(path.read_text())
    path.write_text(json.dumps(good | {"seed": 4}))
    with pytest.raises(InputError, match=r"confirmation\.json: checksum: record was changed"):
        records.read_json(path, "confirmation")
    path.write_text(path.read_text()[:-200])
    with pytest.raises(InputError, match="truncated or not JSON"):
        records.read_json(path, "confirmation")
    # Even with a right checksum: a number where the training diverged, none where it did not.
    for number, accuracy in ((0, None), (1, 0.99)):
        bad = json.loads(json.dumps(good))
        bad["trainings"][number]["accuracy"] = accuracy
        records.write_json(path, bad)
        with pytest.raises(InputError, match="not a confirmation record"):
            records.read_json(path, "confirmation")


# --- as a study states it ---

STUDY = """
title: T
dataset: {name: digits, validation: 200}
model: {name: LeNetSmall}
run: {batch_size: 50, epochs: 4, lr: suggested, on_out_of_memory: halve}
seeds: [0, 1]
optimizers: {sgd: {name: SGD}}
schedules: {none: {name: none}}
range_tests:
  sgd: {optimizer: sgd, start_lr: 1e-3, end_lr: 10, set: {drop_last: true}, confirm: %s}
sweeps: {only: {grid: {optimizer: [sgd], schedule: [none]}}}
"""


def load(folder, confirm, trial=None):
    path = folder / "small.yaml"
    path.write_text(STUDY % confirm)
    return study.load(path, trial)


def test_a_study_states_length_seeds_and_further_lrs(tmp_path):
    whole = load(tmp_path, "{epochs: 2, seeds: [5, 6], lrs: {published: 6e-5}}")
    test = whole.range_tests["sgd"]
    assert test.confirm.seeds == (5, 6) and test.confirm.lrs == {"published": 6e-5}
    spec = test.confirmation_spec(5)
    assert (spec["parameters"]["epochs"], spec["parameters"]["steps"]) == (2, None)
    # The settings of the range test, less those of its sweep.
    assert spec["parameters"]["drop_last"] and spec["parameters"]["optimizer"] == {"name": "SGD"}
    assert not spec["parameters"].keys() & {"start_lr", "end_lr", "stop_factor", "on_out_of_memory", "lr"}
    assert [(entry["range_test"], entry["seed"]) for entry in whole.record()["confirmations"]] == [
        ("sgd", 5),
        ("sgd", 6),
    ]


def test_a_study_without_confirmation_plans_none_and_its_range_tests_stay_the_same(tmp_path):
    with_confirm = load(tmp_path, "{steps: 10}").range_tests["sgd"]
    path = tmp_path / "small.yaml"
    path.write_text(path.read_text().replace(", confirm: {steps: 10}", ""))
    plain = study.load(path)
    assert plain.range_tests["sgd"].confirm is None and plain.record()["confirmations"] == []
    assert plain.range_tests["sgd"].spec(0) == with_confirm.spec(0)


def test_a_trial_shrinks_a_confirmation(tmp_path):
    trial = {"epochs": 1, "seeds": 1, "train_samples": 100}
    test = load(tmp_path, "{epochs: 3}", trial).range_tests["sgd"]
    assert test.confirm.seeds == (0,) and test.confirm.parameters["epochs"] == 1
    assert test.confirm.parameters["dataset"]["train_samples"] == 100


@pytest.mark.parametrize(
    ("confirm", "message"),
    [
        ("{}", r"range_tests\.sgd\.confirm: needs its length; allowed: epochs or steps"),
        (
            "{epochs: 1, steps: 5}",
            r"confirm: needs its length \(got .*\); allowed: epochs or steps, one of the",
        ),
        ("{epoch: 1}", r"unknown key \(got 'epoch'\); did you mean 'epochs'\?"),
        ("{epochs: 0}", r"confirm\.epochs: not usable \(got 0\)"),
        ("{epochs: 1, lrs: {lr_max: 1}}", r"confirm\.lrs: a rule has this name \(got 'lr_max'\)"),
        ("{epochs: 1, lrs: {mine: -1}}", r"confirm\.lrs\.mine: not usable \(got -1\)"),
        ("{epochs: 1, seeds: [0, 0]}", r"confirm\.seeds: not usable"),
    ],
)
def test_a_wrong_confirmation_is_refused_in_one_line(tmp_path, confirm, message):
    with pytest.raises(InputError, match=message):
        load(tmp_path, confirm)


def gathered(folder, whole, entry, file):
    """A study's record and LR range written, and all that is there collected again."""
    records.write_json(folder / "study.json", whole.record())
    records.write_json(folder / "lr_range/sgd/range.json", entry)
    return collection.collect(
        folder / "study.json", [folder / "lr_range/sgd/range.json"], [], confirmations=[file]
    )


def test_a_record_of_another_plan_or_another_range_is_refused(digits, tmp_path):
    whole, folder = load(tmp_path, "{epochs: 1, seeds: [3]}"), tmp_path / "results"
    lr = np.logspace(-5, 1, 301)
    extracted = lr_range.extract([{"seed": 0, "lr": lr, "loss": np.full(301, 2.3)}])
    for name, rule in extracted["rules"].items():
        rule["value"] = 0.02 if name == "ignite" else None
    entry = extracted | {"study": "small", "range_test": "sgd", "optimizer": "SGD", "batch_size": 50}
    entry |= {
        "steps_per_decade": 50.0,
        "provenance": {"engine_digest": "e", "data_digest": "d", "version": "1"},
    }
    records.write_json(folder / "lr_range/sgd/range.json", entry)
    file = folder / "lr_range/sgd/confirmation/seed3/confirmation.json"
    confirmation.run(
        whole.range_tests["sgd"].confirmation_spec(3),
        lr_range=records.read_json(folder / "lr_range/sgd/range.json", "range"),
        data_folder=digits,
        folder=file.parent,
        checkpoint_folder=tmp_path / "checkpoints",
    )
    found = gathered(folder, whole, entry, file)
    assert [record["seed"] for record in found.confirmations] == [3]
    rows = found.tables()["confirmation"].splitlines()  # with no run finished yet
    # After so few steps the loss may be a hair above or below where it began: trained or not, it is counted once.
    (row,) = (row.split(",") for row in rows if row.startswith("sgd,ignite,0.02,1,"))
    assert sorted(row[4:7]) == ["0", "0", "1"] and row[7] == "validation"

    other = json.loads(json.dumps(entry))
    other["rules"]["ignite"]["value"] = 0.03
    with pytest.raises(
        InputError, match=r"confirmation\.json: record belongs to other parameters or another LR range"
    ):
        gathered(folder, whole, other, file)
    for confirm, message in (
        ("{epochs: 2, seeds: [3]}", "other parameters"),
        ("{epochs: 1}", "does not plan"),
    ):
        with pytest.raises(InputError, match=message):
            gathered(folder, load(tmp_path, confirm), entry, file)
    moved = file.parents[1] / "seed4/confirmation.json"
    moved.parent.mkdir()
    file.rename(moved)
    with pytest.raises(InputError, match="does not plan"):
        gathered(folder, whole, entry, moved)


# --- verdicts ---


def short_runs(seed, *accuracies, status="ok"):
    """A record of one seed: a training per accuracy (None diverged), each answered by a rule of its own."""
    rates = [10.0**power for power in range(-4, len(accuracies) - 4)]
    return {
        "range_test": "sgd",
        "seed": seed,
        "range": {"status": status},
        "split": "validation",
        "parameters": {"steps": 8},
        "answers": [
            *({"rule": f"rule{k}", "lr": lr, "training": k} for k, lr in enumerate(rates)),
            {"rule": "lightning", "lr": None, "training": None},
        ],
        "trainings": [
            {
                "lr": lr,
                "status": "diverged" if accuracy is None else "completed",
                "accuracy": accuracy,
                "initial_loss": 2.3,
                "loss": None if accuracy is None else 2.3 - accuracy + 0.1,
            }
            for lr, accuracy in zip(rates, accuracies, strict=True)
        ],
    }


def judged(*runs):
    return verdicts.table(list(runs)).set_index("rule")


def test_means_and_paired_differences_are_those_of_scipy():
    best, other = np.array([0.95, 0.96, 0.97]), np.array([0.93, 0.945, 0.94])
    frame = judged(*(short_runs(seed, a, b) for seed, (a, b) in enumerate(zip(best, other, strict=True))))
    for rule, name, values in (
        ("rule0", "accuracy", best),
        ("rule1", "accuracy", other),
        ("rule1", "difference", other - best),
    ):
        expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
        row = frame.loc[rule]
        assert row[name] == pytest.approx(values.mean(), rel=1e-12)
        assert (row[f"{name}_low"], row[f"{name}_high"]) == pytest.approx(
            (expected.low, expected.high), rel=1e-9
        )
    assert frame.loc["rule0", "verdict"] == "best" and frame.loc["rule0", "difference"] == 0
    assert frame.loc["rule1", "verdict"] == "undecided"  # −2.2 ± 1.9 points reaches across one point


@pytest.mark.parametrize(
    ("differences", "verdict"),
    [
        # t(0.975, 2) = 4.3027: half the interval of three differences d − s, d, d + s is 4.3027 · s / √3 = 2.484 · s.
        ((-0.002, -0.004, -0.006), "within one point"),  # down to −0.9 points
        ((-0.0015, -0.004, -0.0065), "undecided"),  # down to −1.02 points
        ((-0.016, -0.018, -0.020), "worse"),  # up to −1.3 points
        ((-0.0148, -0.018, -0.0212), "worse"),  # up to −1.005 points
        ((-0.0147, -0.018, -0.0213), "undecided"),  # up to −0.98 points
        ((-0.009,), "within one point"),  # one seed has no interval
        ((-0.011,), "worse"),
    ],
)
def test_the_verdict_is_by_the_whole_interval(differences, verdict):
    frame = judged(*(short_runs(seed, 0.9, 0.9 + change) for seed, change in enumerate(differences)))
    assert frame.loc["rule1", "verdict"] == verdict


def test_a_rule_that_diverged_once_is_called_so_and_never_averaged_or_best():
    frame = judged(short_runs(0, 0.90, None, None), short_runs(1, 0.91, 0.99, None))
    assert list(frame["verdict"]) == ["best", "diverged", "diverged", "no answer"]
    assert list(frame["diverged"]) == [0, 1, 2, 0] and list(frame["trained"]) == [2, 1, 0, 0]
    assert frame.loc["rule1", ["difference", "difference_low"]].isna().all()
    assert frame.loc["rule2", ["accuracy", "accuracy_low"]].isna().all()
    assert np.isnan(frame.loc["lightning", "learning_rate"])


def test_a_finite_loss_that_ends_no_lower_than_it_began_did_not_train():
    # The accuracy of chance, 0.1, ends at the loss it began with (`short_runs`).
    made = [short_runs(0, 0.9, 0.1, 0.1), short_runs(1, 0.91, 0.95, None)]
    frame = judged(*made)
    assert list(frame["verdict"]) == ["best", "did not train", "diverged", "no answer"]
    assert list(frame["trained"]) == [2, 1, 0, 0] and list(frame["untrained"]) == [0, 1, 1, 0]
    assert frame.loc["rule1", "accuracy"] == 0.95  # of the seed that trained
    for record in made:
        record["answers"][1]["rule"], record["answers"][2]["rule"] = "lr_max", "twice_lr_max"
    (line,) = verdicts.sentences(made, [])
    assert line["text"].endswith("lr_max did not train (1 of 2 seeds), 2 × lr_max diverged (2 of 2 seeds)")


def test_the_summary_names_the_best_and_groups_the_rules():
    made = [short_runs(seed, 0.5, 0.9, None) for seed in (0, 1)]
    planned = [{"range_test": "sgd", "seed": seed} for seed in (0, 1, 2)]
    (line,) = verdicts.sentences(made, planned)
    assert line == {
        "topic": "sgd",
        "text": "runs of 8 steps at every rule's answer, 2 of 3 seeds, validation set: best at 0.001 (90.00 ± 0.00 %); "
        "best: rule1; worse: rule0; diverged: rule2; no answer: Lightning",
    }
    for record in made:
        record["answers"][0]["rule"], record["answers"][2]["rule"] = "lr_min", "twice_lr_max"
    (line,) = verdicts.sentences(made, planned)
    assert line["text"].endswith(
        "; best: rule1; no answer: Lightning. "
        "The range's ends: lr_min 50.00 ± 0.00 %, 2 × lr_max diverged (2 of 2 seeds)"
    )
    (line,) = verdicts.sentences([short_runs(0, None, status="no_descent")], planned[:1])
    assert "at none of them did every seed train; diverged: rule0" in line["text"]
    assert line["text"].endswith("The range test ended as no_descent, so it has no LRs of its own to try")
    assert "there was no learning rate to try" in verdicts.sentences([short_runs(0)], planned[:1])[0]["text"]


def test_without_confirmations_the_table_is_empty_with_its_header():
    assert tables.csv(verdicts.table([])) == ",".join(verdicts.COLUMNS) + "\n"
    assert verdicts.sentences([], []) == [] and shown_ranges.confirmation_table([]) is None


def test_the_reports_table_shows_what_the_records_say():
    shown = shown_ranges.confirmation_table(
        [short_runs(seed, 0.5, 0.9 + (seed - 4) / 100, None) for seed in (4, 5)]
    )
    rows = [[cell["text"] for cell in row] for row in shown["rows"]]
    # t(0.975, 1) = 12.706: half the interval of 0.90 and 0.91 is 12.706 · 0.5 points.
    assert rows[1] == ["sgd", "rule1", "0.001", "2/2", "90.50 ± 6.35", "validation", "+0.00 ± 0.00", "best"]
    assert rows[2] == ["sgd", "rule2", "0.01", "0/2", "–", "validation", "–", "diverged"]
    assert rows[3] == ["sgd", "Lightning", "–", "0/2", "–", "validation", "–", "no answer"]
    assert shown["rows"][0][3]["records"][0][:2] == ("4", "lr_range/sgd/confirmation/seed4/confirmation.json")
    assert "8 steps" in shown["caption"] and shown["name"] == "confirmation"
