"""LARS against Algorithm 1 in float64 and other libraries; the write-up's variant against its formula."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
import pytorch_optimizer
import timm.optim
import torch
from no_reading import NoReading
from optimizer_runs import assert_close, parameters, run
from rangefinder import lars
from rangefinder.lars import LARS, LARSWriteUp
from rangefinder.layerwise import norm

SHAPES = [(8, 3, 3, 3), (16,), (16,), (5, 40), (5,), (), (7, 2), (6,)]
ZERO_WEIGHTS, ZERO_GRADIENTS, BOTH_ZERO = {1, 4}, {6}, {7}  # places in SHAPES
STEPS = 100


def problem(steps=STEPS, seed=0):
    """Start weights and the gradients of every step, float64."""
    rng = np.random.default_rng(seed)
    zero = ZERO_WEIGHTS | BOTH_ZERO
    weights = [np.zeros(s) if i in zero else rng.normal(0, 0.3, s) for i, s in enumerate(SHAPES)]
    still = ZERO_GRADIENTS | BOTH_ZERO
    gradients = [
        [
            np.zeros(s) if i in still else rng.normal(0.1, 10 ** rng.uniform(-4, 1), s)
            for i, s in enumerate(SHAPES)
        ]
        for _ in range(steps)
    ]
    return weights, gradients


def all_but(places, weights, gradients):
    """The same problem without some of its tensors."""
    kept = [i for i in range(len(weights)) if i not in places]
    return [weights[i] for i in kept], [[step[i] for i in kept] for step in gradients]


def changing_lrs(steps=STEPS):
    """Warm-up, decay over nine decades, an LR of 0, and a high one."""
    # Not 5: a step of it without a gradient and with γ outside leaves 1 − 5·η/(1 − m) = 0 of the weights.
    lrs = np.concatenate([np.linspace(1e-3, 2, 20), np.geomspace(2, 1e-9, steps - 22), [0.0, 4.0]])
    return [float(lr) for lr in lrs]


def algorithm1(
    weights, gradients, lrs, *, m, beta, eta, eps=0.0, clip=False, outside=False, nesterov=False, adapted=None
):
    """Algorithm 1 of You, Gitman and Ginsburg 2017, with the options, written down once more in numpy.

    λ is the paper's but where ‖w‖ = 0, or where its denominator is 0: there it is 1.
    """
    weights = [w.copy() for w in weights]
    velocities = [np.zeros_like(w) for w in weights]
    for gamma, step in zip(lrs, gradients, strict=True):
        for i, g in enumerate(step):
            w_norm, g_norm = math.sqrt((weights[i] ** 2).sum()), math.sqrt((g**2).sum())
            trust, denominator = 1.0, g_norm + beta * w_norm + eps
            if w_norm > 0 and denominator > 0 and (adapted is None or i in adapted):
                trust = eta * w_norm / denominator
                if clip:
                    trust = min(trust / gamma, 1.0) if gamma else 1.0
            inner, outer = (trust, gamma) if outside else (gamma * trust, 1.0)
            direction = inner * (g + beta * weights[i])
            velocities[i] = m * velocities[i] + direction
            weights[i] = weights[i] - outer * (direction + m * velocities[i] if nesterov else velocities[i])
    return weights


class Spy:
    """Counts the calls of torch's fused SGD kernel."""

    def __init__(self, monkeypatch):
        self.calls, original = 0, torch._fused_sgd_

        def counted(*args, **kwargs):
            self.calls += 1
            return original(*args, **kwargs)

        monkeypatch.setattr(torch, "_fused_sgd_", counted)


OPTIONS = [
    {},
    {"eps": 1e-3},
    {"clip": True},
    {"lr_outside": True},
    {"nesterov": True},
    {"lr_outside": True, "clip": True, "nesterov": True, "eps": 1e-8},
    {"weight_decay": 0.0},
    {"momentum": 0.0},
    {"momentum": 0.0, "lr_outside": True, "trust_coefficient": 0.9},
]


