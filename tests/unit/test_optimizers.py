"""Optimizers by name: the right class, kernel and groups; LR and momentum set; the user's own; bad input."""

from __future__ import annotations

import io
import math

import pytest
import torch
from rangefinder import optimizers, schedules
from rangefinder.errors import InputError
from rangefinder.lamb import LAMB
from rangefinder.lars import LARS, LARSWriteUp
from torch import nn

TORCH_NAMES = [name for name in optimizers.OPTIMIZERS if hasattr(torch.optim, name)]


def network(dtype=torch.float64, *, matrices_only=False):
    torch.manual_seed(0)
    if matrices_only:  # Muon takes nothing else
        return nn.Sequential(nn.Linear(12, 8, bias=False), nn.Tanh(), nn.Linear(8, 3, bias=False)).to(dtype)
    # No bias before BatchNorm: its gradient is rounding noise, which Adam and its kin blow up to full steps.
    layers = [
        nn.Unflatten(1, (3, 2, 2)),
        nn.Conv2d(3, 6, 2, bias=False),
        nn.BatchNorm2d(6),
        nn.Flatten(),
        nn.Linear(6, 3),
    ]
    return nn.Sequential(*layers).to(dtype)


def train(model, optimizer, steps=5, *, before=None):
    rng = torch.Generator().manual_seed(1)
    dtype = next(model.parameters()).dtype
    for step in range(steps):
        if before is not None:
            before(step)
        optimizer.zero_grad()
        model(torch.randn(8, 12, generator=rng, dtype=dtype)).square().mean().backward()
        optimizer.step()
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def build(spec, model=None, **options):
    return optimizers.build(spec, (model or network()).named_parameters(), **({"lr": 0.01} | options))


@pytest.mark.parametrize("name", TORCH_NAMES)
def test_torch_optimizers_by_name(name):
    models = [network(matrices_only=name == "Muon") for _ in range(2)]
    ours = build({"name": name}, models[0])
    assert type(ours) is getattr(torch.optim, name)
    theirs = getattr(torch.optim, name)(models[1].parameters(), lr=0.01)
    torch.testing.assert_close(train(models[0], ours), train(models[1], theirs), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    ("spec", "kind", "kernel"),
    [
        ({"name": "SGD"}, torch.optim.SGD, "fused"),
        ({"name": "Adam"}, torch.optim.Adam, "fused"),
        ({"name": "AdamW"}, torch.optim.AdamW, "fused"),
        ({"name": "Adagrad"}, torch.optim.Adagrad, "fused"),
        ({"name": "SGD", "fused": False}, torch.optim.SGD, "per-tensor"),
        ({"name": "SGD", "foreach": True}, torch.optim.SGD, "foreach"),
        ({"name": "SGD", "foreach": False}, torch.optim.SGD, "per-tensor"),
        ({"name": "RMSprop"}, torch.optim.RMSprop, "per-tensor"),
        ({"name": "LARS"}, LARS, "fused"),
        ({"name": "LARS", "nesterov": True}, LARS, "per-tensor"),
        ({"name": "LARS", "foreach": True}, LARS, "foreach"),
        ({"name": "LARSWriteUp"}, LARSWriteUp, "fused"),
        ({"name": "LAMB"}, LAMB, "per-tensor"),
        ({"name": "LAMB", "foreach": True}, LAMB, "foreach"),
    ],
    ids=str,
)
def test_kernel_on_a_cpu(spec, kind, kernel):
    optimizer = build(spec)
    assert type(optimizer) is kind
    assert optimizers.kernel(optimizer) == kernel


def test_arguments_reach_the_optimizer():
    optimizer = build({"name": "Adam", "betas": [0.8, 0.95], "weight_decay": 0.1}, lr=0.3)
    (group,) = optimizer.param_groups
    assert (group["betas"], group["weight_decay"], group["lr"]) == ((0.8, 0.95), 0.1, 0.3)


def test_parameters_that_need_no_gradient_are_left_out():
    model = network()
    model[1].weight.requires_grad_(False)
    (group,) = build({"name": "SGD"}, model).param_groups
    assert len(group["params"]) == 4


# --- exclusions ---


def labels(optimizer, model):
    names = {id(p): name for name, p in model.named_parameters()}
    return [[names[id(p)] for p in group["params"]] for group in optimizer.param_groups]


def test_exclusions_make_groups():
    model = network()
    spec = {
        "name": "LARS",
        "weight_decay": 0.1,
        "exclude_from_adaptation": ["bias", "norm"],
        "exclude_from_weight_decay": "bias",
    }
    optimizer = build(spec, model)
    assert labels(optimizer, model) == [
        ["1.weight", "4.weight"],
        ["2.weight"],
        ["2.bias", "4.bias"],
    ]
    assert [(g["adapt"], g["weight_decay"]) for g in optimizer.param_groups] == [
        (True, 0.1),
        (False, 0.1),
        (False, 0.0),
    ]


