"""Studies: expansion by hand counts, sharing, trials, and the names against the real thing."""

import inspect
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from hypothesis import given
from hypothesis import strategies as st
from rangefinder import (
    data,
    expressions,
    models,
    names,
    optimizers,
    part_checks,
    resolution,
    schedules,
    study,
    validation,
)
from rangefinder.errors import InputError

ROOT = Path(__file__).resolve().parents[2]

BASE = """
title: T
dataset: {name: digits, validation: 200}
model: {name: LeNetSmall}
run: {lr: 0.1, batch_size: 64, epochs: 8}
seeds: [0, 1, 2]
optimizers: {sgd: {name: SGD, momentum: 0.9}, adam: {name: Adam}}
schedules: {none: {name: none}, step: {name: StepLR, step_size: 3}}
sweeps:
  a: {grid: {optimizer: [sgd, adam], schedule: [none, step]}}
"""
RANGE_TEST = "range_tests:\n  sgd: {optimizer: sgd, start_lr: 1e-5, end_lr: 10}\n"


def load(tmp_path, text=BASE, trial=None):
    path = tmp_path / "s.yaml"
    path.write_text(text)
    return study.load(path, trial)


@pytest.mark.parametrize(
    ("name", "runs", "sweeps"),
    [
        ("digits", 14 * 3, 6),
        ("lenet5-mnist", 3 + 4 * 3 + 5 * 3 * 5, 4),
        ("sgd-schedules", 4 + 4 * 5, 3),
        # Five attempts at seven batch sizes with three optimizers; put right, two optimizers over five seeds.
        ("lars-cifar10", 5 * 7 * 3 + 7 * 2 * 5, 6),
    ],
)
def test_shipped_studies_have_the_runs_they_promise(name, runs, sweeps):
    loaded = study.load(ROOT / f"config/studies/{name}.yaml")
    assert len(loaded.runs) == runs
    assert sum(len(test.seeds) for test in loaded.range_tests.values()) == sweeps


def test_a_grid_is_the_product_of_its_axes_and_seeds(tmp_path):
    loaded = load(tmp_path)
    assert len(loaded.runs) == 2 * 2 * 3
    assert next(iter(loaded.runs)) == "sgd-none-bs64-seed0"
    run = loaded.runs["adam-step-bs64-seed2"]
    assert run.parameters["optimizer"] == {"name": "Adam"} and run.parameters["seed"] == 2
    assert run.range_test is None and run.dataset == "digits"


def test_sweeps_share_a_run_and_do_not_change_it(tmp_path):
    one = load(tmp_path)
    two = load(tmp_path, BASE + "  b: {grid: {optimizer: [sgd], schedule: [none]}}\n")
    assert two.runs["sgd-none-bs64-seed0"].sweeps == ("a", "b")
    assert {name: run.spec for name, run in one.runs.items()} == {
        name: run.spec for name, run in two.runs.items()
    }


def test_the_same_name_for_other_parameters_is_refused(tmp_path):
    with pytest.raises(
        InputError, match=r"sweeps\.b: names the run 'sgd-none-bs64-seed0' with other parameters"
    ):
        load(tmp_path, BASE + "  b: {set: {epochs: 9}, grid: {optimizer: [sgd], schedule: [none]}}\n")


def test_a_form_and_dotted_axes_are_part_of_the_id(tmp_path):
    text = (
        BASE
        + "  b: {form: put-right, grid: {optimizer: [sgd], schedule: [none], dataset.validation: [100, 300]}}\n"
    )
    loaded = load(tmp_path, text)
    run = loaded.runs["right-sgd-none-bs64-dataset.validation300-seed0"]
    assert run.form == "put-right" and run.parameters["dataset"]["validation"] == 300
    assert run.parameters["dataset"]["name"] == "digits"


