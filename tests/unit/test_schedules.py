"""Every schedule against torch's own scheduler, the write-up's against its formulas, warm-ups, bad input."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rangefinder import resolution, schedules, study
from rangefinder.errors import InputError
from rangefinder.names import TORCH_SCHEDULES
from torch.optim import lr_scheduler as torch_schedulers

ROOT = Path(__file__).resolve().parents[2]
EPOCHS, STEPS = 10, 7
TOTAL = EPOCHS * STEPS
BASE = 0.37


def torch_lrs(make, *, per: str, base_lr: float = BASE, momentum: float = 0.9, adam: bool = False):
    """LR and momentum used at each of 10 epochs' steps by a torch scheduler."""
    parameter = torch.nn.Parameter(torch.zeros(1))
    if adam:
        optimizer = torch.optim.Adam([parameter], lr=base_lr)
    else:
        optimizer = torch.optim.SGD([parameter], lr=base_lr, momentum=momentum)
    scheduler = make(optimizer)
    group = optimizer.param_groups[0]
    lrs, momenta = [], []
    for step in range(TOTAL):
        lrs.append(float(group["lr"]))
        momenta.append(group["betas"][0] if adam else group["momentum"])
        optimizer.step()
        if step < TOTAL - 1 and (per == "step" or step % STEPS == STEPS - 1):
            scheduler.step()
    return np.array(lrs), np.array(momenta)


def ours(spec, **changes):
    return schedules.build(spec, **({"base_lr": BASE, "epochs": EPOCHS, "steps_per_epoch": STEPS} | changes))


def units(per: str) -> int:
    return EPOCHS if per == "epoch" else TOTAL


CASES = {
    "step": (
        {"name": "StepLR", "step_size": 3, "gamma": 0.3},
        lambda o, n: torch_schedulers.StepLR(o, 3, 0.3),
    ),
    "step growing": (
        {"name": "StepLR", "step_size": 1, "gamma": 1.52},
        lambda o, n: torch_schedulers.StepLR(o, 1, 1.52),
    ),
    "step defaults": ({"name": "StepLR", "step_size": 4}, lambda o, n: torch_schedulers.StepLR(o, 4)),
    "multi-step": (
        {"name": "MultiStepLR", "milestones": [8, 2, 5], "gamma": 0.2},
        lambda o, n: torch_schedulers.MultiStepLR(o, [2, 5, 8], 0.2),
    ),
    "multi-step twice": (
        {"name": "MultiStepLR", "milestones": [4, 4]},
        lambda o, n: torch_schedulers.MultiStepLR(o, [4, 4]),
    ),
    "exponential": (
        {"name": "ExponentialLR", "gamma": 0.93},
        lambda o, n: torch_schedulers.ExponentialLR(o, 0.93),
    ),
    "cosine": (
        {"name": "CosineAnnealingLR", "eta_min": 0.01},
        lambda o, n: torch_schedulers.CosineAnnealingLR(o, n, 0.01),
    ),
    "cosine defaults": (
        {"name": "CosineAnnealingLR"},
        lambda o, n: torch_schedulers.CosineAnnealingLR(o, n),
    ),
    "polynomial": (
        {"name": "PolynomialLR", "power": 2},
        lambda o, n: torch_schedulers.PolynomialLR(o, n, 2.0),
    ),
    "polynomial defaults": ({"name": "PolynomialLR"}, lambda o, n: torch_schedulers.PolynomialLR(o, n)),
    "linear": (
        {"name": "LinearLR", "start_factor": 0.2, "end_factor": 0.7, "total_iters": 6},
        lambda o, n: torch_schedulers.LinearLR(o, 0.2, 0.7, 6),
    ),
    "constant defaults": ({"name": "ConstantLR"}, lambda o, n: torch_schedulers.ConstantLR(o)),
    "warm restarts": (
        {"name": "CosineAnnealingWarmRestarts", "T_0": 3, "T_mult": 2, "eta_min": 0.01},
        lambda o, n: torch_schedulers.CosineAnnealingWarmRestarts(o, 3, 2, 0.01),
    ),
    "cyclic": (
        {"name": "CyclicLR", "max_lr": 1.5, "step_size_up": 2, "step_size_down": 3, "mode": "triangular2"},
        lambda o, n: torch_schedulers.CyclicLR(o, BASE, 1.5, 2, 3, "triangular2", cycle_momentum=False),
    ),
    "none": ({"name": "none"}, lambda o, n: torch_schedulers.ConstantLR(o, 1.0)),
}


