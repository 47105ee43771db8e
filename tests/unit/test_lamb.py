"""LAMB against Algorithm 2 in float64 and against two other libraries."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
import pytorch_optimizer
import timm.optim
import torch
from optimizer_runs import assert_close, parameters, run
from rangefinder.lamb import LAMB
from torch.utils._python_dispatch import TorchDispatchMode

SHAPES = [(8, 3, 3, 3), (16,), (5, 40), (5,), (), (6,)]
ZERO_WEIGHTS, BOTH_ZERO = {3}, {5}
STEPS = 100


def problem(steps=STEPS):
    """Start weights and the gradients of every step, float64."""
    rng = np.random.default_rng(1)
    zero = ZERO_WEIGHTS | BOTH_ZERO
    weights = [np.zeros(s) if i in zero else rng.normal(0, 0.3, s) for i, s in enumerate(SHAPES)]
    gradients = [
        [np.zeros(s) if i in BOTH_ZERO else rng.normal(0.1, 1, s) for i, s in enumerate(SHAPES)]
        for _ in range(steps)
    ]
    return weights, gradients


def changing_lrs(steps=STEPS):
    return [
        float(lr) for lr in np.concatenate([np.linspace(1e-3, 0.1, 20), np.geomspace(0.1, 1e-6, steps - 20)])
    ]


def algorithm2(
    weights, gradients, lrs, *, beta1=0.9, beta2=0.999, eps=1e-6, decay=0.01, correct=True, phi=lambda z: z,
    highest=math.inf, adapt=True,
):  # fmt: skip
    """Algorithm 2 of You et al. 2019 in numpy."""
    weights = [w.copy() for w in weights]
    ms, vs = [np.zeros_like(w) for w in weights], [np.zeros_like(w) for w in weights]
    for t, (eta, step) in enumerate(zip(lrs, gradients, strict=True), start=1):
        for i, g in enumerate(step):
            ms[i] = beta1 * ms[i] + (1 - beta1) * g
            vs[i] = beta2 * vs[i] + (1 - beta2) * g**2
            m_hat = ms[i] / (1 - beta1**t) if correct else ms[i]
            v_hat = vs[i] / (1 - beta2**t) if correct else vs[i]
            update = m_hat / (np.sqrt(v_hat) + eps) + decay * weights[i]
            weight_norm, update_norm = phi(math.sqrt((weights[i] ** 2).sum())), math.sqrt((update**2).sum())
            ratio = weight_norm / update_norm if weight_norm and update_norm else 1.0
            weights[i] = weights[i] - eta * (min(ratio, highest) if adapt else 1.0) * update
    return weights


@pytest.mark.parametrize("foreach", [False, True])
@pytest.mark.parametrize(
    ("options", "oracle"),
    [
        ({}, {}),
        ({"weight_decay": 0.0}, {"decay": 0.0}),
        ({"bias_correction": False}, {"correct": False}),
        ({"betas": (0.8, 0.95), "eps": 1e-3}, {"beta1": 0.8, "beta2": 0.95, "eps": 1e-3}),
        ({"norm_clip": (0.5, 2.0)}, {"phi": lambda z: min(max(z, 0.5), 2.0)}),
        ({"ratio_clip": 0.2}, {"highest": 0.2}),
        ({"adapt": False}, {"adapt": False}),
    ],
    ids=lambda value: ",".join(value),  # keys alone: a function's address would differ between workers
)
def test_equals_algorithm_2_over_100_steps(options, oracle, foreach):
    weights, gradients = problem()
    params = parameters(weights)
    optimizer = LAMB(params, lr=1.0, foreach=foreach, **({"weight_decay": 0.01} | options))
    found = run(optimizer, params, gradients, changing_lrs())
    assert_close(found, algorithm2(weights, gradients, changing_lrs(), **oracle), 1e-12)


@pytest.mark.parametrize("foreach", [False, True])
def test_equals_timm(foreach):
    weights, gradients = problem()
    ours, theirs = parameters(weights), parameters(weights)
    found = run(LAMB(ours, lr=1.0, weight_decay=0.01, foreach=foreach), ours, gradients, changing_lrs())
    peer = timm.optim.Lamb(theirs, lr=1.0, weight_decay=0.01, max_grad_norm=None, foreach=False)
    assert_close(found, run(peer, theirs, gradients, changing_lrs()), 1e-12)


@pytest.mark.parametrize("foreach", [False, True])
def test_equals_pytorch_optimizer(foreach):
    """Theirs: the paper's third version, weight norms up to 10; eps also joins the ratio's denominator."""
    weights, gradients = problem()
    ours, theirs = parameters(weights), parameters(weights)
    optimizer = LAMB(
        ours, lr=1.0, weight_decay=0.01, bias_correction=False, norm_clip=(0, 10), eps=1e-14, foreach=foreach
    )
    places = [
        i for i in range(len(SHAPES)) if i not in BOTH_ZERO
    ]  # 0 / (0 + 1e-14) is exact, 0/0 is not theirs
    found = run(optimizer, ours, gradients, changing_lrs())
    peer = pytorch_optimizer.Lamb(
        theirs, lr=1.0, weight_decay=0.01, weight_decouple=False, adam_debias=True, eps=1e-14, foreach=False
    )
    expected = run(peer, theirs, gradients, changing_lrs())
    assert_close([found[i] for i in places], [expected[i] for i in places], 1e-12)


def test_not_adapted_is_adamw_but_for_the_decays_lr():
    weights, gradients = problem()
    ours, theirs = parameters(weights), parameters(weights)
    found = run(LAMB(ours, lr=1.0, weight_decay=0.0, adapt=False, eps=1e-8), ours, gradients, changing_lrs())
    adam = torch.optim.Adam(theirs, lr=1.0)
    assert_close(found, run(adam, theirs, gradients, changing_lrs()), 1e-12)


@pytest.mark.parametrize("foreach", [False, True])
def test_nothing_is_nan_at_zero_and_zero_weights_move(foreach):
    still, moving = torch.nn.Parameter(torch.zeros(3)), torch.nn.Parameter(torch.zeros(3))
    optimizer = LAMB([still, moving], lr=0.1, foreach=foreach)
    for _ in range(3):
        still.grad, moving.grad = torch.zeros(3), torch.ones(3)
        optimizer.step()
    assert (still == 0).all()
    assert (moving < 0).all()


class NoReading(TorchDispatchMode):
    """Refuses to read a number from a tensor: on a GPU that waits for the device."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        assert func is not torch.ops.aten._local_scalar_dense.default, "a number was read from a tensor"
        return func(*args, **(kwargs or {}))