def test_a_cell_that_leaves_a_setting_to_its_default_is_told_apart_from_those_that_set_it(tmp_path):
    loaded = load(
        tmp_path,
        BASE + "  b: {set: {epochs: 9, optimizer: sgd, schedule: none}, prefix: b,"
        " cells: [{}, {precision: bf16}, {channels_last: true}]}\n",
    )
    found = {name: run.axes for name, run in loaded.runs.items() if name.startswith("b-") and run.seed == 0}
    assert {name: (axes["precision"], axes["channels_last"]) for name, axes in found.items()} == {
        "b-sgd-none-bs64-seed0": ("fp32", "auto"),
        "b-sgd-none-bs64-precisionbf16-seed0": ("bf16", "auto"),
        "b-sgd-none-bs64-channels_lastTrue-seed0": ("fp32", True),
    }


def test_a_trial_shrinks_in_proportion_and_keeps_the_names(tmp_path):
    loaded = load(tmp_path, trial={"epochs": 4, "seeds": 1, "train_samples": 40})
    assert list(loaded.runs) == [name for name in load(tmp_path).runs if name.endswith("seed0")]
    parameters = loaded.runs["sgd-step-bs64-seed0"].parameters
    assert parameters["epochs"] == 4 and parameters["schedule"]["step_size"] == 2  # 3 of 8 epochs, rounded up
    assert parameters["batch_size"] == 40 == parameters["dataset"]["train_samples"]
    assert loaded.folder == "s-trial"


@pytest.mark.parametrize(
    "trial",
    [
        {"batch_divisor": 7},  # leaves a rest
        {"batch_divisor": 64},  # of 16, none is left
        {"train_samples": 40},
        {"batch_divisor": 7, "train_samples": 40},
        {"epochs": 4},
    ],
)
def test_a_trial_scales_lrs_by_the_k_of_the_study(tmp_path, trial):
    text = BASE.replace("lr: 0.1, batch_size: 64", "lr: 0.1 * k, reference_batch_size: 48").replace(
        "schedule: [none, step]", "schedule: [none], batch_size: [16, 100, 1000]"
    )
    whole = load(tmp_path, text).runs
    for name, run in load(tmp_path, text, trial).runs.items():
        lr = resolution.resolve(run.parameters, None)["lr"]
        assert lr == pytest.approx(0.1 * run.axes["batch_size"] / 48, rel=1e-15)
        if run.parameters["batch_size"] == run.axes["batch_size"]:
            assert run.parameters["reference_batch_size"] == 48
        assert resolution.resolve(whole[name].parameters, None)["lr"] == pytest.approx(lr, rel=1e-15)


@pytest.mark.parametrize("trial", [{"train_samples": 40}, {"batch_divisor": 3}, {"batch_divisor": 64}])
def test_a_trial_divides_its_batches_into_whole_micro_batches(tmp_path, trial):
    text = BASE.replace("batch_size: 64", "batch_size: 64, micro_batch: 32")
    for run in load(tmp_path, text, trial).runs.values():
        batch, micro = run.parameters["batch_size"], run.parameters["micro_batch"]
        assert batch % micro == 0 and 1 <= micro <= 32


def test_a_trial_refuses_the_micro_batch_that_the_study_has_wrong(tmp_path):
    text = BASE.replace("batch_size: 64", "batch_size: 64, micro_batch: 7")
    with pytest.raises(
        InputError, match=r"does not divide the batch size \(got 7\); allowed: a divisor of 64"
    ):
        load(tmp_path, text, {"batch_divisor": 2})


def test_a_trial_has_an_lr_for_runs_whose_sweep_may_find_none(tmp_path):
    text = BASE.replace("lr: 0.1", "lr: suggested / 10").replace("[sgd, adam]", "[sgd]") + RANGE_TEST
    spec = load(tmp_path, text, trial={"epochs": 4}).runs["sgd-step-bs64-seed0"].parameters
    assert spec["stand_in_lr"] == pytest.approx(1e-2, rel=1e-12)  # of 1e-5 to 10, in log10
    assert "stand_in_lr" not in load(tmp_path, text).runs["sgd-step-bs64-seed0"].parameters
    diverged = {
        "range_test": "sgd",
        "status": "diverged",
        "lr_min": None,
        "suggested_lr": None,
        "lr_max": None,
    }
    assert resolution.resolve(spec, diverged)["lr"] == pytest.approx(1e-3, rel=1e-12)
    found = diverged | {"suggested_lr": {"value": 0.5}}
    assert resolution.resolve(spec, found)["lr"] == pytest.approx(0.05, rel=1e-12)