@pytest.mark.parametrize("foreach", [False, True])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_equals_algorithm_1_over_100_steps(options, foreach, monkeypatch):
    spy = Spy(monkeypatch)
    weights, gradients = problem()
    lrs = changing_lrs()
    plain = not options and not foreach
    options = {"momentum": 0.9, "weight_decay": 5e-3, "trust_coefficient": 0.02} | options
    expected = algorithm1(
        weights,
        gradients,
        lrs,
        m=options["momentum"],
        beta=options["weight_decay"],
        eta=options["trust_coefficient"],
        eps=options.get("eps", 0.0),
        clip=options.get("clip", False),
        outside=options.get("lr_outside", False),
        nesterov=options.get("nesterov", False),
    )
    params = parameters(weights)
    found = run(LARS(params, lr=1.0, foreach=foreach, **options), params, gradients, lrs)
    assert_close(found, expected, 1e-12)
    if plain:  # both ways of a CPU were taken
        assert 0 < spy.calls < STEPS * len(SHAPES)


@pytest.mark.parametrize("foreach", [False, True])
def test_groups_that_are_not_adapted_or_decayed(foreach):
    weights, gradients = problem()
    lrs = changing_lrs()
    adapted = [i for i, shape in enumerate(SHAPES) if len(shape) > 1]
    rest = [i for i in range(len(SHAPES)) if i not in adapted]
    params = parameters(weights)
    groups = [
        {"params": [params[i] for i in adapted]},
        {"params": [params[i] for i in rest], "adapt": False, "weight_decay": 0.0},
    ]
    optimizer = LARS(groups, lr=1.0, weight_decay=0.01, trust_coefficient=0.05, foreach=foreach)
    found = run(optimizer, params, gradients, lrs)
    for places, beta in ((adapted, 0.01), (rest, 0.0)):
        expected = algorithm1(weights, gradients, lrs, m=0.9, beta=beta, eta=0.05, adapted=adapted)
        assert_close([found[i] for i in places], [expected[i] for i in places], 1e-12)


def test_not_adapted_is_sgd():
    weights, gradients = problem()
    ours, theirs = parameters(weights), parameters(weights)
    found = run(
        LARS(ours, lr=0.1, weight_decay=0.01, lr_outside=True, adapt=False), ours, gradients, changing_lrs()
    )
    sgd = torch.optim.SGD(theirs, lr=0.1, momentum=0.9, weight_decay=0.01)
    assert_close(found, run(sgd, theirs, gradients, changing_lrs()), 1e-12)


@pytest.mark.parametrize("foreach", [False, True])
@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("clip", [False, True])
def test_equals_timm(foreach, nesterov, clip):
    weights, gradients = all_but(ZERO_GRADIENTS, *problem())  # λ = 1 there in theirs
    lrs = [min(lr, 1.0) for lr in changing_lrs() if lr > 0]  # timm divides by the LR to clip
    shared = {"momentum": 0.9, "weight_decay": 5e-3, "nesterov": nesterov, "eps": 1e-8}
    ours, theirs = parameters(weights), parameters(weights)
    optimizer = LARS(
        ours, lr=1.0, trust_coefficient=0.02, clip=clip, lr_outside=True, foreach=foreach, **shared
    )
    found = run(optimizer, ours, gradients[: len(lrs)], lrs)
    peer = timm.optim.Lars(theirs, lr=1.0, trust_coeff=0.02, trust_clip=clip, foreach=False, **shared)
    assert_close(found, run(peer, theirs, gradients[: len(lrs)], lrs), 1e-12)


@pytest.mark.parametrize("foreach", [False, True])
@pytest.mark.parametrize("inside", [False, True])
def test_equals_pytorch_optimizer(foreach, inside):
    """γ stands outside in theirs: the same at a changing LR with `lr_outside`, at a constant one without."""
    weights, gradients = problem()
    lrs = [0.7] * STEPS if inside else changing_lrs()
    ours, theirs = parameters(weights), parameters(weights)
    groups = [
        {"params": [p for p in ours if p.ndim > 1]},
        {"params": [p for p in ours if p.ndim <= 1], "adapt": False, "weight_decay": 0.0},
    ]
    optimizer = LARS(
        groups, lr=1.0, weight_decay=5e-3, trust_coefficient=0.02, lr_outside=not inside, foreach=foreach
    )
    found = run(optimizer, ours, gradients, lrs)
    peer = pytorch_optimizer.LARS(theirs, lr=1.0, weight_decay=5e-3, trust_coefficient=0.02, foreach=False)
    assert_close(found, run(peer, theirs, gradients, lrs), 1e-12)


