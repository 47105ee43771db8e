"""The LR range test: the LR grows exponentially per step, loss and accuracy are recorded raw.

Source: L. N. Smith, "Cyclical Learning Rates for Training Neural Networks", WACV 2017 (arXiv:1506.01186).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from . import data, experiment, memory, optimizers, provenance, records, runs
from .clocks import Clocks
from .progress import Progress

log = logging.getLogger(__name__)


@dataclass
class Sweep:
    """Raw result of a range test; every array has one entry per step that was made."""

    lr: np.ndarray  # [steps] float64
    loss: np.ndarray  # [steps] training loss of the batch before the update
    accuracy: np.ndarray  # [steps] accuracy on the batch before the update, 0–1
    validation_loss: np.ndarray  # [steps] NaN where not measured
    stopped: dict[str, Any] | None  # {"step", "lr", "cause"}


class Part(NamedTuple):
    """What is kept of samples that were computed at once."""

    loss: torch.Tensor  # its mean over them, times their share of the batch
    right: torch.Tensor  # bool [samples]
    share: float


def learning_rates(
    start_lr: float,
    end_lr: float,
    *,
    steps_per_decade: float | None = None,
    steps: int | None = None,
) -> np.ndarray:
    """The LR of every step of the sweep.

    With `steps_per_decade` both ends are reached: ``lr_b = start·(end/start)^(b/(n−1))`` with
    ``n − 1 = ceil(steps_per_decade · log10(end/start))``. With `steps` (the write-ups' form, some
    epochs) ``lr_b = start·(end/start)^(b/steps)``, which stops one step short of the end, as their schedulers do.

    Returns:
        float64 [steps].
    """
    decades = math.log10(end_lr / start_lr)
    if steps is None:
        intervals = max(1, math.ceil(round(steps_per_decade * decades, 9)))
        exponent = np.arange(intervals + 1) / intervals
    else:
        exponent = np.arange(steps) / steps
    return start_lr * 10.0 ** (exponent * decades)


def steps_per_epoch(parameters: Mapping[str, Any], arrays: data.Arrays) -> int:
    """Steps of an epoch with these parameters on these data."""
    samples = len(data.split(arrays, parameters["dataset"]).train)
    drop_last = bool(parameters.get("drop_last"))
    return data.steps_per_epoch(samples, parameters["batch_size"], drop_last=drop_last)


def rates(parameters: Mapping[str, Any], per_epoch: int) -> np.ndarray:
    """`learning_rates` of a study's range test with so many steps per epoch."""
    epochs = parameters.get("epochs")
    return learning_rates(
        parameters["start_lr"],
        parameters["end_lr"],
        steps_per_decade=parameters.get("steps_per_decade"),
        steps=epochs * per_epoch if epochs else None,
    )


def sweep(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: Iterator[tuple[torch.Tensor, torch.Tensor]],
    lrs: np.ndarray,
    *,
    loss_function: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] = nn.functional.cross_entropy,
    forward: Callable[[nn.Module, torch.Tensor], torch.Tensor] | None = None,
    validation: Callable[[], tuple[float, float]] | None = None,
    validation_every: int = 0,
    stop_factor: float = 4.0,
    micro_batch: int | None = None,
    look_every: int = 20,
    report: Progress | None = None,
) -> Sweep:
    """Run a range test on a model and leave model, optimizer and random numbers as they were.

    Every parameter group's LR is scaled alike: a group whose ``lr_scale`` is 2 has twice the LR of the others.

    Args:
        loss_function: (output, labels) → the mean loss over the batch.
        forward: how the model is applied to a batch, where that needs a context such as autocast.
        batches: endless iterator of (inputs, labels) on the model's device.
        lrs: LR of each step [steps].
        validation: returns (loss, accuracy) on a validation set; called every `validation_every` steps.
        stop_factor: exploded is: five losses in a row exceed ``max(f·L0, L0 + f)``, L0 being the median of
            the first tenth of the steps. Far enough above the minimum to leave the extraction what it needs.
        micro_batch: samples that are computed at once; gradients accumulate to those of the batch.
        look_every: steps between two looks at the losses (each waits for the device once).
        report: told how far the sweep is.
    """
    device = next(model.parameters()).device
    total = len(lrs)
    losses = torch.full((total,), math.nan, device=device, dtype=torch.float64)
    correct = torch.zeros(total, device=device, dtype=torch.float64)
    validation_loss = np.full(total, math.nan)
    stopped = None
    report = report or Progress()
    report.begin(0, total)
    made_since: list[list[Part]] = []  # steps since the last look
    with experiment.untouched(model, optimizer):
        made = total
        for step in range(total):
            optimizers.set_lr(optimizer, float(lrs[step]))
            if validation is not None and validation_every and step % validation_every == 0:
                validation_loss[step] = validation()[0]
            x, y = next(batches)
            optimizer.zero_grad(set_to_none=True)
            made_since.append(_gradients(model, x, y, loss_function, forward, micro_batch))
            optimizer.step()
            if (step + 1) % look_every == 0 or step + 1 == total:
                # Not at every step, where each of these few numbers would have to be fetched into the caches.
                for place, parts in enumerate(made_since, step + 1 - len(made_since)):
                    losses[place], correct[place] = _loss_and_accuracy(parts)
                made_since.clear()
                known = losses[: step + 1].cpu().numpy()
                report.made(step + 1, lambda known=known: float(known[-1]))
                stopped = _stop(known, total, stop_factor)
                if stopped is not None:
                    made = stopped["step"] + 1
                    break
    if stopped is not None:
        stopped = {**stopped, "lr": float(lrs[stopped["step"]])}
    loss = losses[:made].float().cpu().numpy()
    return Sweep(lrs[:made], loss, correct[:made].cpu().numpy(), validation_loss[:made], stopped)