@pytest.mark.parametrize("per", ["epoch", "step"])
@pytest.mark.parametrize("case", CASES)
def test_equals_torch_at_every_step(case, per):
    spec, make = CASES[case]
    if spec["name"] != "none":
        spec = {**spec, "per": per}
    expected, _ = torch_lrs(lambda o: make(o, units(per)), per=per)
    schedule = ours(spec)
    assert schedule.lr.dtype == np.float64
    np.testing.assert_allclose(schedule.lr, expected, rtol=1e-12, atol=0)
    assert schedule.momentum is None


@pytest.mark.parametrize("per", ["epoch", "step"])
@pytest.mark.parametrize("strategy", ["cos", "linear"])
@pytest.mark.parametrize("three_phase", [False, True])
@pytest.mark.parametrize("pct_start", [0.0, 0.15, 0.3, 0.45, 0.9, 1.0])
def test_one_cycle_equals_torch(per, strategy, three_phase, pct_start):
    options = {
        "pct_start": pct_start,
        "div_factor": 12.5,
        "final_div_factor": 300.0,
        "anneal_strategy": strategy,
        "three_phase": three_phase,
        "base_momentum": 0.8,
        "max_momentum": 0.97,
    }

    def make(optimizer):
        return torch_schedulers.OneCycleLR(optimizer, 2.0, total_steps=units(per), **options)

    lr, momentum = torch_lrs(make, per=per)
    schedule = ours({"name": "OneCycleLR", "max_lr": 2.0, "per": per, **options}, momentum=0.9)
    np.testing.assert_allclose(schedule.lr, lr, rtol=1e-12, atol=0)
    np.testing.assert_allclose(schedule.momentum, momentum, rtol=1e-12, atol=0)


def test_one_cycle_defaults_equal_torch_and_cycle_beta1():
    lr, beta1 = torch_lrs(
        lambda o: torch_schedulers.OneCycleLR(o, 2.0, total_steps=TOTAL), per="step", adam=True
    )
    schedule = ours({"name": "OneCycleLR", "max_lr": 2}, momentum=0.9)
    np.testing.assert_allclose(schedule.lr, lr, rtol=1e-12, atol=0)
    np.testing.assert_allclose(schedule.momentum, beta1, rtol=1e-12, atol=0)
    assert schedule.lr[0] == pytest.approx(0.08, rel=1e-12)
    assert schedule.lr[-1] == pytest.approx(8e-6, rel=1e-12)


def test_one_cycle_with_a_rise_of_no_length_starts_at_its_peak():
    # torch divides by zero here: one epoch of ten is the rise, which ends before the LR first changes.
    schedule = ours({"name": "OneCycleLR", "max_lr": 2.0, "pct_start": 0.1, "per": "epoch"}, momentum=0.9)
    assert schedule.lr[0] == 2.0
    assert schedule.momentum[0] == 0.85
    assert (np.diff(schedule.lr[::STEPS]) < 0).all()
    assert schedule.lr[-1] == pytest.approx(2.0 / 25 / 1e4, rel=1e-12)


def test_one_cycle_peak_defaults_to_the_lr_of_the_run():
    np.testing.assert_array_equal(
        ours({"name": "OneCycleLR"}).lr, ours({"name": "OneCycleLR", "max_lr": BASE}).lr
    )


def test_one_cycle_momentum_only_where_there_is_one():
    spec = {"name": "OneCycleLR", "max_lr": 2.0}
    assert ours(spec, momentum=None).momentum is None
    assert ours(spec, momentum=0.0).momentum is None
    assert ours({**spec, "cycle_momentum": False}, momentum=0.9).momentum is None
    # What torch does with plain SGD, when asked for:
    _, momentum = torch_lrs(
        lambda o: torch_schedulers.OneCycleLR(o, 2.0, total_steps=TOTAL), per="step", momentum=0.0
    )
    forced = ours({**spec, "cycle_momentum": True}, momentum=0.0).momentum
    np.testing.assert_allclose(forced, momentum, rtol=1e-12, atol=0)
    with pytest.raises(InputError, match="no momentum to cycle"):
        ours({**spec, "cycle_momentum": True}, momentum=None)