def test_capturable_steps_read_nothing_from_the_device():
    weights, gradients = problem(10)
    params, others = parameters(weights), parameters(weights)
    lr = torch.tensor(0.01, dtype=torch.float64)
    options = {"weight_decay": 0.01, "norm_clip": (0.0, 5.0), "ratio_clip": 3.0, "foreach": True}
    optimizer, usual = LAMB(params, lr, capturable=True, **options), LAMB(others, 0.01, **options)
    for step in gradients:
        for p, q, g in zip(params, others, step, strict=True):
            p.grad, q.grad = torch.tensor(g), torch.tensor(g)
        with NoReading():
            optimizer.step()
        usual.step()
    assert optimizer.param_groups[0]["step"].item() == 10
    assert_close([p.detach().numpy() for p in params], [q.detach().numpy() for q in others], 1e-13)


@pytest.mark.parametrize("capturable", [False, True])
@pytest.mark.parametrize("foreach", [False, True])
def test_a_loaded_state_continues_as_if_never_saved(foreach, capturable):
    weights, gradients = problem(20)
    lrs = changing_lrs(40)[:20]
    options = {"weight_decay": 0.01, "foreach": foreach, "capturable": capturable}
    whole = parameters(weights)
    expected = run(LAMB(whole, lr=0.1, **options), whole, gradients, lrs)
    params = parameters(weights)
    first = LAMB(params, lr=0.1, **options)
    run(first, params, gradients[:10], lrs[:10])
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second = LAMB(params, lr=9.0, foreach=foreach, capturable=capturable)
    second.load_state_dict(torch.load(file, weights_only=True))
    assert_close(run(second, params, gradients[10:], lrs[10:]), expected, 0.0)


def test_float32_paths_agree():
    weights, gradients = problem()
    ends = []
    for foreach in (False, True):
        params = parameters(weights, torch.float32)
        ends.append(
            run(LAMB(params, lr=1.0, weight_decay=0.01, foreach=foreach), params, gradients, changing_lrs())
        )
    assert_close(*ends, 2e-5)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"lr": -1.0}, "lr is -1.0"),
        ({"eps": -1.0}, "eps is -1.0"),
        ({"ratio_clip": -1.0}, "ratio_clip is -1.0"),
        ({"betas": (0.9, 1.0)}, "betas are"),
        ({"betas": (0.9,)}, "betas are"),
        ({"norm_clip": (2.0, 1.0)}, "norm_clip is"),
    ],
)
def test_bad_arguments_are_refused(bad, message):
    with pytest.raises(ValueError, match=message):
        LAMB([torch.nn.Parameter(torch.ones(1))], **({"lr": 0.1} | bad))