def _gradients(
    model: nn.Module,
    x: torch.Tensor,
    y: torch.Tensor,
    loss_function: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    forward: Callable[[nn.Module, torch.Tensor], torch.Tensor] | None,
    micro_batch: int | None,
) -> list[Part]:
    """Gradients of a batch, `micro_batch` samples at a time."""
    size = micro_batch or len(y)
    parts = []
    for part_x, part_y in zip(x.split(size), y.split(size), strict=True):
        share = len(part_y) / len(y)
        output = model(part_x) if forward is None else forward(model, part_x)
        loss = loss_function(output, part_y) * share
        loss.backward()
        parts.append(Part(loss.detach(), output.detach().argmax(1) == part_y, share))
    return parts


def _loss_and_accuracy(parts: Sequence[Part]) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean loss and accuracy of a batch in float64."""
    loss = sum(part.loss.double() for part in parts)
    return loss, sum(part.right.double().mean() * part.share for part in parts)


def _stop(losses: np.ndarray, total: int, factor: float) -> dict[str, Any] | None:
    """Where and why a sweep ends early: first loss not finite, or the fifth in a row that exploded."""
    bad = np.flatnonzero(~np.isfinite(losses))
    end = int(bad[0]) if len(bad) else len(losses)
    head = losses[: max(5, total // 10)]
    head = head[np.isfinite(head)]
    if len(head):
        initial = float(np.median(head))
        high = losses[:end] > max(factor * initial, initial + factor)
        for step in range(4, end):
            if high[step - 4 : step + 1].all():
                return {"step": step, "cause": "exploding"}
    return {"step": end, "cause": "non_finite"} if len(bad) else None


def endless(loader: data.Loader) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """The loader's batches, epoch after epoch."""
    epoch = 0
    while True:
        loader.start_epoch(epoch)
        for step in range(loader.steps_per_epoch):
            yield loader.batch(step)
        epoch += 1


def run(
    spec: Mapping[str, Any],
    *,
    data_folder: Path | str,
    folder: Path | str,
    leased: int = 0,
    clocks: Clocks | None = None,
    report: Progress | None = None,
) -> dict[str, Any]:
    """Run one seed of a study's range test and write sweep.csv, sweep.json and machine.json.

    Args:
        spec: the range test's specification (`runs.RangeTest.spec(seed)`).

    Returns:
        The content of sweep.json.

    Raises:
        OutOfMemory: the data, the batch (or the study's micro-batch of it), or an evaluation's does not fit.
    """
    clocks = clocks or Clocks()
    parameters = {**spec["parameters"], "seed": spec["seed"]}
    device = experiment.pick_device(leased)
    with clocks.running("data"), memory.loading():
        arrays = data.load(data_folder, verify="full")
    with clocks.running("startup"), memory.watched(parameters, {}):
        per_epoch = steps_per_epoch(parameters, arrays)
        lrs = rates(parameters, per_epoch)
        parts = experiment.build(
            parameters, arrays, device=device, lr=float(lrs[0]), epochs=math.ceil(len(lrs) / per_epoch)
        )
        every = parameters.get("validation_every") or 0
        validation = parts.evaluation("validation") if every else None
    with memory.watched(parameters, {}):
        parts.compile(clocks)
    with clocks.running("train"), memory.watched(parameters, {}):
        result = sweep(
            parts.step_model,
            parts.optimizer,
            endless(parts.loader),
            lrs,
            forward=parts.forward,
            validation=validation,
            validation_every=every,
            stop_factor=parameters.get("stop_factor") or 4.0,
            micro_batch=parameters.get("micro_batch"),
            report=report,
        )
    intervals = len(lrs) - (
        not parameters.get("epochs")
    )  # `learning_rates`: a length in steps stops short of the end
    if result.stopped:
        log.info("stopped at step %(step)d (LR %(lr).3g): %(cause)s", result.stopped)
    record = {
        "study": spec["study"],
        "range_test": spec["range_test"],
        "seed": spec["seed"],
        "parameters": parameters,
        "digest": runs.digest(parameters),
        "spec_digest": runs.digest(spec),
        "steps_per_decade": round(intervals / math.log10(parameters["end_lr"] / parameters["start_lr"]), 9),
        "steps": len(lrs),
        "stopped": result.stopped,
        "provenance": provenance.provenance(arrays.digest),
    }
    columns = {
        "step": np.arange(len(result.lr)),
        "lr": result.lr,
        "loss": result.loss,
        "accuracy": result.accuracy,
        "validation_loss": result.validation_loss,
    }
    machine = provenance.machine(device, clocks) | {"channels_last": parts.channels_last}
    records.write_sweep(folder, record, machine, columns)
    return record