def test_polynomial_with_end_lr():
    schedule = ours({"name": "PolynomialLR", "power": 2, "end_lr": 1e-3})
    for step in range(TOTAL):
        expected = (BASE - 1e-3) * (1 - step / TOTAL) ** 2 + 1e-3
        assert schedule.lr[step] == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize("kind", ["linear", "constant"])
@pytest.mark.parametrize("length", [{"steps": 10}, {"epochs": 2}])
@pytest.mark.parametrize("case", ["step", "multi-step", "cosine", "polynomial"])
def test_warmup_equals_torch_sequential(kind, length, case):
    spec, make = CASES[case]
    warm = length.get("steps", STEPS * length.get("epochs", 0))

    def both(optimizer):
        if kind == "linear":
            first = torch_schedulers.LinearLR(optimizer, 0.1, total_iters=warm)
        else:
            first = torch_schedulers.ConstantLR(optimizer, 0.1, total_iters=warm)
        return torch_schedulers.SequentialLR(optimizer, [first, make(optimizer, TOTAL - warm)], [warm])

    expected, _ = torch_lrs(both, per="step")
    schedule = ours({**spec, "per": "step", "warmup": {"kind": kind, "factor": 0.1, **length}})
    np.testing.assert_allclose(schedule.lr, expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize(("kind", "torch_kind"), [("linear", "LinearLR"), ("constant", "ConstantLR")])
def test_warmup_defaults_are_those_of_torch(kind, torch_kind):
    make = getattr(torch_schedulers, torch_kind)
    expected, _ = torch_lrs(lambda o: make(o, total_iters=20), per="step")
    schedule = ours({"name": "none", "warmup": {"kind": kind, "steps": 20}})
    np.testing.assert_allclose(schedule.lr, expected, rtol=1e-12, atol=0)


def test_warmup_per_epoch():
    expected, _ = torch_lrs(lambda o: torch_schedulers.LinearLR(o, 0.2, total_iters=4), per="epoch")
    warmup = {"kind": "linear", "epochs": 4, "factor": 0.2, "per": "epoch"}
    np.testing.assert_allclose(ours({"name": "none", "warmup": warmup}).lr, expected, rtol=1e-12, atol=0)


def test_schedule_per_epoch_counts_from_the_warmups_end():
    spec = {"name": "StepLR", "step_size": 3, "gamma": 0.5, "warmup": {"epochs": 2, "factor": 0.0}}
    schedule = ours(spec)
    warm = BASE * np.arange(2 * STEPS) / (2 * STEPS)
    proper = BASE * np.repeat([1, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25], STEPS)
    np.testing.assert_allclose(schedule.lr, np.concatenate([warm, proper]), rtol=1e-14, atol=0)


def test_warmup_before_one_cycle_rises_to_its_first_lr_and_holds_momentum():
    spec = {"name": "OneCycleLR", "max_lr": 1.0, "warmup": {"epochs": 1, "factor": 0.5}}
    schedule = ours(spec, momentum=0.9)
    rest = ours({"name": "OneCycleLR", "max_lr": 1.0}, epochs=EPOCHS - 1, momentum=0.9)
    np.testing.assert_allclose(schedule.lr[:STEPS], 0.04 * (0.5 + 0.5 * np.arange(STEPS) / STEPS), rtol=1e-14)
    np.testing.assert_array_equal(schedule.lr[STEPS:], rest.lr)
    np.testing.assert_array_equal(schedule.momentum[:STEPS], np.full(STEPS, 0.95))
    np.testing.assert_array_equal(schedule.momentum[STEPS:], rest.momentum)


def test_cyclic_cycles_the_momentum_that_there_is():
    expected = torch_lrs(lambda o: torch_schedulers.CyclicLR(o, BASE, 1.0, 4), per="step")
    schedule = ours({"name": "CyclicLR", "max_lr": 1.0, "step_size_up": 4}, momentum=0.9)
    np.testing.assert_allclose((schedule.lr, schedule.momentum), expected, rtol=1e-12, atol=0)
    assert ours({"name": "CyclicLR", "max_lr": 1.0}, momentum=None).momentum is None


OWN = """
import numpy as np

def halves(base_lr, steps, steps_per_epoch, every=1):
    return base_lr * 0.5 ** (np.arange(steps) // (every * steps_per_epoch))

def short(base_lr, steps, steps_per_epoch):
    return [base_lr] * (steps - 1)

def negative(base_lr, steps, steps_per_epoch):
    return np.linspace(base_lr, -base_lr, steps)

def words(base_lr, steps, steps_per_epoch):
    return ["a"] * steps

def one_argument(base_lr):
    return [base_lr]
"""


@pytest.fixture
def own(tmp_path):
    (tmp_path / "own.py").write_text(OWN)
    return f"{tmp_path}/own.py"


def test_a_schedule_of_the_users_own(own):
    spec = {"name": f"{own}:halves", "arguments": {"every": 2}, "source_digest": "0"}
    expected = BASE * np.repeat([1, 0.5, 0.25, 0.125, 0.0625], 2 * STEPS)
    np.testing.assert_allclose(ours(spec).lr, expected, rtol=1e-15)
    warm = ours({**spec, "warmup": {"epochs": 2, "factor": 0.5}})
    np.testing.assert_allclose(warm.lr[: 2 * STEPS], BASE * np.linspace(0.5, 1, 2 * STEPS, endpoint=False))
    np.testing.assert_array_equal(warm.lr[2 * STEPS :], ours(spec, epochs=EPOCHS - 2).lr)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            {"name": "short"},
            r"own\.py: schedule\.name: returns LRs of a wrong shape \(got \(69,\)\).*70 steps",
        ),
        ({"name": "negative"}, r"returns -0\.\d+ for step 35 .*one number from 0"),
        ({"name": "words"}, "returns no numbers"),
        ({"name": "one_argument"}, r"TypeError: one_argument\(\) takes 1 positional argument but 3"),
        ({"name": "halves", "arguments": {"evry": 2}}, "TypeError: .*unexpected keyword argument 'evry'"),
        ({"name": "missing"}, r"no such function .*'missing'.*halves"),
        ({"name": "halves", "gamma": 2}, r"schedule\.gamma: unknown key"),
    ],
)
def test_wrong_schedules_of_the_users_own(own, spec, message):
    with pytest.raises(InputError, match=message) as caught:
        ours(spec | {"name": f"{own}:{spec['name']}"})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "spec",
    [
        {"name": "LinearLR", "start_factor": 2.0},
        {"name": "CosineAnnealingWarmRestarts", "T_0": 0},
        {"name": "CosineAnnealingWarmRestarts"},
        {"name": "CyclicLR", "max_lr": 1.0, "mode": "square"},
    ],
)
def test_arguments_that_torch_refuses(spec):
    with pytest.raises(InputError, match=f"{spec['name']} refuses its arguments"):
        ours(spec)