def test_an_lr_range_must_be_there_to_be_referred_to(tmp_path):
    with pytest.raises(InputError, match="refers to an LR range, but it has no range test"):
        load(tmp_path, BASE.replace("lr: 0.1", "lr: suggested / 10"))


@pytest.mark.parametrize(
    ("text", "value"),
    [("0.05 * k", 0.2), ("suggested / 10", 0.05), ("2 × suggested ÷ k", 0.25), (0.3, 0.3), ("1e-3", 1e-3)],
)
def test_expressions(text, value):
    assert expressions.evaluate(text, {"k": 4.0, "suggested": 0.5}) == pytest.approx(value, rel=1e-15)


@pytest.mark.parametrize(
    "text", ["", "k k", "2 *", "-1", "__import__('os')", "suggested + 1", "nan", "inf", "0", True, "lr"]
)
def test_what_is_no_expression_is_refused(text):
    with pytest.raises(InputError, match="not a learning rate"):
        expressions.evaluate(text, {"k": 4.0, "suggested": 0.5})


@given(st.text(max_size=200))
def test_no_text_makes_the_yaml_reader_fail_otherwise(text):
    try:
        validation.check(validation.parse_yaml(text, "f"), "study", "f")
    except InputError as error:
        assert "\n" not in str(error)
    else:
        pytest.fail("random text is no study")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("title: T", "titel: T", "unknown key"),
        ("epochs: 8", "epochs: 0", "run.epochs: not usable (got 0); allowed: a whole number at least 1"),
        ("epochs: 8", "epochs: 1e400", "run.epochs: not usable"),
        (
            "batch_size: 64",
            "batch_size: true",
            "run.batch_size: not usable (got True); allowed: a whole number",
        ),
        ("batch_size: 64", "batch_size: 5000", "batch larger than the training set (got 5000)"),
        ("validation: 200", "validation: 1437", "no training samples are left (got 1437); allowed: 0 to 718"),
        ("lr: 0.1", "lr: -1", "run.lr: not usable (got -1)"),
        ("momentum: 0.9", f"momentum: 1{310 * '0'}", "optimizers.sgd.momentum: not usable (got 1000"),
        (
            "lr: 0.1",
            f"lr: 0.1 * k, reference_batch_size: 1{310 * '0'}",
            "allowed: a whole number or null at least 1 and at most 1000000000",
        ),
        ("step_size: 3", f"step_size: 1{25 * '0'}", "schedules.step.step_size: is not a count"),
        (
            "step_size: 3",
            f"step_size: 3, warmup: {{steps: 1{25 * '0'}}}",
            "warm-up is not shorter than training",
        ),
        ("lr: 0.1", "lr: sugested", "not a learning rate (got 'sugested')"),
        ("lr: 0.1", "lr: 0.1 * k", "reference_batch_size: is needed where k is used"),
        ("name: digits", "name: digit", "unknown data set (got 'digit'); did you mean 'digits'?"),
        (
            "name: LeNetSmall",
            "name: LeNetSmal",
            "unknown model (got 'LeNetSmal'); did you mean 'LeNetSmall'?",
        ),
        (
            "momentum: 0.9",
            "momentun: 0.9",
            "SGD has no such argument (got 'momentun'); did you mean 'momentum'?",
        ),
        ("step_size: 3", "step_sise: 3", "unknown key (got 'step_sise'); did you mean 'step_size'?"),
        (
            "{name: StepLR, step_size: 3}",
            "{name: MultiStepLR, milestones: [9]}",
            "past the end of training (got 9)",
        ),
        (
            "validation: 200",
            "validation: 719",
            "more validation than training samples (got 719); allowed: 0 to 718",
        ),
        (
            "{name: StepLR, step_size: 3}",
            "{name: writeup2, warmup_multiplier: 2, end_lr: 1e-3, warmup_epochs: 8}",
            "schedules.step.warmup_epochs: warm-up is not shorter than training (got 8); allowed: less than 8 epochs",
        ),
        (
            "step_size: 3",
            "step_size: 3, warmup: {steps: 160}",
            "(got {'steps': 160}); allowed: less than 160 steps",
        ),
        (
            "step_size: 3",
            "step_size: 3, warmup: {steps: 999999999999}",
            "warm-up is not shorter than training",
        ),
        ("step_size: 3", "step_size: 3, warmup: {epochs: 8}", "warm-up is not shorter than training"),
        ("[sgd, adam]", "[sgd, sgd]", "a value stands twice"),
        ("[sgd, adam]", "[sgd, lion]", "unknown optimizer (got 'lion')"),
        ("[sgd, adam]", "[]", "grid.optimizer: not usable"),
        ("seeds: [0, 1, 2]", "seeds: [0, 0]", "seeds: not usable"),
        ("seeds: [0, 1, 2]", "seeds: []", "seeds: not usable"),
        ("  a:", "  ../a:", "sweeps: not usable (got '../a')"),
        ("title: T", "title: T\ntitle: U", "the key 'title' stands twice"),
        ("title: T", "title: !!python/object/apply:os.system [ls]", "not valid YAML"),
        ("epochs: 8", "epochs: 8, micro_batch: 7", "does not divide the batch size (got 7)"),
        ("name: LeNetSmall", "name: ../net.py:make", "model.name: no such file (got '../net.py:make')"),
    ],
)
def test_bad_studies_are_refused_in_one_line(tmp_path, old, new, message):
    assert old in BASE
    with pytest.raises(InputError) as caught:
        load(tmp_path, BASE.replace(old, new, 1))
    assert message in str(caught.value) and "s.yaml" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("digits", [26, 311])