def test_exclusion_from_weight_decay_equals_sgd_with_groups():
    models = [network(), network()]
    spec = {"name": "SGD", "weight_decay": 0.5, "exclude_from_weight_decay": ["bias", "norm"]}
    found = train(models[0], build(spec, models[0], lr=0.1))
    groups = [
        {"params": [p for p in models[1].parameters() if p.ndim > 1]},
        {"params": [p for p in models[1].parameters() if p.ndim <= 1], "weight_decay": 0.0},
    ]
    expected = train(models[1], torch.optim.SGD(groups, lr=0.1, weight_decay=0.5))
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)


# --- LR and momentum while training ---


@pytest.mark.parametrize("capturable", [False, True])
def test_set_lr_scales_every_group_alike(capturable):
    spec = {"name": "LARS", "exclude_from_adaptation": ["bias", "norm"]}
    optimizer = build(spec, network(torch.float32), capturable=capturable)
    first, second = optimizer.param_groups
    second["lr_scale"] = 0.25
    tensor = first["lr"]
    optimizers.set_lr(optimizer, 0.8)
    assert float(first["lr"]) == pytest.approx(0.8, rel=1e-7)
    assert float(second["lr"]) == pytest.approx(0.2, rel=1e-7)
    assert isinstance(tensor, torch.Tensor) == capturable
    assert first["lr"] is tensor or not capturable  # a captured graph reads this very tensor


@pytest.mark.parametrize("name", ["SGD", "Adam", "RMSprop", "LARS", "LAMB", "LARSWriteUp"])
def test_set_momentum(name):
    optimizer = build({"name": name})
    optimizers.set_momentum(optimizer, 0.87)
    assert optimizers.momentum(optimizer) == 0.87
    group = optimizer.param_groups[0]
    assert group.get("momentum", group.get("betas", (None,))[0]) == 0.87
    if "betas" in group:
        assert group["betas"] == (0.87, 0.999)


def test_an_optimizer_without_momentum():
    optimizer = build({"name": "Adagrad"})
    assert optimizers.momentum(optimizer) is None
    with pytest.raises(InputError, match="no momentum to set"):
        optimizers.set_momentum(optimizer, 0.9)


@pytest.mark.parametrize(
    "spec", [{"name": "SGD", "momentum": 0.9, "nesterov": True}, {"name": "Adam"}], ids=str
)
def test_a_one_cycle_run_equals_torch(spec):
    models = [network(), network()]
    ours = build(spec, models[0], lr=0.1)
    schedule = schedules.build(
        {"name": "OneCycleLR", "max_lr": 0.3},
        base_lr=0.1,
        epochs=4,
        steps_per_epoch=5,
        momentum=optimizers.momentum(ours),
    )

    def before(step):
        optimizers.set_lr(ours, float(schedule.lr[step]))
        optimizers.set_momentum(ours, float(schedule.momentum[step]))

    found = train(models[0], ours, 20, before=before)
    arguments = {key: value for key, value in spec.items() if key != "name"}
    theirs = getattr(torch.optim, spec["name"])(models[1].parameters(), lr=0.1, **arguments)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(theirs, 0.3, total_steps=20)
    expected = train(models[1], theirs, 20, before=lambda step: scheduler.step() if step else None)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", ["SGD", "Adam", "LARS", "LAMB", "LARSWriteUp"])
