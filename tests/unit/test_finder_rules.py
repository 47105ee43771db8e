"""The other finders' rules against the packages they come from."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
from finder_peers import END, PEERS, START
from rangefinder.finder_rules import RULES


def curve(
    seed: int, steps: int, *, spikes: int = 0, nan_from: float | None = None, inf_from: float | None = None
):
    """Losses of a made-up sweep: fall, floor, explosion, with noise [steps]."""
    random = np.random.default_rng(seed)
    x = np.linspace(-6, 1, steps)
    best = random.uniform(-3, -0.5)
    loss = 0.2 + 2.1 / (1 + np.exp(3 * (x - best + 1))) + np.exp(np.minimum(6 * (x - best - 0.8), 30))
    loss *= np.exp(random.choice([0.0, 0.02, 0.2]) * random.normal(size=steps))
    loss[random.integers(0, steps // 4, spikes)] *= 8
    if nan_from is not None:
        loss[x > best + nan_from] = np.nan
    if inf_from is not None:
        loss[x > best + inf_from] = np.inf
    return loss.astype(np.float32).astype(np.float64)


CURVES = {
    **{f"{steps}-steps-{seed}": curve(seed, steps) for seed in range(4) for steps in (100, 350)},
    "spikes": curve(10, 200, spikes=4),
    "nan-late": curve(11, 200, nan_from=0.5),
    "nan-early": curve(12, 200, nan_from=-1.5),
    "inf-late": curve(13, 200, inf_from=0.5),
    "all-nan": np.full(60, np.nan),
    "constant": np.full(100, 2.3),
    "falling": np.linspace(2.3, 0.1, 100),
    "rising": np.linspace(0.1, 0.3, 100),
    "explodes-at-once": np.geomspace(1, 1e6, 40),
    "few-points": curve(14, 14),
    "zero": np.zeros(80),
}


@pytest.mark.parametrize("case", CURVES)
@pytest.mark.parametrize("package", PEERS)
def test_rule_is_the_package_s(package: str, case: str) -> None:
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed; envs/pip lists it among the test peers")
    losses = CURVES[case]
    recorded, suggestions = PEERS[package](losses)
    # A sweep that the package ended early would have gone on at later LRs; their values cannot matter.
    lr = np.concatenate([recorded, 1e3 * 1.1 ** np.arange(len(losses) - len(recorded))])
    for name, expected in suggestions.items():
        answer = RULES[name].function(lr, losses)
        if expected is None:
            assert answer is None, name
        else:
            assert answer == pytest.approx(expected, rel=2e-6), name  # float32 against float64 of one LR


def test_every_rule_says_where_it_comes_from() -> None:
    for name, rule in RULES.items():
        assert rule.name == name
        assert rule.package in {"fastai", "lightning", "torch-lr-finder", "pytorch-ignite"}
        assert rule.source.endswith(
            ("valley", "slide", "steep", "minimum", "suggestion", "plot", "lr_suggestion")
        )


def test_known_faults_are_kept() -> None:
    lr = np.geomspace(START, END, 200)
    falling = 2.3 - np.linspace(0, 0.5, 200)
    falling[150:] = np.nan
    # NaN is taken for the steepest descent: the LR suggested is the one whose gradient is the first NaN.
    assert RULES["torch_lr_finder"].function(lr, falling) == lr[149]
    assert RULES["ignite"].function(lr, falling) == lr[149]
    # Slide always answers with the 16th point from the end where the smoothed curve is nearly straight.
    flat = np.full(200, 2.3)
    assert RULES["fastai_slide"].function(lr, flat) == pytest.approx(lr[:-5][-16], rel=1e-6)
    # The steepest descent per unit of LR is at the smallest LRs: a loss that falls evenly per decade.
    even = np.linspace(2.3, 0.3, 200)
    even[:40] = 2.3 - 0.01 * np.arange(40) / 40
    assert RULES["lightning"].function(lr, even) < 1e-3


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("length", [0, 1, 2, 3, 5, 6, 11, 12, 15, 16, 17, 25])
def test_short_sweeps_give_an_lr_of_the_sweep_or_none(name: str, length: int) -> None:
    lr = np.geomspace(START, END, 25)[:length]
    answer = RULES[name].function(lr, np.linspace(2, 1, 25)[:length])
    assert answer is None or np.isclose(lr, answer * (10 if name == "fastai_minimum" else 1), rtol=1e-6).any()