def test_lr_inside_the_momentum_differs_from_outside_once_the_lr_changes():
    weights, gradients = problem(20)
    ends = {}
    for outside in (False, True):
        for label, lrs in (("constant", [0.5] * 20), ("falling", list(np.geomspace(0.5, 1e-3, 20)))):
            params = parameters(weights)
            ends[outside, label] = run(LARS(params, lr=1.0, lr_outside=outside), params, gradients, lrs)
    assert_close(ends[False, "constant"], ends[True, "constant"], 1e-12)
    with pytest.raises(AssertionError):
        assert_close(ends[False, "falling"], ends[True, "falling"], 1e-3)


@pytest.mark.parametrize("foreach", [False, True])
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, 0.9),  # λ = η/β = 20, v = λ·β·w
        ({"momentum": 0.9}, 0.9),  # the first step of the fused kernel
        ({"eps": 5e-3}, 0.95),
        ({"clip": True}, 0.995),  # λ at most 1
        ({"lr_outside": True}, 0.9),
        ({"weight_decay": 0.0}, 1.0),  # 0.1/0: nothing to scale
        ({"adapt": False}, 0.995),
    ],
    ids=str,
)
def test_without_a_gradient_weights_decay_by_the_formula(options, expected, foreach):
    p = torch.nn.Parameter(torch.ones(1, dtype=torch.float64))
    options = {"momentum": 0.0, "weight_decay": 5e-3, "trust_coefficient": 0.1} | options
    optimizer = LARS([p], lr=1.0, foreach=foreach, **options)
    p.grad = torch.zeros(1, dtype=torch.float64)
    optimizer.step()
    assert p.item() == pytest.approx(expected, abs=1e-14)


@pytest.mark.parametrize("foreach", [False, True])
@pytest.mark.parametrize("kind", [LARS, LARSWriteUp])
def test_nothing_is_nan_at_zero(kind, foreach):
    for weight, gradient in ((0.0, 0.0), (0.0, 1.0), (1.0, 0.0)):
        p = torch.nn.Parameter(torch.full((3,), weight))
        optimizer = kind([p], lr=0.1, weight_decay=0.0, foreach=foreach)
        for _ in range(3):
            p.grad = torch.full((3,), gradient)
            optimizer.step()
        assert torch.isfinite(p).all()
        # LARS moves a bias that starts at zero; the write-up's variant leaves it there, as the original does.
        moved = kind is LARS and gradient != 0
        assert bool((p.detach() != weight).all()) == moved


@pytest.mark.parametrize("foreach", [False, True])
@pytest.mark.parametrize("kind", [LARS, LARSWriteUp])
@pytest.mark.parametrize("poison", [math.nan, math.inf])
def test_a_gradient_that_is_not_finite_reaches_the_weights(kind, foreach, poison):
    p = torch.nn.Parameter(torch.ones(4))
    optimizer = kind([p], lr=0.1, foreach=foreach)
    p.grad = torch.tensor([1.0, poison, 1.0, 1.0])
    optimizer.step()
    assert not torch.isfinite(p).all()


# --- the write-up's variant ---


def writeup(weights, gradients, lrs, *, wd=5e-3, m=0.9, eta=0.1, later=False):
    weights = [w.copy() for w in weights]
    buffers = [np.zeros_like(w) for w in weights]
    for lr, step in zip(lrs, gradients, strict=True):
        for i, g in enumerate(step):
            w_norm, g_norm = math.sqrt((weights[i] ** 2).sum()), math.sqrt((g**2).sum())
            denominator = g_norm + (wd if later else m) * w_norm
            local = eta * w_norm / denominator if denominator else 0.0
            buffers[i] = m * buffers[i] + g + wd * weights[i]
            scaled = lr * local * buffers[i]
            if later:
                buffers[i] = scaled
            weights[i] = weights[i] - scaled
    return weights


@pytest.mark.parametrize("foreach", [False, True])
@pytest.mark.parametrize("revision", ["first", "later"])
def test_writeup_equals_its_formula(foreach, revision):
    weights, gradients = problem()
    lrs = changing_lrs()
    params = parameters(weights)
    optimizer = LARSWriteUp(params, lr=1.0, revision=revision, foreach=foreach)
    found = run(optimizer, params, gradients, lrs)
    expected = writeup(weights, gradients, lrs, later=revision == "later")
    assert_close(found, expected, 1e-12)
    for i in ZERO_WEIGHTS | BOTH_ZERO:
        assert (found[i] == 0).all()  # never moved