@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("lr: 0.1", "lr: 0.1 * k, reference_batch_size: {}"),
        ("step_size: 3", "step_size: {}"),
        ("step_size: 3", "step_size: 3, warmup: {{steps: {}}}"),
        ("name: StepLR, step_size: 3", "name: MultiStepLR, milestones: [{}]"),
    ],
)
def test_a_trial_refuses_numbers_beyond_all_bounds_in_one_line(tmp_path, old, new, digits):
    with pytest.raises(InputError, match="allowed: "):
        load(tmp_path, BASE.replace(old, new.format(10 ** (digits - 1))), {"epochs": 2, "batch_divisor": 4})


@pytest.mark.parametrize("depth", [100, 1000, 10_000])
def test_a_configuration_nested_too_deeply_is_refused(depth):
    deep = {}
    for _ in range(depth):
        deep = {"trial": deep}
    for key in ("trial", "studies", "unknown"):
        with pytest.raises(InputError):
            study.load_config({key: deep})


def test_every_optimizer_argument_that_a_study_may_set_is_taken():
    parameter = [("weight", torch.nn.Parameter(torch.ones(2, 2)))]
    for name, arguments in names.OPTIMIZERS.items():
        known = set(inspect.signature(optimizers.OPTIMIZERS[name]).parameters)
        special = {"exclude_from_weight_decay", "exclude_from_adaptation"}
        assert set(arguments) - special <= known, name
        for argument in special & set(arguments):
            optimizers.build({"name": name, argument: ["bias"]}, parameter, lr=0.1)


def test_a_range_test_has_no_setting_of_the_trainer_alone_and_its_confirmation_has(tmp_path):
    text = BASE + RANGE_TEST.replace("}", ", confirm: {epochs: 1}, set: {cuda_graph: false}}")
    test = load(tmp_path, text).range_tests["sgd"]
    assert "cuda_graph" not in test.parameters and test.confirm.parameters["cuda_graph"] is False