@pytest.mark.parametrize("name", sorted(set(schedules.SCHEDULES) - {"writeup2", *TORCH_SCHEDULES}))
@pytest.mark.parametrize("warm_epochs", [1, 5])
def test_warmup_as_long_as_the_run_or_longer_is_cut_off(name, warm_epochs):
    spec = {"name": name, "warmup": {"epochs": warm_epochs, "factor": 0.5}}
    spec |= {"StepLR": {"step_size": 1}, "MultiStepLR": {"milestones": [1]}}.get(name, {})
    spec |= {"gamma": 0.5} if name == "ExponentialLR" else {}
    schedule = ours(spec, epochs=1, momentum=0.9)
    first = BASE / 25 if name == "OneCycleLR" else BASE
    expected = first * (0.5 + 0.5 * np.arange(STEPS) / (warm_epochs * STEPS))
    np.testing.assert_allclose(schedule.lr, expected, rtol=1e-14)
    assert schedule.momentum is None or schedule.momentum.shape == schedule.lr.shape


# --- write-up 2 ---

ATTEMPTS = {
    # base LR, warm-up multiplier and end LR as functions of k, epochs
    1: (lambda k: 0.15, lambda k: k, lambda k: 1.5e-5 * k, 200),
    2: (lambda k: 0.05, lambda k: 2 * k, lambda k: 1e-5, 200),
    3: (lambda k: 0.05 * k, lambda k: 2, lambda k: 1e-5 * k, 200),
    4: (lambda k: 0.02 * k, lambda k: 5, lambda k: 1e-5 * k, 200),
    5: (lambda k: 0.05 * k, lambda k: 2, lambda k: 1e-5 * k, 175),
}