def test_writeup_with_small_gradients_is_sgd_at_a_ninth_of_the_lr():
    weights = [np.random.default_rng(0).normal(size=(20, 20))]
    gradients = [[np.full((20, 20), 1e-9)]] * 10
    ours, theirs = parameters(weights), parameters(weights)
    found = run(LARSWriteUp(ours, lr=1.0, weight_decay=5e-3), ours, gradients, [0.1] * 10)
    sgd = torch.optim.SGD(theirs, lr=1.0, momentum=0.9, weight_decay=5e-3)
    assert_close(found, run(sgd, theirs, gradients, [0.1 / 9] * 10), 1e-8)


# --- kernels ---


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_paths_agree_in_float32(options):
    weights, gradients = problem()
    ends = []
    for foreach in (False, True):
        params = parameters(weights, torch.float32)
        ends.append(run(LARS(params, lr=1.0, foreach=foreach, **options), params, gradients, changing_lrs()))
    assert_close(*ends, 2e-5)


def test_the_fused_kernel_is_used_on_a_cpu(monkeypatch):
    spy = Spy(monkeypatch)
    weights, gradients = problem(3)
    params = parameters(weights, torch.float32)
    optimizer = LARS(params, lr=0.1, weight_decay=1e-3, trust_coefficient=0.1)
    run(optimizer, params, gradients, [0.1] * 3)
    assert optimizer.kernel == "fused"
    assert spy.calls == 3 * len(SHAPES)


def test_a_tiny_factor_keeps_its_digits_in_float32(monkeypatch):
    """1 - (1 - 1e-12) is wrong in the fifth digit: the fused kernel must not be handed such a factor."""
    spy = Spy(monkeypatch)
    p = torch.nn.Parameter(torch.full((10,), 1e-10))
    optimizer = LARS([p], lr=3.3e-12, adapt=False)
    p.grad = torch.ones(10)
    optimizer.step()
    assert spy.calls == 0
    np.testing.assert_allclose(optimizer.state[p]["momentum_buffer"].numpy(), 3.3e-12, rtol=1e-7)


@pytest.mark.parametrize("layout", ["contiguous", "channels last", "transposed"])
@pytest.mark.parametrize("shape", [(512, 512, 3, 3), (1000, 2048), (313, 313)])
def test_the_norm_of_a_large_tensor_is_right_to_float32s_rounding(layout, shape):
    tensor = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    if layout == "transposed":
        tensor = tensor.transpose(0, 1)
    elif layout == "channels last" and len(shape) == 4:
        tensor = tensor.to(memory_format=torch.channels_last)
    exact = math.sqrt(math.fsum(tensor.double().square().flatten().tolist()))
    if layout == "transposed":  # cannot be taken in parts as it lies in memory
        assert norm(tensor) == torch.linalg.vector_norm(tensor).item()
    else:
        assert norm(tensor) == pytest.approx(exact, rel=3e-6)
        assert norm(tensor.double()) == pytest.approx(exact, rel=1e-13)


def test_the_norm_of_a_large_tensor_does_not_depend_on_the_threads():
    tensor, threads, found = torch.randn(512, 512, 3, 3), torch.get_num_threads(), []
    try:
        for count in (1, 2, 3, 8):
            torch.set_num_threads(count)
            found.append(norm(tensor))
    finally:
        torch.set_num_threads(threads)
    assert len(set(found)) == 1