def test_capturable_gives_the_same_weights(name):
    spec = {"name": name, **({"momentum": 0.9} if name == "SGD" else {})}
    ends = []
    for capturable in (False, True):
        model = network(torch.float32)
        optimizer = build(spec, model, capturable=capturable)
        ends.append(
            train(model, optimizer, before=lambda s, o=optimizer: optimizers.set_lr(o, 0.1 / (s + 1)))
        )
    torch.testing.assert_close(*ends, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("capturable", [False, True])
@pytest.mark.parametrize("name", ["SGD", "Adam", "LARS", "LAMB"])
def test_a_loaded_state_continues_as_if_never_saved(name, capturable):
    spec = {"name": name, "weight_decay": 0.01, "exclude_from_weight_decay": ["bias", "norm"]}
    model = network()
    optimizer = build(spec, model, capturable=capturable)
    train(model, optimizer)
    file = io.BytesIO()
    torch.save({"optimizer": optimizer.state_dict(), "model": model.state_dict()}, file)
    expected = train(model, optimizer)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    other = network()
    other.load_state_dict(saved["model"])
    continued = build(spec, other, lr=7.0, capturable=capturable)
    continued.load_state_dict(saved["optimizer"])
    torch.testing.assert_close(train(other, continued), expected, rtol=0, atol=0)


# --- the user's own ---


def own(tmp_path, monkeypatch, code):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.py").write_text("import torch\n" + code)
    return "own.py:make"


def test_an_optimizer_of_the_users_own(tmp_path, monkeypatch):
    code = "def make(parameters, lr, rho=0.9):\n    return torch.optim.Adadelta(parameters, lr=lr, rho=rho)\n"
    name = own(tmp_path, monkeypatch, code)
    optimizer = build({"name": name, "rho": 0.8, "source_digest": "0"}, lr=0.2)
    assert type(optimizer) is torch.optim.Adadelta
    assert (optimizer.param_groups[0]["lr"], optimizer.param_groups[0]["rho"]) == (0.2, 0.8)
    assert optimizers.kernel(optimizer) == "per-tensor"
    with pytest.raises(InputError, match=r"refuses its arguments.*rhoo"):
        build({"name": name, "rhoo": 0.8})


def test_groups_of_the_users_own_optimizer_keep_their_share_of_the_lr(tmp_path, monkeypatch):
    code = (
        "def make(parameters, lr):\n"
        "    groups = [{'params': parameters[:1]}, {'params': parameters[1:], 'lr': lr / 10}]\n"
        "    return torch.optim.SGD(groups, lr=lr)\n"
    )
    optimizer = build({"name": own(tmp_path, monkeypatch, code)}, lr=0.2)
    optimizers.set_lr(optimizer, 3.0)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([3.0, 0.3], rel=1e-12)


def test_a_users_function_must_give_an_optimizer(tmp_path, monkeypatch):
    name = own(tmp_path, monkeypatch, "def make(parameters, lr):\n    return lr\n")
    with pytest.raises(InputError, match=r"made no optimizer.*own\.py:make.*torch\.optim\.Optimizer"):
        build({"name": name})


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("def make(p, lr):\n    raise OSError('no')\n", r"optimizer: OSError: no \(got .*own\.py:make"),
        (
            "def make(p, lr):\n    return torch.optim.SGD(p[:1], lr)\n",
            "leaves out 3 of the model's 4 tensors",
        ),
        ("def make(p, lr):\n    return torch.optim.SGD(p, 0.0)\n", r"its step\(\) changes no weight"),
        ("def make(p, lr):\n    return torch.optim.SGD(p, float('inf'))\n", "weights that are not finite"),
        ("def make(p, lr):\n    return torch.optim.LBFGS(p, lr)\n", r"its step\(\) fails \(TypeError"),
    ],
)
def test_an_optimizer_that_cannot_drive_training_is_found_in_one_step(tmp_path, monkeypatch, code, message):
    name = own(tmp_path, monkeypatch, code)
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 5), nn.Linear(5, 3))
    with pytest.raises(InputError, match=message):
        optimizer = optimizers.build({"name": name}, model.named_parameters(), lr=0.1)
        optimizers.check_step(optimizer, model, (1, 2, 2), 3, name=name)


# --- bad input ---


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"name": "Adm"}, r"optimizer\.name: unknown optimizer \(got 'Adm'\).*did you mean 'Adam'"),
        ({}, r"optimizer\.name: unknown optimizer"),
        ({"name": "LBFGS"}, r"unknown optimizer"),
        ({"name": "SGD", "momentun": 0.9}, r"optimizer\.momentun: SGD has no such.*did you mean 'momentum'"),
        ({"name": "SGD", "lr": 0.9}, r"optimizer\.lr: the LR is a setting of the run"),
        (
            {"name": "SGD", "momentum": -1},
            r"optimizer: SGD refuses its arguments \(Invalid momentum value: -1\)",
        ),
        ({"name": "SGD", "momentum": "0.9"}, r"optimizer: SGD refuses its arguments"),
        ({"name": "SGD", "nesterov": True}, r"SGD refuses its arguments \(Nesterov"),
        ({"name": "LARS", "adapt": False}, r"optimizer\.adapt: LARS has no such argument"),
        ({"name": "LARS", "trust_coeff": 0.1}, r"optimizer\.trust_coeff: .*did you mean 'trust_coefficient'"),
        ({"name": "LARSWriteUp", "revision": "third"}, r"LARSWriteUp refuses its arguments \(revision is"),
        ({"name": "LAMB", "betas": [0.9, 1.5]}, r"LAMB refuses its arguments \(betas are"),
        ({"name": "SGD", "exclude_from_adaptation": ["bias"]}, r"SGD has no such argument"),
        ({"name": "LARS", "exclude_from_adaptation": ["biases"]}, r"unknown kind of .*did you mean 'bias'"),
        ({"name": "LARS", "exclude_from_adaptation": 3}, r"exclude_from_adaptation: is not a list"),
        ({"name": "Muon"}, r"Muon refuses its arguments \(Muon only supports 2D"),
        ({"name": "no-such-file.py:make"}, r"optimizer\.name: no such file"),
    ],
)
def test_bad_input(spec, message):
    with pytest.raises(InputError, match=message) as caught:
        build(spec)
    assert "\n" not in str(caught.value)


def test_a_bad_lr_and_a_model_without_parameters():
    with pytest.raises(InputError, match="SGD refuses its arguments"):
        build({"name": "SGD"}, lr=-0.1)
    with pytest.raises(InputError, match="LARS refuses its arguments"):
        build({"name": "LARS"}, lr=math.nan)
    with pytest.raises(InputError, match="no parameters to train"):
        build({"name": "SGD"}, nn.Tanh())


@pytest.mark.parametrize("spec", [{"name": "Adafactor"}, {"name": "SGD", "fused": False}], ids=str)
def test_what_cannot_be_captured_is_refused(spec):
    with pytest.raises(InputError, match=r"cannot be captured in a CUDA graph.*allowed:.*SGD, LAMB, LARS"):
        build(spec, capturable=True)