def transcription(base, multiplier, end, epochs, steps):
    """The write-up's warm-up and decay, step by step as its loop sets them."""
    lrs, s = [], 2
    for epoch in range(epochs):
        for _ in range(steps):
            if epoch < 5:
                lr = base * (1 + (multiplier - 1) * (epoch + 1) / 5)
            elif epoch == 5:
                lr = base * multiplier
            else:
                lr = (base * multiplier - end) * (1 - s / (epochs * steps)) ** 2 + end
                s += 1
            lrs.append(lr)
    return np.array(lrs)


def attempt(number, batch):
    base, multiplier, end, epochs = ATTEMPTS[number]
    k = batch // 128
    steps = math.ceil(50_000 / batch)
    schedule = schedules.build(
        {"name": "writeup2", "warmup_multiplier": multiplier(k), "end_lr": end(k)},
        base_lr=base(k),
        epochs=epochs,
        steps_per_epoch=steps,
    )
    return schedule.lr, transcription(base(k), multiplier(k), end(k), epochs, steps), end(k), steps


@pytest.mark.parametrize("batch", [128, 8192])
@pytest.mark.parametrize("number", ATTEMPTS)
def test_writeup2_as_coded(number, batch):
    lr, expected, _, steps = attempt(number, batch)
    np.testing.assert_allclose(lr, expected, rtol=1e-12, atol=0)
    k = batch // 128
    assert steps == {128: 391, 8192: 7}[batch]
    peak = 0.15 * k if number == 1 else 0.1 * k
    assert lr.max() == pytest.approx(peak, rel=1e-12)
    assert lr[5 * steps] == lr[6 * steps - 1] == pytest.approx(peak, rel=1e-12)
    # "never the base LR itself", unless it is also the peak (attempt 1 at k = 1)
    assert (number == 1 and k == 1) or not np.isclose(lr[: 6 * steps], ATTEMPTS[number][0](k)).any()


@pytest.mark.parametrize("batch", [128, 8192])
@pytest.mark.parametrize("number", ATTEMPTS)
def test_the_attempts_of_the_study_have_the_schedules_of_the_write_up(number, batch):
    """Of the study's file, not of this one's table: base LR, multiplier, end LR, epochs and steps."""
    plan = study.load(ROOT / "config/studies/lars-cifar10.yaml")
    base, multiplier, end, stated = ATTEMPTS[number]
    # The text says 200 for attempt 1, whose times fit about 100.
    epochs, k = (100 if number == 1 else stated), batch // 128
    steps = {128: 391, 8192: 7}[batch]
    found = []
    for run in plan.runs.values():
        axes = run.axes
        if axes["schedule"] == f"attempt{number}" and axes["batch_size"] == batch:
            settings = resolution.resolve(run.parameters, None)
            assert (settings["epochs"], settings["batch_size"], settings["drop_last"]) == (
                epochs,
                batch,
                False,
            )
            spec = {"base_lr": settings["lr"], "epochs": epochs, "steps_per_epoch": steps}
            lr = schedules.build(settings["schedule"], **spec).lr
            expected = transcription(base(k), multiplier(k), end(k), epochs, steps)
            np.testing.assert_allclose(lr, expected, rtol=1e-12, atol=0)
            found.append(axes["optimizer"])
    assert found == ["sgd", "lars-writeup", "lars"]


def test_writeup2_ends_far_above_its_stated_minimum():
    ratios = {}
    for number in ATTEMPTS:
        for batch in (128, 8192):
            lr, _, end, _ = attempt(number, batch)
            ratios[number, batch] = lr[-1] / end
    assert ratios.pop((2, 8192)) == pytest.approx(550, rel=2e-3)
    assert all(9.5 < ratio < 12.8 for ratio in ratios.values()), ratios


def test_writeup2_shrunk_to_two_epochs_stays_in_its_warmup():
    spec = {"name": "writeup2", "warmup_multiplier": 2, "end_lr": 1e-5}
    lr = schedules.build(spec, base_lr=0.05, epochs=2, steps_per_epoch=3).lr
    np.testing.assert_allclose(lr, [0.06] * 3 + [0.07] * 3, rtol=1e-14)


# --- properties and bad input ---