@pytest.mark.parametrize("foreach", [False, True])
@pytest.mark.parametrize("gradient_layout", [torch.contiguous_format, torch.channels_last])
def test_memory_layout_makes_no_difference(foreach, gradient_layout):
    rng = torch.Generator().manual_seed(0)
    start, gradient = torch.randn(2, 8, 4, 3, 3, generator=rng, dtype=torch.float64)
    ends = []
    for layout, grad_layout in (
        (torch.contiguous_format, torch.contiguous_format),
        (torch.channels_last, gradient_layout),
    ):
        p = torch.nn.Parameter(start.clone(memory_format=layout))
        optimizer = LARS([p], lr=0.5, weight_decay=0.01, foreach=foreach)
        for _ in range(3):
            p.grad = gradient.clone(memory_format=grad_layout)
            optimizer.step()
        assert optimizer.state[p]["momentum_buffer"].stride() == p.stride()
        ends.append(p.detach())
    torch.testing.assert_close(*ends, rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize(
    "make",
    [
        lambda ps, lr: LARS(ps, lr, weight_decay=0.01, foreach=True),
        lambda ps, lr: LARS(
            ps, lr, weight_decay=0.01, foreach=True, clip=True, lr_outside=True, nesterov=True
        ),
        lambda ps, lr: LARS(ps, lr, foreach=True, adapt=False),
        lambda ps, lr: LARSWriteUp(ps, lr, foreach=True),
        lambda ps, lr: LARSWriteUp(ps, lr, revision="later", foreach=True),
    ],
)
def test_multi_tensor_steps_read_nothing_from_the_device(make):
    weights, gradients = problem(4)
    params, others = parameters(weights), parameters(weights)
    optimizer = make(params, torch.tensor(0.3, dtype=torch.float64))
    optimizer_with_number = make(others, 0.3)
    for step in gradients:
        for p, q, g in zip(params, others, step, strict=True):
            p.grad, q.grad = torch.tensor(g), torch.tensor(g)
        with NoReading():
            optimizer.step()
        optimizer_with_number.step()
    assert_close([p.detach().numpy() for p in params], [q.detach().numpy() for q in others], 1e-13)


@pytest.mark.parametrize(
    "read",
    [
        torch.Tensor.item,
        bool,
        torch.nonzero,
        lambda tensor: torch.equal(tensor, tensor),
        lambda tensor: tensor.masked_select(tensor > 0),
    ],
)
def test_reading_a_number_would_be_noticed(read):
    with pytest.raises(AssertionError, match="was read"), NoReading():
        read(torch.ones(()))


# --- state, groups, bad input ---


@pytest.mark.parametrize(("before", "after"), [(False, False), (True, True), (False, True)])
@pytest.mark.parametrize("kind", [LARS, LARSWriteUp])
def test_a_loaded_state_continues_as_if_never_saved(kind, before, after):
    weights, gradients = problem(20)
    lrs = [0.1 + 0.05 * i for i in range(20)]
    whole = parameters(weights)
    expected = run(kind(whole, lr=0.1, weight_decay=0.01, foreach=before), whole, gradients, lrs)

    params = parameters(weights)
    first = kind(params, lr=0.1, weight_decay=0.01, foreach=before)
    run(first, params, gradients[:10], lrs[:10])
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second = kind(params, lr=9.0, weight_decay=0.5, foreach=after)
    second.load_state_dict(torch.load(file, weights_only=True))
    for group in second.param_groups:
        group["foreach"] = after
    found = run(second, params, gradients[10:], lrs[10:])
    assert_close(found, expected, 0.0 if before == after else 1e-12)


def test_parameters_without_a_gradient_stay_and_closures_are_called():
    moved, still = torch.nn.Parameter(torch.ones(3)), torch.nn.Parameter(torch.ones(3))
    optimizer = LARS([{"params": [moved, still]}, {"params": [torch.nn.Parameter(torch.ones(1))]}], lr=0.1)

    def closure():
        optimizer.zero_grad()
        loss = moved.square().sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 3.0
    assert (moved != 1).all()
    assert (still == 1).all()
    assert list(optimizer.state) == [moved]


@pytest.mark.parametrize("kind", [LARS, LARSWriteUp])
@pytest.mark.parametrize(
    "bad", [{"lr": -1.0}, {"momentum": -0.1}, {"weight_decay": math.nan}, {"trust_coefficient": -1.0}]
)
def test_bad_numbers_are_refused(kind, bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        kind([torch.nn.Parameter(torch.ones(1))], **({"lr": 0.1} | bad))


def test_other_bad_arguments_are_refused():
    p = [torch.nn.Parameter(torch.ones(1))]
    with pytest.raises(ValueError, match="nesterov needs a momentum"):
        LARS(p, lr=0.1, momentum=0.0, nesterov=True)
    with pytest.raises(ValueError, match="not one of first, later"):
        LARSWriteUp(p, lr=0.1, revision="second")
    with pytest.raises(ValueError, match="must hold one number, not 2"):
        lars.check_numbers({"lr": torch.ones(2)})
