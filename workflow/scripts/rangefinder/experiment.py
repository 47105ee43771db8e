"""The parts of one experiment (data, model, optimizer), built from resolved parameters."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from . import data, models, optimizers
from .initialisation import initialise

DTYPES = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.float32, "fp64": torch.float64}


@dataclass
class Experiment:
    """One model with its data and optimizer on one device."""

    parameters: dict[str, Any]
    device: torch.device
    arrays: data.Arrays
    splits: data.Splits
    model: nn.Module
    step_model: nn.Module  # the model, or its compiled form: what a training step calls
    optimizer: torch.optim.Optimizer
    loader: data.Loader

    @property
    def model_parameters(self) -> int:
        """Number of trainable parameters."""
        return sum(p.numel() for p in self.model.parameters() if p.requires_grad)

    def autocast(self) -> torch.autocast:
        """bf16 autocast where the parameters ask for it, otherwise a context that does nothing."""
        return torch.autocast(
            self.device.type, dtype=torch.bfloat16, enabled=self.parameters.get("precision") == "bf16"
        )

    def evaluation(self, split: str) -> EvaluationSet:
        """The samples of ``train``, ``validation`` or ``test``, normalised, not augmented."""
        images, labels = getattr(self.splits, f"{split}_images"), getattr(self.splits, f"{split}_labels")
        return EvaluationSet(self, images, labels)


class EvaluationSet:
    """A split to evaluate on, resident on the device."""

    def __init__(self, experiment: Experiment, images: Any, labels: Any) -> None:
        self.experiment = experiment
        self.batches = data.evaluation_batches(
            images,
            labels,
            batch_size=experiment.parameters.get("eval_batch_size") or 1000,
            normalise=experiment.parameters["dataset"].get("normalise"),
            arrays=experiment.arrays,
            device=experiment.device,
            dtype=DTYPES[experiment.parameters.get("precision", "fp32")],
        )

    def __call__(self) -> tuple[float, float]:
        """Mean cross-entropy and accuracy (0–1) over all samples, each sample weighing the same."""
        model, device = self.experiment.model, self.experiment.device
        was_training = model.training
        model.eval()
        total = torch.zeros((), dtype=torch.float64, device=device)
        correct = torch.zeros((), dtype=torch.int64, device=device)
        count = 0
        with torch.inference_mode(), self.experiment.autocast():
            for x, y in self.batches:
                output = model(x).float() if x.dtype != torch.float64 else model(x)
                total += nn.functional.cross_entropy(output, y, reduction="sum").double()
                correct += (output.argmax(1) == y).sum()
                count += len(y)
        model.train(was_training)
        return total.item() / count, correct.item() / count


def pick_device(leased: int) -> torch.device:
    """The device of a job that was leased that many GPUs: the first visible one, or the CPU."""
    if leased and torch.cuda.is_available():
        return torch.device("cuda", 0)
    return torch.device("cpu")


def set_precision(parameters: dict[str, Any]) -> None:
    """TF32 only where it is asked for, and deterministic kernels, so that a resumed run repeats itself."""
    tf32 = parameters.get("precision") == "tf32"
    torch.backends.cuda.matmul.allow_tf32 = tf32
    torch.backends.cudnn.allow_tf32 = tf32
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True


def build(
    parameters: dict[str, Any],
    *,
    data_folder: Path | str,
    device: torch.device,
    lr: float,
    epochs: int,
    arrays: data.Arrays | None = None,
) -> Experiment:
    """Build every part from resolved parameters and the run's seed.

    The global generator is seeded and the model built first, so that ``order: torch-dataloader`` continues
    the stream exactly as a script that calls ``manual_seed``, builds its model and iterates a DataLoader.

    Args:
        lr: learning rate the optimizer is made with (schedules set it before every step).
        epochs: epochs that will be trained (``order: torch-dataloader`` draws their seeds ahead).
        arrays: the loaded data, where a caller has them already.
    """
    set_precision(parameters)
    arrays = arrays if arrays is not None else data.load(data_folder)
    splits = data.split(arrays, parameters["dataset"])
    dtype = DTYPES[parameters.get("precision", "fp32")]
    torch.manual_seed(parameters["seed"])
    model = models.build(parameters["model"], arrays.shape, len(arrays.classes))
    initialise(model, parameters.get("initialisation", "default"))
    if parameters.get("order", "counter") == "torch-dataloader":
        order = data.TorchDataLoaderOrder(torch.get_rng_state(), epochs)
    else:
        order = None
    model = model.to(device=device, dtype=dtype)
    if parameters.get("channels_last"):
        model = model.to(memory_format=torch.channels_last)
    model.train()
    optimizer = optimizers.build(parameters["optimizer"], list(model.named_parameters()), lr=lr)
    loader = data.Loader(
        splits.train_images,
        splits.train_labels,
        batch_size=parameters["batch_size"],
        drop_last=parameters.get("drop_last", False),
        seed=parameters["seed"],
        order=order,
        normalise=parameters["dataset"].get("normalise"),
        augmentation=parameters["dataset"].get("augmentation") or [],
        arrays=arrays,
        device=device,
        dtype=dtype,
        channels_last=bool(parameters.get("channels_last")),
    )
    step_model = torch.compile(model) if parameters.get("compile") else model
    return Experiment(parameters, device, arrays, splits, model, step_model, optimizer, loader)