@given(
    epochs=st.integers(1, 40),
    steps=st.integers(1, 40),
    warm=st.integers(0, 60),
    name=st.sampled_from(["none", "OneCycleLR", "CosineAnnealingLR", "PolynomialLR"]),
)
def test_any_length_gives_one_usable_lr_per_step(epochs, steps, warm, name):
    spec = {"name": name, "warmup": {"steps": warm, "factor": 0.25}}
    schedule = schedules.build(spec, base_lr=0.1, epochs=epochs, steps_per_epoch=steps, momentum=0.9)
    assert schedule.lr.shape == (epochs * steps,)
    assert np.isfinite(schedule.lr).all()
    assert (schedule.lr > 0).all()
    assert (schedule.lr <= 0.1 * (1 + 1e-12)).all()


def test_the_specification_is_left_as_it_is():
    spec = {"name": "MultiStepLR", "milestones": [5, 2], "warmup": {"epochs": 1}}
    ours(spec)
    assert spec == {"name": "MultiStepLR", "milestones": [5, 2], "warmup": {"epochs": 1}}


def test_a_growing_lr_may_overflow_without_a_warning():
    assert ours({"name": "ExponentialLR", "gamma": 1e60, "per": "step"}).lr[-1] == np.inf


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"name": "StepLr", "step_size": 3}, r"schedule\.name: unknown schedule.*did you mean 'StepLR'"),
        ({}, r"schedule\.name: unknown schedule"),
        ({"name": "StepLR"}, r"schedule\.step_size: is missing"),
        ({"name": "StepLR", "stepsize": 3}, r"schedule\.stepsize: unknown key.*did you mean 'step_size'"),
        ({"name": "StepLR", "step_size": 0}, r"step_size: is not a count \(got 0\)"),
        ({"name": "StepLR", "step_size": 2.5}, r"step_size: is not a count"),
        ({"name": "StepLR", "step_size": True}, r"step_size: is not a count"),
        ({"name": "StepLR", "step_size": 2, "gamma": 0}, r"gamma: out of range.*above 0"),
        ({"name": "StepLR", "step_size": 2, "gamma": "1e-1"}, r"gamma: is text.*1\.0e-5"),
        ({"name": "StepLR", "step_size": 2, "gamma": math.nan}, r"gamma: is not a number"),
        ({"name": "StepLR", "step_size": 2, "per": "batch"}, r"per: unknown value.*epoch, step"),
        ({"name": "MultiStepLR", "milestones": 3}, r"milestones: is not a list"),
        ({"name": "MultiStepLR", "milestones": [3, 0]}, r"milestones\[1\]: is not a count"),
        ({"name": "OneCycleLR", "max_lr": "lr * 3"}, r"max_lr: is text"),
        ({"name": "OneCycleLR", "pct_start": 1.5}, r"pct_start: out of range.*0 to 1"),
        ({"name": "OneCycleLR", "three_phase": "yes"}, r"three_phase: is neither true nor false"),
        ({"name": "none", "per": "step"}, r"schedule\.per: unknown key"),
        ({"name": "writeup2", "end_lr": 0.1}, r"warmup_multiplier: is missing"),
        (
            {"name": "writeup2", "end_lr": 0.1, "warmup_multiplier": 2, "warmup": {"epochs": 5}},
            r"schedule\.warmup: unknown key",
        ),
        ({"name": "none", "warmup": 5}, r"schedule\.warmup: is not a mapping"),
        ({"name": "none", "warmup": {}}, r"schedule\.warmup: has no single length"),
        ({"name": "none", "warmup": {"epochs": 1, "steps": 7}}, r"schedule\.warmup: has no single length"),
        ({"name": "none", "warmup": {"epochs": 1, "factr": 1}}, r"warmup\.factr: .*did you mean 'factor'"),
        ({"name": "none", "warmup": {"epochs": 1, "factor": 2}}, r"warmup\.factor: out of range"),
        ({"name": "none", "warmup": {"epochs": 1, "kind": "cosine"}}, r"warmup\.kind: unknown value"),
        ({"name": "none", "warmup": {"steps": 5, "per": "epoch"}}, r"warmup\.per: is counted in steps"),
    ],
)
def test_bad_input(spec, message):
    with pytest.raises(InputError, match=message) as caught:
        ours(spec)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "changes", [{"base_lr": -0.1}, {"base_lr": math.inf}, {"epochs": 0}, {"steps_per_epoch": 0}]
)
def test_bad_run(changes):
    with pytest.raises(InputError):
        ours({"name": "none"}, **changes)


def test_torch_is_not_imported():
    code = "import sys, rangefinder.schedules; sys.exit('torch' in sys.modules)"
    assert (
        subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": ":".join(sys.path)}).returncode == 0
    )
