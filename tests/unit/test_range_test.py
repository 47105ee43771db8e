"""The range test: LR spacing, stopping, and that it leaves everything as it was."""

import copy
import math

import numpy as np
import pytest
import torch
from rangefinder import data, experiment, range_test, records
from rangefinder.memory import OutOfMemory
from torch import nn


def endless(x, y):
    while True:
        yield x, y


def problem(dtype=torch.float64):
    torch.manual_seed(0)
    x = torch.randn(64, 5, dtype=dtype)
    y = (x[:, 0] > 0).long()
    return nn.Sequential(nn.Linear(5, 8), nn.Dropout(0.2), nn.Linear(8, 2)).to(dtype), x, y


@pytest.mark.parametrize("per_decade", [10, 50, 391])
def test_steps_per_decade_is_what_was_asked_for(per_decade):
    lrs = range_test.learning_rates(1e-6, 1.0, steps_per_decade=per_decade)
    assert len(lrs) == 6 * per_decade + 1
    assert lrs[0] == 1e-6 and lrs[-1] == pytest.approx(1.0, rel=1e-15)
    assert np.allclose(lrs[per_decade:] / lrs[:-per_decade], 10, rtol=1e-13)


def test_the_writeups_own_sweep_is_expressible():
    # Write-up 3 states LR(step) = 1e-6·exp(0.0058915·step) over 5 epochs of 469 steps.
    lrs = range_test.learning_rates(1e-6, 1.0, steps=2345)
    assert len(lrs) == 2345
    assert np.allclose(np.diff(np.log(lrs)), math.log(1e6) / 2345, rtol=1e-9)
    assert math.log(1e6) / 2345 == pytest.approx(0.0058915, abs=5e-7)
    assert lrs[696] == pytest.approx(6.05e-5, rel=5e-3)


def test_everything_is_as_before_afterwards():
    model, x, y = problem()
    model[1].eval()  # a frozen layer in a model that trains
    optimizer = torch.optim.SGD(
        [{"params": model[0].parameters(), "lr": 0.5}, {"params": model[2].parameters()}],
        lr=0.1,
        momentum=0.9,
    )
    nn.functional.cross_entropy(model(x), y).backward()
    optimizer.step()
    weights, state = copy.deepcopy(model.state_dict()), copy.deepcopy(optimizer.state_dict())
    rng = torch.get_rng_state()
    gradients = [parameter.grad.clone() for parameter in model.parameters()]
    range_test.sweep(
        model, optimizer, endless(x, y), range_test.learning_rates(1e-4, 10, steps_per_decade=10)
    )
    assert all(torch.equal(weights[name], value) for name, value in model.state_dict().items())
    assert optimizer.state_dict()["param_groups"] == state["param_groups"]
    for key, value in optimizer.state_dict()["state"].items():
        assert torch.equal(value["momentum_buffer"], state["state"][key]["momentum_buffer"])
    assert torch.equal(torch.get_rng_state(), rng)
    assert model.training and not model[1].training
    assert all(torch.equal(kept, now.grad) for kept, now in zip(gradients, model.parameters(), strict=True))


def test_the_losses_are_those_of_a_plain_loop():
    model, x, y = problem()
    model[1].p = 0.0
    lrs = range_test.learning_rates(1e-3, 1, steps_per_decade=20)
    result = range_test.sweep(model, torch.optim.SGD(model.parameters(), lr=1.0), endless(x, y), lrs)
    expected = []
    for lr in lrs:
        loss = nn.functional.cross_entropy(model(x), y)
        model.zero_grad()
        loss.backward()
        expected.append(loss.item())
        with torch.no_grad():
            for parameter in model.parameters():
                parameter -= lr * parameter.grad
    assert result.loss.tolist() == pytest.approx(expected, rel=1e-6)
    assert result.stopped is None


