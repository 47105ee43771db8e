"""The range test: LR spacing, stopping, and that it leaves everything as it was."""

import copy
import math

import numpy as np
import pytest
import torch
from rangefinder import range_test
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
    model.eval()
    optimizer = torch.optim.SGD(
        [{"params": model[0].parameters(), "lr": 0.5}, {"params": model[2].parameters()}],
        lr=0.1,
        momentum=0.9,
    )
    nn.functional.cross_entropy(model(x), y).backward()
    optimizer.step()
    weights, state = copy.deepcopy(model.state_dict()), copy.deepcopy(optimizer.state_dict())
    rng = torch.get_rng_state()
    range_test.sweep(
        model, optimizer, endless(x, y), range_test.learning_rates(1e-4, 10, steps_per_decade=10)
    )
    assert all(torch.equal(weights[name], value) for name, value in model.state_dict().items())
    assert optimizer.state_dict()["param_groups"] == state["param_groups"]
    for key, value in optimizer.state_dict()["state"].items():
        assert torch.equal(value["momentum_buffer"], state["state"][key]["momentum_buffer"])
    assert torch.equal(torch.get_rng_state(), rng)
    assert not model.training


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
