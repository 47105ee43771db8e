"""Training steps in CUDA graphs: every bit as without. Without a GPU the capture is pretended, the rest is real."""

from contextlib import nullcontext

import numpy as np
import pytest
import torch
from no_reading import NoReading
from rangefinder import captured, checkpoints, clocks, data, optimizers, progress, stopping, training
from rangefinder import trainer as trainer_module
from rangefinder.errors import RunError

PARAMETERS = {
    "dataset": {"name": "digits", "train_samples": 220, "test_samples": 50},
    "model": {"name": "LeNetSmall"},
    "optimizer": {"name": "SGD", "momentum": 0.9, "nesterov": True, "weight_decay": 5e-4},
    "schedule": {"name": "none"},
    "lr": 0.05,
    "batch_size": 32,  # 7 steps per epoch, the last one of 28
    "epochs": 6,
    "precision": "fp32",
    "seed": 3,
}
VARIANTS = {
    "sgd": {},
    "lr per step": {"schedule": {"name": "CosineAnnealingLR", "per": "step"}},
    "momentum moves": {"schedule": {"name": "OneCycleLR"}},
    "adam": {"optimizer": {"name": "Adam"}, "lr": 0.003},
    "adam, beta1 moves": {"optimizer": {"name": "Adam"}, "lr": 0.01, "schedule": {"name": "OneCycleLR"}},
    "lars": {"optimizer": {"name": "LARS", "weight_decay": 5e-4, "trust_coefficient": 0.02}, "lr": 1.0},
    "lars as coded": {"optimizer": {"name": "LARSWriteUp"}, "lr": 0.1},
    "lamb": {"optimizer": {"name": "LAMB"}, "lr": 0.01},
    "cannot be captured": {"optimizer": {"name": "Adafactor"}, "lr": 0.01},
    "no momentum": {"optimizer": {"name": "SGD"}},
    "batch statistics": {"model": {"name": "BNCNN", "widths": [4, 4, 8]}},
    "micro-batches": {"micro_batch": 12},
    "augmented": {
        "dataset": PARAMETERS["dataset"] | {"augmentation": {"random_crop": 1, "horizontal_flip": True}}
    },
    "as a DataLoader draws": {"order": "torch-dataloader"},
    "last batch left out": {"drop_last": True},
    "channels last": {"channels_last": True},
    "reduced precision": {"precision": "bf16"},
}
GPU = torch.cuda.is_available()


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "digits"
    data.prepare({"name": "digits"}, folder)
    return data.load(folder)


@pytest.fixture(
    params=["pretended", pytest.param("cuda", marks=pytest.mark.skipif(not GPU, reason="no GPU"))]
)
def device(request, monkeypatch):
    """A GPU, or a CPU whose graphs do the captured work anew at every replay, and nothing when they are captured."""
    if request.param == "cuda":
        return torch.device("cuda", 0)

    def build(spec, named, *, lr, capturable=False):
        return made(spec, named, lr=lr, capturable=optimizers.can_be_captured(spec))

    made = optimizers.build
    monkeypatch.setattr(optimizers, "build", build)
    monkeypatch.setattr(captured, "wanted", lambda parameters, device, processes: parameters["cuda_graph"])
    monkeypatch.setattr(captured, "_stream", lambda device: None)
    monkeypatch.setattr(captured, "_captured", lambda work, stream: work)
    monkeypatch.setattr(captured.CapturedSteps, "on_stream", lambda self: nullcontext())
    return torch.device("cpu")


def trainer(digits, device, graph, changes=None, **options):
    parameters = PARAMETERS | (changes or {}) | {"cuda_graph": graph}
    return training.Trainer(parameters, digits, device=device, clocks=clocks.Clocks(), **options)


def trained(*arguments, **options):
    made = trainer(*arguments, **options)
    made.train()
    return made


def outcome(made):
    """All that a record takes from a trainer, without times."""
    return made.losses.tolist(), made.rows, made.parts.weights_digest()


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_bit_is_that_of_steps_that_are_not_captured(digits, device, variant):
    eager, graphs = (trained(digits, device, graph, VARIANTS[variant]) for graph in (False, True))
    assert outcome(graphs) == outcome(eager)
    assert np.isfinite(outcome(eager)[0]).all() and eager.losses[-1] < eager.losses[0]
    sizes = [32] if VARIANTS[variant].get("drop_last") else [28, 32]
    assert graphs.machine()["captured_batch_sizes"] == sizes
    assert eager.machine()["captured_batch_sizes"] == []
    assert graphs.machine()["optimizer_kernel"] == eager.machine()["optimizer_kernel"]
    inside = variant not in ("momentum moves", "adam, beta1 moves", "cannot be captured")
    assert graphs.captured.updates == inside
    assert graphs.clocks.seconds["compile"] > 0 == eager.clocks.seconds["compile"]


