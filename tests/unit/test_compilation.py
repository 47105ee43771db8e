"""torch.compile as a setting: the same losses, compiled ahead of the first step, and a plain word where it cannot."""

import shutil

import pytest
import torch
from rangefinder import clocks, compilation, data, range_test, records, training
from rangefinder.errors import InputError

PARAMETERS = {
    "dataset": {"name": "digits", "train_samples": 200, "test_samples": 50},
    "model": {"name": "MLP", "hidden": [16]},
    "optimizer": {"name": "SGD", "momentum": 0.9},
    "schedule": {"name": "none"},
    "lr": 0.05,
    "batch_size": 50,
    "epochs": 3,
    "precision": "fp32",
    "seed": 3,
}


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "digits"
    data.prepare({"name": "digits"}, folder)
    return data.load(folder)


def trained(digits, **changes):
    made = training.Trainer(PARAMETERS | changes, digits, device=torch.device("cpu"), clocks=clocks.Clocks())
    made.train()
    return made


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
@pytest.mark.parametrize("mode", [True, "reduce-overhead", "max-autotune"])
def test_compiled_losses_are_the_eager_ones_to_rounding(digits, mode):
    settings = {"precision": "fp64", "epochs": 10, "lr": 0.1}
    eager, compiled = trained(digits, **settings), trained(digits, compile=mode, **settings)
    assert compiled.losses.tolist() == pytest.approx(eager.losses.tolist(), rel=1e-10)
    assert eager.losses[-1] < 0.5 * eager.losses[0]  # they have gone somewhere
    assert compiled.clocks.seconds["compile"] > 0 == eager.clocks.seconds["compile"]


def test_compiling_ahead_leaves_every_bit_as_it_was(digits, monkeypatch):
    """With a compiler that changes nothing, batch statistics and all: the run is the eager run."""
    seen = []

    def unchanged(model, *, dynamic, mode):
        assert (dynamic, mode) == (False, "default")
        model.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
        return model

    monkeypatch.setattr(torch, "compile", unchanged)
    settings = {"model": {"name": "BNCNN", "widths": [2, 2, 2]}, "batch_size": 64, "epochs": 1}
    eager, compiled = trained(digits, **settings), trained(digits, compile=True, **settings)
    assert seen[:6] == [64, 8, 64, 64, 64, 8]
    assert compiled.losses.tolist() == eager.losses.tolist()
    mine, theirs = compiled.parts.model.state_dict(), eager.parts.model.state_dict()
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)


def test_a_range_test_sweeps_the_compiled_model(digits, tmp_path, monkeypatch):
    class Halved(torch.nn.Module):
        def __init__(self, model):
            super().__init__()
            self.model = model

        def forward(self, x):
            return self.model(x) / 2

    monkeypatch.setattr(torch, "compile", lambda model, **settings: Halved(model))
    data.prepare({"name": "digits"}, tmp_path / "digits")
    parameters = {key: value for key, value in PARAMETERS.items() if key not in ("schedule", "lr", "epochs")}
    parameters |= {"start_lr": 1e-3, "end_lr": 1e-2, "steps_per_decade": 5}
    losses = {}
    for name in (True, False):
        spec = {"study": "s", "range_test": "t", "seed": 3, "parameters": parameters | {"compile": name}}
        range_test.run(spec, data_folder=tmp_path / "digits", folder=tmp_path / str(name))
        losses[name] = records.read_csv(tmp_path / str(name) / "sweep.csv", records.SWEEP_COLUMNS)["loss"][0]
    assert losses[True] != losses[False]


@pytest.mark.parametrize("mode", ["reduce-overhead", "max-autotune"])
def test_a_mode_that_captures_graphs_has_them_before_the_first_step(digits, monkeypatch, mode):
    """Warm-up, capture and replay of every batch size come ahead, without gradients that add up."""
    seen = []

    def counted(model, **settings):
        assert settings == {"dynamic": False, "mode": mode}

        def before(module, inputs):
            seen.append(len(inputs[0]))
            assert not module.training or all(parameter.grad is None for parameter in module.parameters())

        model.register_forward_pre_hook(before)
        return model

    monkeypatch.setattr(torch, "compile", counted)
    eager = trained(digits, batch_size=64, epochs=1)
    compiled = trained(digits, batch_size=64, epochs=1, compile=mode)
    assert seen[:8] == [64, 64, 64, 8, 8, 8, 64, 64]
    assert compiled.losses.tolist() == eager.losses.tolist()


@pytest.mark.parametrize(
    ("drop_last", "micro_batch", "sizes"),
    [(False, None, [64, 8]), (True, None, [64]), (False, 32, [32, 8]), (False, 24, [24, 16, 8])],
)
def test_every_size_that_reaches_the_model_is_compiled_ahead(drop_last, micro_batch, sizes):
    found = compilation.batch_sizes(200, 64, drop_last=drop_last, micro_batch=micro_batch)
    assert found == sizes
    batches = torch.arange(200).split(64)[: 3 if drop_last else 4]
    pieces = [piece for batch in batches for piece in batch.split(micro_batch or len(batch))]
    assert found == sorted({len(piece) for piece in pieces}, reverse=True)


def test_a_machine_without_a_compiler_is_told_so(digits, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.delenv("CXX", raising=False)
    message = (
        r"compile: torch\.compile needs a C\+\+ compiler, and this machine has no g\+\+.*set compile to false"
    )
    with pytest.raises(InputError, match=message):
        trained(digits, compile=True)