def diverging(values):
    """A model whose loss follows a script, whatever its weight."""
    weight = nn.Parameter(torch.zeros(1))
    script = iter(values)

    class Scripted(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = weight

        def forward(self, x):
            return x * 0 + self.weight * 0 + next(script)

    model = Scripted()
    return model, torch.optim.SGD(model.parameters(), lr=1.0)


@pytest.mark.parametrize(
    ("values", "stopped"),
    [
        ([2.0] * 30 + [math.nan] * 70, {"step": 30, "cause": "non_finite"}),
        ([2.0] * 30 + [math.inf] + [2.0] * 69, {"step": 30, "cause": "non_finite"}),
        ([2.0] * 30 + [100.0] * 70, {"step": 34, "cause": "exploding"}),
        ([2.0] * 30 + [100.0] * 4 + [2.0] * 66, None),  # four in a row are a spike
        ([math.nan] * 100, {"step": 0, "cause": "non_finite"}),
    ],
)
def test_it_stops_where_the_loss_says_so(values, stopped):
    model, optimizer = diverging(values)
    lrs = np.logspace(-5, 0, 100)
    result = range_test.sweep(
        model,
        optimizer,
        endless(torch.zeros(1, 2), torch.zeros(1, dtype=torch.long)),
        lrs,
        loss_function=lambda output, _y: output.mean(),
    )
    if stopped is None:
        assert result.stopped is None and len(result.loss) == 100
    else:
        assert result.stopped == {**stopped, "lr": lrs[stopped["step"]]}
        assert len(result.lr) == len(result.loss) == len(result.accuracy) == stopped["step"] + 1


def test_a_group_keeps_its_share_of_the_lr():
    """Two parameters with gradients of 1: the sum of what each moves is the sum of the LRs, times its scale."""
    weights = [nn.Parameter(torch.zeros(1, dtype=torch.float64)) for _ in range(2)]
    moved = []

    class Falling(nn.Module):
        def __init__(self):
            super().__init__()
            self.weights = nn.ParameterList(weights)

        def forward(self, x):
            moved.append([weight.item() for weight in weights])
            return x + weights[0] + weights[1]

    groups = [{"params": [weights[0]]}, {"params": [weights[1]], "lr_scale": 0.25}]
    lrs = range_test.learning_rates(1e-3, 1, steps_per_decade=10)
    range_test.sweep(
        Falling(),
        torch.optim.SGD(groups, lr=9.0),
        endless(torch.zeros(1, 1, dtype=torch.float64), torch.zeros(1, dtype=torch.long)),
        lrs,
        loss_function=lambda output, _y: output.mean(),
        stop_factor=1e9,
    )
    expected = -np.concatenate([[0], np.cumsum(lrs)[:-1]])
    assert np.allclose(np.array(moved), expected[:, None] * [1, 0.25], rtol=1e-12)


# --- on a study's data ---

PLAIN = {
    "dataset": {"name": "digits", "validation": 200, "train_samples": 250, "test_samples": 100},
    "model": {"name": "LeNetSmall"},
    "optimizer": {"name": "SGD", "momentum": 0.9},
    "batch_size": 64,
    "precision": "fp64",
    "start_lr": 1e-3,
    "end_lr": 1.0,
    "steps_per_decade": 10,
}


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "digits"
    data.prepare({"name": "digits"}, folder)
    return folder


def swept(digits, folder, **changes):
    folder /= "s/lr_range/sgd/seed3"
    spec = {"study": "s", "range_test": "sgd", "seed": 3, "parameters": PLAIN | changes}
    range_test.run(spec, data_folder=digits, folder=folder)
    return records.read_sweep(folder)


def test_the_validation_loss_is_that_of_the_weights_at_its_step_and_changes_nothing(digits, tmp_path):
    columns = swept(digits, tmp_path / "with", validation_every=7)["columns"]
    without = swept(digits, tmp_path / "without")["columns"]
    for name in ("lr", "loss", "accuracy"):
        assert columns[name].tolist() == without[name].tolist()
    assert np.isnan(without["validation_loss"]).all()
    measured = np.flatnonzero(~np.isnan(columns["validation_loss"]))
    assert measured.tolist() == list(range(0, 31, 7))

    arrays = data.load(digits)
    parts = experiment.build(PLAIN | {"seed": 3}, arrays, device=torch.device("cpu"), lr=1.0, epochs=8)
    batches, weights = range_test.endless(parts.loader), dict(parts.model.named_parameters())
    speed = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    for step, lr in enumerate(columns["lr"]):
        if step in measured:
            assert columns["validation_loss"][step] == pytest.approx(
                parts.evaluation("validation")()[0], rel=1e-9
            )
        x, y = next(batches)
        parts.model.zero_grad()
        nn.functional.cross_entropy(parts.model(x), y).backward()
        with torch.no_grad():
            for name, weight in weights.items():
                speed[name] = 0.9 * speed[name] + weight.grad
                weight -= lr * speed[name]


@pytest.mark.parametrize("size", [64, 50])
def test_a_batch_computed_in_parts_gives_the_same_sweep(digits, tmp_path, size):
    """250 images: with a batch of 64 the last of an epoch, of 58, is no multiple of the part."""
    whole = swept(digits, tmp_path / "whole", batch_size=size)["columns"]
    parts = swept(digits, tmp_path / "parts", batch_size=size, micro_batch=size // 2)["columns"]
    for name in ("loss", "accuracy"):
        assert parts[name].tolist() == pytest.approx(whole[name].tolist(), rel=1e-6)


def test_memory_that_runs_out_ends_with_advice_that_the_next_try_can_take(digits, tmp_path, monkeypatch):
    forward = experiment.Experiment.forward

    def limited(self, model, x):
        if len(x) > 16:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(self, model, x)

    monkeypatch.setattr(experiment.Experiment, "forward", limited)
    with pytest.raises(OutOfMemory, match=r"with 64 samples at once; set run\.micro_batch to 32 or less"):
        swept(digits, tmp_path)
    assert not list(tmp_path.iterdir())
    assert len(swept(digits, tmp_path, micro_batch=16)["columns"]["loss"]) == 31


@pytest.mark.parametrize("where", ["experiment.build", "experiment.Experiment.compile", "data.load"])
def test_memory_that_runs_out_before_the_first_step_is_a_typed_end(digits, tmp_path, monkeypatch, where):
    def refused(*_, **__):
        raise MemoryError

    monkeypatch.setattr(f"rangefinder.{where}", refused)
    told = (
        "while the data were loaded"
        if where == "data.load"
        else "with 64 samples at once; set run.micro_batch"
    )
    with pytest.raises(OutOfMemory, match=told):
        swept(digits, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def exact(digits, tmp_path_factory):
    return swept(digits, tmp_path_factory.mktemp("exact"))["columns"]


@pytest.mark.parametrize(
    ("optimizer", "precision", "rounding"),
    [(name, "fp32", 1e-6) for name in ("Adam", "AdamW", "RMSprop", "Adagrad", "LARS", "LAMB")]
    + [("SGD", "bf16", 1e-2), ("SGD", "fp64", 0)],  # bfloat16 keeps 8 bits
)
def test_any_optimizer_and_precision_starts_from_the_same_loss(
    digits, exact, tmp_path, optimizer, precision, rounding
):
    made = swept(digits, tmp_path, optimizer={"name": optimizer}, precision=precision, end_lr=1e-2)
    loss = made["columns"]["loss"]
    assert loss[0] == pytest.approx(exact["loss"][0], rel=rounding, abs=0)
    assert np.isfinite(loss).all() and len(loss) == 11 and np.ptp(loss) > 0


@pytest.mark.parametrize(
    ("length", "steps", "per_decade"),
    [
        ({"steps_per_decade": 50}, 151, 50),
        (
            {"steps_per_decade": 10, "end_lr": 2.0},
            35,
            34 / np.log10(2000),
        ),  # a step is at most a tenth of a decade
        ({"steps_per_decade": None, "epochs": 15}, 60, 20),
    ],
)
def test_the_steps_per_decade_are_recorded_as_they_were(digits, tmp_path, length, steps, per_decade):
    made = swept(digits, tmp_path, **length)
    lr = made["columns"]["lr"]
    assert made["sweep"]["steps"] == len(lr) == steps and made["sweep"]["stopped"] is None
    assert made["sweep"]["steps_per_decade"] == pytest.approx(per_decade, rel=1e-9)
    assert 1 / np.log10(lr[1] / lr[0]) == pytest.approx(per_decade, rel=1e-9)