def test_names_are_those_of_the_engine():
    assert set(names.MODELS) == set(models.MODELS)
    properties = validation.schema("study")["$defs"]["schedule"]["properties"]
    assert set(properties["name"]["anyOf"][0]["enum"]) == set(schedules.SCHEDULES)
    assert set(properties) - {"name", "per", "warmup", "arguments"} == {
        key for kind in schedules.SCHEDULES.values() for key in kind.parameters
    }


def test_the_torchvision_models_known_by_name_are_those_installed():
    assert set(torchvision.models.list_models(module=torchvision.models)) == names.TORCHVISION_MODELS


def test_a_torchvision_model_newer_than_the_list_is_found(monkeypatch):
    monkeypatch.setattr(names, "TORCHVISION_MODELS", frozenset())
    names.is_torchvision_classifier.cache_clear()
    assert names.is_torchvision_classifier("alexnet") and not names.is_torchvision_classifier("alexnot")
    names.is_torchvision_classifier.cache_clear()


@pytest.mark.parametrize("model", ["LeNetSmall", "mobilenet_v2"])
def test_a_study_is_read_without_importing_torch(tmp_path, model):
    """As Snakemake does for each of its jobs."""
    path = tmp_path / "s.yaml"
    path.write_text(BASE.replace("LeNetSmall", model))
    code = (
        "import sys; from rangefinder import study; study.load(sys.argv[1]);"
        "sys.exit(', '.join({'torch', 'torchvision', 'pandas'} & set(sys.modules)) or 0)"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(study.__file__).parents[1])}
    command = [sys.executable, "-c", code, path]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def refusal(function, *arguments):
    try:
        function(*arguments)
    except InputError as error:
        return str(error).partition("model.name: ")[2]
    return None


@pytest.mark.parametrize("side", [1, 3, 4, 28, 32, 33])
@pytest.mark.parametrize("model", [*names.IMAGE_SIZES, "MLP"])
def test_a_study_refuses_the_image_sizes_that_its_model_refuses(tmp_path, model, side):
    text = BASE.replace("LeNetSmall", model).replace("validation: 200", f"resize: {side}")
    assert refusal(load, tmp_path, text) == refusal(models.build, {"name": model}, (1, side, side), 10)


def test_a_schedule_is_checked_with_every_size_of_the_data(tmp_path):
    grid = "{optimizer: [sgd], schedule: [late], dataset.train_samples: [1237]}"
    text = BASE.replace(
        "step: {name: StepLR, step_size: 3}", "late: {name: MultiStepLR, milestones: [150], per: step}"
    )
    text = text.replace("{optimizer: [sgd, adam], schedule: [none, step]}", grid)
    load(tmp_path, text)  # 8 epochs of 20 steps
    with pytest.raises(
        InputError, match=r"milestones: past the end of training \(got 150\); allowed: 1 to 15 steps"
    ):
        load(tmp_path, text.replace("[1237]", "[1237, 100]"))


def test_write_up_2s_warm_up_is_as_long_as_its_default_where_none_is_given(tmp_path):
    schedule = "{name: writeup2, warmup_multiplier: 2, end_lr: 1e-3}"
    text = BASE.replace("{name: StepLR, step_size: 3}", schedule)
    load(tmp_path, text.replace("epochs: 8", "epochs: 6"))
    with pytest.raises(
        InputError, match=r"warmup_epochs: warm-up is not .* \(got 5\); allowed: less than 5 epochs"
    ):
        load(tmp_path, text.replace("epochs: 8", "epochs: 5"))
    assert load(tmp_path, text, {"epochs": 2}).runs  # a trial shrinks it


OF_UNKNOWN_SIZE = BASE.replace(
    "name: digits, validation: 200", "name: npz, path: d.npz, validation: 40"
).replace("epochs: 8", "epochs: 30")
LONG = "{name: MultiStepLR, per: step, milestones: [500, 1000], warmup: {steps: 500}}"


