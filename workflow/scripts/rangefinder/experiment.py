"""The parts of one experiment (data, model, optimizer), built from resolved parameters."""

from __future__ import annotations

import copy
import hashlib
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from . import compilation, data, devices, generators, memory, memory_format, models, optimizers
from .clocks import Clocks
from .shares import Share
from .stopping import Stop, Stopped

log = logging.getLogger(__name__)

DTYPES = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.float32, "fp64": torch.float64}


@contextmanager
def untouched(model: nn.Module, optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """Restore model, optimizer and random number generators at the end of the block."""
    model_state = copy.deepcopy(model.state_dict())
    optimizer_state = copy.deepcopy(optimizer.state_dict())
    # Of each module: a frozen layer may differ from the model.
    training = {module: module.training for module in model.modules()}
    gradients = [(parameter, parameter.grad) for parameter in model.parameters()]
    optimizer.zero_grad(set_to_none=True)  # lets the gradients kept above go unchanged
    cuda = torch.cuda.is_available()
    random_state = generators.state(cuda)
    try:
        yield
    finally:
        model.load_state_dict(model_state)
        optimizer.load_state_dict(optimizer_state)
        for parameter, gradient in gradients:
            parameter.grad = gradient
        for module, was_training in training.items():
            module.training = was_training
        generators.restore(random_state, cuda)


class EvaluationSet:
    """A split to evaluate a model on, resident on the device."""

    def __init__(self, experiment: Experiment, split: str) -> None:
        arrays, parameters = experiment.arrays, experiment.parameters
        source = "test" if split == "test" else "train"
        self.experiment = experiment
        indices = getattr(experiment.splits, split)
        self.samples, share = len(indices), experiment.share
        batch_size = parameters.get("eval_batch_size") or 1000
        self.at_once = min(batch_size, self.samples)
        self.first = 0 if share is None else share.bounds(len(indices))[0]
        # 1 where the last evaluation's answer was right, by sample.
        self.right = torch.zeros(self.samples, dtype=torch.int32, device=experiment.device)
        self.batches = data.evaluation_batches(
            getattr(arrays, f"{source}_images"),
            getattr(arrays, f"{source}_labels"),
            indices=indices if share is None else indices[slice(*share.bounds(len(indices)))],
            batch_size=batch_size,
            normalise=data.normalisation(parameters["dataset"].get("normalise"), arrays),
            device=experiment.device,
            dtype=experiment.dtype,
            channels_last=experiment.channels_last,
        )

    def __call__(self, stop: Stop | None = None) -> tuple[float, float]:
        """Mean cross-entropy and accuracy (0–1) over all samples, each sample weighing the same.

        Args:
            stop: a signal noted there ends the evaluation wherever it is: a large split on a CPU takes minutes. Where
                several processes share it, it ends for all of them, and each `stop` has the signal then.

        Raises:
            Stopped: a signal asks to stop; the model is as before.
            OutOfMemory: so many samples at once do not fit.
        """
        model, device = self.experiment.model, self.experiment.device
        stop = stop or Stop()
        was_training = model.training
        model.eval()
        total = torch.zeros((), dtype=torch.float64, device=device)
        correct = torch.zeros((), dtype=torch.int64, device=device)
        self.right.zero_()
        first = self.first
        try:
            with memory.evaluating(self.at_once), stop.at_once(), torch.inference_mode():
                for x, y in self.batches:
                    output = self.experiment.forward(model, x)
                    total += nn.functional.cross_entropy(output, y, reduction="sum")
                    right = output.argmax(1) == y
                    correct += right.sum()
                    self.right[first : first + len(y)] = right
                    first += len(y)
        except Stopped:
            if self.experiment.share is None:
                raise
        finally:
            model.train(was_training)
        if self.experiment.share is not None:
            # A signal may have reached one process alone: they go on, or stop, together.
            stop.signal = self.experiment.share.most(stop.signal or 0, device) or None
            stop.look()
            self.experiment.share.add(total, correct, self.right)
        return total.item() / self.samples, correct.item() / self.samples

    def batch_mean_accuracy(self, batch_size: int) -> float:
        """Of the last evaluation, the mean over batches (in order) of each one's accuracy (0–1).

        A last batch that is smaller weighs as much as the others; `__call__` lets each sample weigh the same.
        """
        right = self.right.cpu().numpy()
        return float(np.mean([right[at : at + batch_size].mean() for at in range(0, len(right), batch_size)]))


@dataclass
class Experiment:
    """One model with its data and optimizer on one device."""

    parameters: dict[str, Any]
    device: torch.device
    dtype: torch.dtype
    arrays: data.Arrays
    splits: data.Splits
    model: nn.Module
    step_model: nn.Module  # the model, or its compiled form: what a training step calls
    optimizer: torch.optim.Optimizer
    loader: data.Loader
    channels_last: bool  # memory format of images and convolutions
    share: Share | None = None  # of this process, where several train the run

    @property
    def model_parameters(self) -> int:
        """Number of trainable parameters."""
        return sum(p.numel() for p in self.model.parameters() if p.requires_grad)

    def weights_digest(self) -> str:
        """sha256 over names, types, shapes and bytes of all weights and buffers."""
        found = hashlib.sha256()
        for name, tensor in sorted(self.model.state_dict().items()):
            found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            found.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
        return found.hexdigest()

    @property
    def bf16(self) -> bool:
        """Whether the forward pass runs under bfloat16 autocast."""
        return self.parameters.get("precision") == "bf16"

    def forward(self, model: nn.Module, x: torch.Tensor) -> torch.Tensor:
        """Logits [batch, outputs] in the experiment's own dtype, computed in its precision."""
        if not self.bf16:
            return model(x)
        with torch.autocast(self.device.type, dtype=torch.bfloat16):
            output = model(x)
        return output.float()

    def compile(self, clocks: Clocks) -> None:
        """Where the run asks for it, compile the model by a forward and a backward pass with every batch size."""
        if not self.parameters.get("compile"):
            return
        with clocks.running("compile"), untouched(self.model, self.optimizer):
            self._compile()

    def _compile(self) -> None:
        sizes = compilation.batch_sizes(
            self.loader.samples,
            self.loader.batch_size,
            drop_last=bool(self.parameters.get("drop_last")),
            micro_batch=self.parameters.get("micro_batch"),
        )
        layout = memory_format.layout(self.channels_last)
        passes = compilation.PASSES.get(self.parameters["compile"], 1)
        for size in [size for size in sizes for _ in range(passes)]:
            x = torch.zeros(size, *self.arrays.shape, device=self.device, dtype=self.dtype)
            output = self.forward(self.step_model, x.to(memory_format=layout))
            nn.functional.cross_entropy(output, torch.zeros_like(output[:, 0], dtype=torch.int64)).backward()
            self.optimizer.zero_grad(
                set_to_none=True
            )  # as before every step: added up, they are another program

    def evaluation(self, split: str) -> EvaluationSet | None:
        """The samples of ``train``, ``validation`` or ``test``, not augmented; None if there are none."""
        return EvaluationSet(self, split) if len(getattr(self.splits, split)) else None


def pick_device(leased: int) -> torch.device:
    """The device of a job that was leased that many GPUs: the first visible one, or the CPU."""
    if leased and torch.cuda.is_available():
        return torch.device("cuda", 0)
    if leased and devices.FAKE not in os.environ:
        built = torch.version.cuda or torch.version.hip
        reason = "no driver that fits it" if built else "this torch is built for CPUs alone"
        log.warning("a GPU was leased, but torch cannot use it (%s): computing on the CPU", reason)
    return torch.device("cpu")


def set_precision(precision: str) -> None:
    """TF32 only where it is asked for, and deterministic kernels, so that a resumed run repeats itself."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True


def build(
    parameters: dict[str, Any],
    arrays: data.Arrays,
    *,
    device: torch.device,
    lr: float,
    epochs: int,
    share: Share | None = None,
) -> Experiment:
    """Build every part from resolved parameters, the run's seed among them.

    Args:
        parameters: resolved parameters of a run or a range test.
        arrays: the loaded data set.
        lr: learning rate the optimizer is made with (schedules set it before every step).
        epochs: epochs that will be trained (``order: torch-dataloader`` draws their seeds ahead).
        share: of this process, where several train the run: evaluations are shared out.

    Raises:
        InputError: a part cannot be built from its parameters.
    """
    precision = parameters.get("precision") or "fp32"
    set_precision(precision)
    dtype = DTYPES[precision]
    splits = data.split(arrays, parameters["dataset"])
    generators.seed(parameters["seed"])
    model, generator_state = models.seeded_build(
        parameters["model"],
        arrays.shape,
        len(arrays.classes),
        initialisation=parameters.get("initialisation") or "default",
        seed=parameters["seed"],
    )
    replay = parameters.get("order") == "torch-dataloader"
    # What draws random numbers while training (dropout) continues from the seed, not from what ran before.
    torch.set_rng_state(generator_state)
    if device.type == "cuda":  # which draws from a generator of its own, the same for every seed unless told
        torch.cuda.manual_seed(parameters["seed"])
    last = memory_format.channels_last(parameters, model, device)
    model = model.to(device=device, dtype=dtype, memory_format=memory_format.layout(last)).train()
    loader = data.Loader(
        arrays.train_images,
        arrays.train_labels,
        indices=np.asarray(splits.train),
        batch_size=parameters["batch_size"],
        drop_last=bool(parameters.get("drop_last")),
        seed=parameters["seed"],
        order=data.TorchDataLoaderOrder(generator_state, epochs) if replay else None,
        normalise=data.normalisation(parameters["dataset"].get("normalise"), arrays),
        augmentation=data.Augmentation.from_spec(parameters["dataset"].get("augmentation")),
        device=device,
        dtype=dtype,
        channels_last=last,
    )
    optimizer = optimizers.build(
        parameters["optimizer"],
        list(model.named_parameters()),
        lr=lr,
        # Whether the steps are captured or not, so that they are the same steps. Not in float64: torch's fused
        # kernels read an LR in a tensor as float32.
        capturable=device.type == "cuda"
        and dtype != torch.float64
        and optimizers.can_be_captured(parameters["optimizer"]),
    )
    return Experiment(
        parameters,
        device,
        dtype,
        arrays,
        splits,
        model,
        compilation.compiled(model, device, parameters["compile"]) if parameters.get("compile") else model,
        optimizer,
        loader,
        last,
        share,
    )