@pytest.mark.parametrize("variant", ["sgd", "adam, beta1 moves", "lamb", "augmented"])
def test_a_run_that_is_interrupted_in_mid_epoch_goes_on_to_the_same_bits(digits, device, variant, tmp_path):
    """Its first steps after the checkpoint are not captured, so that the two ways meet in one run."""
    whole = trained(digits, device, True, VARIANTS[variant])
    stop, kept = stopping.Stop(), checkpoints.Checkpoints(tmp_path, "run", "0" * 16)
    first = trainer(digits, device, True, VARIANTS[variant], stop=stop, checkpoints=kept)
    gradients = first.captured.made

    def told_at_step_31(step, *arguments):
        if step == 31:
            stop.signal = 15
        return gradients(step, *arguments)

    first.captured.made = told_at_step_31
    with pytest.raises(stopping.Interrupted, match="after step 32 of 42"):
        first.train()
    again = trainer(digits, device, True, VARIANTS[variant], checkpoints=kept)
    again.resume()
    again.train()
    assert again.resumed == 1
    assert again.machine()["captured_batch_sizes"] == [32]  # two epochs are too few for the last batch
    assert outcome(again) == outcome(whole)


@pytest.mark.parametrize(
    "name", [name for name in optimizers.OPTIMIZERS if name != "Muon"]
)  # takes only matrices
def test_every_optimizer_is_captured_or_updates_outside(digits, device, name):
    if device.type == "cpu" and name in ("ASGD", "Adadelta", "Adamax", "NAdam", "RAdam", "RMSprop", "Rprop"):
        pytest.skip("torch makes it capturable on a GPU only")
    changes = {
        "optimizer": {"name": name},
        "lr": 1e-3,
        "epochs": 2,
        "schedule": {"name": "CosineAnnealingLR"},
    }
    eager, graphs = (trained(digits, device, graph, changes) for graph in (False, True))
    assert outcome(graphs) == outcome(eager)
    assert graphs.captured.updates == optimizers.can_be_captured({"name": name})


class NoReport(progress.Progress):
    """Asks for no loss; a real one does once a second at most, after a look, when nothing is left to wait for."""

    def made(self, step, loss):
        pass


@pytest.mark.parametrize("graph", [False, True])
@pytest.mark.parametrize(
    "optimizer", [{"name": "SGD", "momentum": 0.9}, {"name": "LARS", "foreach": True}, {"name": "Adam"}]
)
def test_nothing_is_read_from_the_device_but_where_a_divergence_is_looked_for(
    digits, device, monkeypatch, optimizer, graph
):
    monkeypatch.setattr(trainer_module, "LOOK_EVERY", 3)
    changes = {"optimizer": optimizer, "lr": 1e-3, "schedule": {"name": "CosineAnnealingLR", "per": "step"}}
    made = trainer(digits, device, graph, changes, report=NoReport())
    watched, looks = NoReading(), []
    train_steps, find_divergence = made._train_steps, made._find_divergence

    def watched_steps(epoch):
        with watched:
            train_steps(epoch)

    def look():
        looks.append(made.step)
        with watched.allowed():
            find_divergence()

    made._train_steps, made._find_divergence = watched_steps, look
    made.train()
    assert made.step == 42 and optimizers.kernel(made.parts.optimizer) != "per-tensor"
    assert looks == sorted({*range(3, 43, 3), *range(7, 43, 7)})  # and at the end of each epoch
    assert watched.read == len(looks)


def test_a_divergence_is_found_at_its_step(digits, device):
    changes = {"lr": 1e30, "optimizer": {"name": "SGD"}, "model": {"name": "MLP", "hidden": [8]}}
    eager, graphs = (trained(digits, device, graph, changes) for graph in (False, True))
    assert graphs.divergence == eager.divergence and graphs.divergence["step"] < 42


def test_the_rate_of_a_group_is_scaled_in_the_graph_too(digits, device):
    made = {}
    for graph in (False, True):
        made[graph] = trainer(digits, device, graph, VARIANTS["lr per step"])
        made[graph].parts.optimizer.param_groups[0]["lr_scale"] = 0.5
        made[graph].train()
    assert outcome(made[True]) == outcome(made[False])
    assert outcome(made[True]) != outcome(trained(digits, device, True, VARIANTS["lr per step"]))


def test_who_is_captured():
    gpu, cpu = torch.device("cuda", 0), torch.device("cpu")
    assert captured.wanted(PARAMETERS, gpu)
    assert not captured.wanted(PARAMETERS, cpu)
    assert not captured.wanted(PARAMETERS, gpu, processes=2)
    assert not captured.wanted(PARAMETERS | {"cuda_graph": False}, gpu)
    own = PARAMETERS | {"model": {"name": "net.py:make"}}
    assert not captured.wanted(own, gpu) and captured.wanted(own | {"cuda_graph": True}, gpu)
    assert captured.wanted(PARAMETERS | {"compile": True}, gpu)
    assert not captured.wanted(PARAMETERS | {"compile": "reduce-overhead"}, gpu)


@pytest.mark.skipif(not GPU, reason="no GPU")
def test_a_step_that_waits_for_the_device_is_refused_with_advice(digits):
    made = trainer(digits, torch.device("cuda", 0), True)
    made.parts.model.register_forward_hook(lambda model, inputs, output: output * output.abs().max().item())
    with pytest.raises(
        RunError, match=r"cannot be captured in a CUDA graph .*; set run\.cuda_graph to false"
    ):
        made.train()


def test_a_clock_within_a_clock_pauses_it(monkeypatch):
    now = iter([0.0, 1.0, 4.0, 6.0])
    monkeypatch.setattr(clocks.time, "perf_counter", lambda: next(now))
    made = clocks.Clocks()
    with made.running("train"), made.running("compile"):
        pass
    assert made.seconds["compile"] == 3.0 and made.seconds["train"] == 3.0