def checked(tmp_path, text, trial=None):
    """A study of 200 training and 40 test samples, whose sizes are known when they are prepared, checked then."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (240, 8, 8), np.uint8)
    labels = np.arange(240) % 10
    np.savez(
        tmp_path / "d.npz",
        x_train=images[:200],
        y_train=labels[:200],
        x_test=images[200:],
        y_test=labels[200:],
    )
    loaded = load(tmp_path, text, trial)
    found = part_checks.combinations(loaded)
    assert found  # what the runs wait for
    data.prepare(loaded.datasets[next(iter(loaded.runs.values())).dataset], tmp_path / "data")
    for entry in found.values():
        part_checks.check(entry, tmp_path / "data", loaded.file)
    return loaded


def test_lengths_in_steps_are_not_guessed_where_the_size_of_the_data_is_not_known(tmp_path):
    text = OF_UNKNOWN_SIZE.replace("{name: StepLR, step_size: 3}", LONG)
    # 160 training samples, of which 5 steps, or with smaller batches 40, are an epoch
    checked(tmp_path, text.replace("batch_size: 64", "batch_size: 4"))
    with pytest.raises(
        InputError, match=r"s\.yaml: schedule\.milestones: past the end of training \(got 500\)"
    ):
        checked(tmp_path, text)
    assert checked(tmp_path, text, {"epochs": 2}).runs  # what a trial cuts off is meant to be


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "batch_size: 64",
            "batch_size: 161",
            "batch_size: batch larger than the training set (got 161); allowed: 1 to 160",
        ),
        (
            "validation: 40",
            "validation: 101",
            "dataset.validation: more validation than training samples (got 101)",
        ),
        (
            "validation: 40",
            "validation: 10000000",
            "dataset.validation: no training samples are left (got 10000000); allowed: 0 to 100",
        ),
        (
            "validation: 40",
            "train_samples: 201",
            "dataset.train_samples: more than there are (got 201); allowed: 1 to 200",
        ),
        (
            "validation: 40",
            "test_samples: 41",
            "dataset.test_samples: more than there are (got 41); allowed: 1 to 40",
        ),
        (
            "step_size: 3",
            "step_size: 3, warmup: {steps: 90}",
            "schedule.warmup: warm-up is not shorter than training (got {'steps': 90}); allowed: less than 90 steps",
        ),
        (
            "{name: StepLR, step_size: 3}",
            "{name: MultiStepLR, per: step, milestones: [90]}",
            "schedule.milestones: past the end of training (got 90); allowed: 1 to 89 steps",
        ),
    ],
)
def test_sizes_are_checked_before_any_training_once_the_data_are_there(tmp_path, old, new, message):
    assert old in OF_UNKNOWN_SIZE
    checked(tmp_path, OF_UNKNOWN_SIZE)
    with pytest.raises(InputError) as caught:
        checked(tmp_path, OF_UNKNOWN_SIZE.replace(old, new))
    assert str(caught.value).startswith(f"{tmp_path}/s.yaml: {message}")


def test_one_check_of_sizes_serves_all_that_has_them(tmp_path):
    loaded = checked(tmp_path, OF_UNKNOWN_SIZE + RANGE_TEST)
    found = part_checks.combinations(loaded).values()
    assert sorted((entry["optimizer"]["name"], entry["sizes"]["batch_size"]) for entry in found) == [
        ("Adam", 64), ("SGD", 64),
    ]  # fmt: skip
    assert not part_checks.combinations(load(tmp_path))  # digits: known before


def test_batches_left_out_are_no_steps_of_a_schedule(tmp_path):
    text = BASE.replace(
        "step: {name: StepLR, step_size: 3}", "step: {name: MultiStepLR, milestones: [152], per: step}"
    )
    load(tmp_path, text)
    with pytest.raises(
        InputError, match=r"milestones: past the end of training \(got 152\); allowed: 1 to 151 steps"
    ):
        load(tmp_path, text.replace("epochs: 8", "epochs: 8, drop_last: true"))
