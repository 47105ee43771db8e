"""Properties of a study's expansion, over random grids: counts, names, identities, and expressions."""

import json
import math
import tempfile
from fractions import Fraction
from pathlib import Path

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from rangefinder import expressions, study, validation
from rangefinder.errors import InputError

BASE = {
    "title": "T",
    "dataset": {"name": "digits", "validation": 200},
    "model": {"name": "LeNetSmall"},
    "run": {"lr": 0.1, "epochs": 4, "optimizer": "sgd", "schedule": "none"},
    "optimizers": {"sgd": {"name": "SGD"}, "adam": {"name": "Adam"}},
    "schedules": {"none": {"name": "none"}, "step": {"name": "StepLR", "step_size": 3}},
}
GRIDS = st.fixed_dictionaries(
    {},
    optional={
        "optimizer": st.lists(st.sampled_from(["sgd", "adam"]), min_size=1, unique=True),
        "schedule": st.lists(st.sampled_from(["none", "step"]), min_size=1, unique=True),
        "batch_size": st.lists(st.integers(1, 1237), min_size=1, max_size=4, unique=True),
        "lr": st.lists(st.floats(1e-8, 1e3), min_size=1, max_size=4, unique=True),
        "epochs": st.lists(st.integers(1, 9), min_size=1, max_size=2, unique=True),
    },
)
SEEDS = st.lists(st.integers(0, 2**53 - 1), min_size=1, max_size=3, unique=True)


def load(content, trial=None):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "s.yaml"
        path.write_text(yaml.safe_dump(content))
        return study.load(path, trial)


@given(GRIDS, SEEDS)
@settings(max_examples=60)
def test_a_grid_has_the_product_of_its_axes_each_run_its_own_name_and_identity(grid, seeds):
    try:
        loaded = load(BASE | {"seeds": seeds, "sweeps": {"a": {"grid": grid}}})
    except InputError as error:
        assert "other parameters" in str(error)  # LRs so alike that their names are the same
        return
    expected = math.prod(len(values) for values in grid.values()) * len(seeds)
    assert len(loaded.runs) == expected
    assert (
        len({run.spec["digest"] if "digest" in run.spec else str(run.spec) for run in loaded.runs.values()})
        == expected
    )
    for run in loaded.runs.values():
        for axis, values in grid.items():
            assert run.axes[axis] in values


@given(GRIDS, SEEDS, st.randoms(use_true_random=False))
@settings(max_examples=30)
def test_the_order_in_which_a_grid_is_written_changes_no_run(grid, seeds, chance):
    content = BASE | {"seeds": seeds, "sweeps": {"a": {"grid": grid}}}
    shuffled = list(grid.items())
    chance.shuffle(shuffled)
    values = {axis: chance.sample(items, len(items)) for axis, items in shuffled if axis != "lr"}
    values |= {axis: items for axis, items in grid.items() if axis == "lr"}
    try:
        one = load(content)
    except InputError:
        return
    two = load(content | {"sweeps": {"a": {"grid": values}}})
    specs = [
        sorted(str(sorted(run.parameters.items())) for run in loaded.runs.values()) for loaded in (one, two)
    ]
    assert specs[0] == specs[1]


@given(GRIDS, SEEDS, st.integers(1, 3), st.integers(1, 500))
@settings(max_examples=30)
def test_a_trial_never_asks_for_more_than_the_study_or_its_own_limits(grid, seeds, epochs, samples):
    content = BASE | {"seeds": seeds, "sweeps": {"a": {"grid": grid}}}
    try:
        whole = load(content)
    except InputError:
        return
    shrunk = load(content, {"epochs": epochs, "seeds": 1, "train_samples": samples})
    assert len(shrunk.runs) * len(seeds) == len(whole.runs)
    for run in shrunk.runs.values():
        assert run.parameters["epochs"] <= epochs
        assert run.parameters["batch_size"] <= run.parameters["dataset"]["train_samples"] <= samples


@given(
    st.lists(
        st.tuples(st.sampled_from("*/"), st.one_of(st.integers(1, 99), st.sampled_from(["k", "suggested"]))),
        min_size=1,
    ),
    st.integers(1, 64),
)
def test_expressions_are_the_exact_product_of_their_factors(factors, k):
    text = " ".join(f"{operator} {factor}" for operator, factor in factors).lstrip("*/ ")
    values = {"k": float(k), "suggested": 0.125}
    exact = Fraction(1)
    for position, (operator, factor) in enumerate(factors):
        number = Fraction(values[factor]) if isinstance(factor, str) else Fraction(factor)
        exact = exact / number if operator == "/" and position else exact * number
    try:
        found = expressions.evaluate(text, values)
    except InputError:
        assert not 1e-300 < exact < 1e300
        return
    assert math.isclose(found, float(exact), rel_tol=1e-12)


COUNTS = st.integers(1, 10**6)
NAMES = st.text("abcdefghij-0123456789", min_size=1, max_size=20)
CONFIGS = st.fixed_dictionaries(
    {},
    optional={
        "studies": st.lists(NAMES, max_size=3),
        "results": NAMES.map("results-{}".format),
        "download": st.booleans(),
        "partial": st.booleans(),
        "jobs_per_gpu": COUNTS,
        "runs_per_job": COUNTS,
        "checkpoint_minutes": st.floats(1e-6, 1e6),
        "checkpoint_epochs": st.none() | COUNTS,
        "trial": st.none()
        | st.dictionaries(st.sampled_from(["epochs", "seeds", "batch_divisor"]), COUNTS, min_size=1),
    },
)


@given(CONFIGS, st.data())
def test_a_configuration_reads_the_same_from_its_file_and_from_the_command_line(given, data):
    found = study.load_config(given)
    assert {key: found[key] for key in given} == given
    assert found == validation.defaults("config") | given
    assert study.load_config(found) == found
    file = yaml.safe_load(yaml.safe_dump(given))
    # Snakemake hands over as text what stands on the command line.
    texts = {key: json.dumps(value) for key, value in file.items() if not isinstance(value, str | list)}
    chosen = data.draw(st.sets(st.sampled_from(sorted(texts)))) if texts else set()
    again = study.load_config(file | {key: texts[key] for key in chosen})
    # == holds 1.0 and True for 1
    assert json.dumps(again, sort_keys=True) == json.dumps(found, sort_keys=True)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text() | st.integers(), inner, max_size=3),
    max_leaves=8,
)


@given(CONFIGS, st.dictionaries(st.sampled_from(sorted(validation.defaults("config"))) | st.text(), ANYTHING))
@settings(max_examples=300)
def test_a_configuration_is_taken_or_refused_in_one_line_that_names_a_file(given, changes):
    try:
        found = study.load_config(given | changes, "c.yaml", {"trial": "--config"})
    except InputError as error:
        assert str(error).startswith(("c.yaml: ", "--config: trial")) and "\n" not in str(error)
        assert changes  # what CONFIGS makes is right
    else:
        assert found.keys() == validation.schema("config")["properties"].keys()
