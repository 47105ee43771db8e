"""The state of one run while it trains: loop, evaluation, divergence, checkpoints, and what it adds to the record."""

from __future__ import annotations

import logging
import math
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import nn

from . import captured, data, experiment, generators, optimizers, provenance, records, schedules
from .checkpoints import Checkpoints
from .clocks import Clocks
from .progress import Progress
from .shares import Share
from .stopping import Interrupted, Stop, Stopped

log = logging.getLogger(__name__)

# Steps between two looks at the device: one wait each, for divergence and the checkpoint's clock.
LOOK_EVERY = 100


class Trainer:
    """The state of one run while it trains."""

    def __init__(
        self,
        parameters: dict[str, Any],
        arrays: data.Arrays,
        *,
        device: torch.device,
        clocks: Clocks,
        checkpoints: Checkpoints | None = None,
        checkpoint_seconds: float = math.inf,
        checkpoint_epochs: int | None = None,
        stop: Stop | None = None,
        report: Progress | None = None,
        share: Share | None = None,
    ) -> None:
        self.parameters, self.clocks, self.checkpoints = parameters, clocks, checkpoints
        self.checkpoint_seconds, self.checkpoint_epochs = checkpoint_seconds, checkpoint_epochs
        self.stop = self.asked = stop or Stop()  # two where processes agree on the one by what each is asked
        self.report = report or Progress()
        self.epochs = parameters["epochs"]
        with clocks.running("startup"):
            self.parts = experiment.build(
                parameters, arrays, device=device, lr=parameters["lr"], epochs=self.epochs, share=share
            )
        if share is None:  # shares differ in size: there it is compiled as they come
            self.parts.compile(clocks)
        with clocks.running("startup"):
            self.device = device
            self.steps_per_epoch = self.parts.loader.steps_per_epoch
            self.schedule = schedules.build(
                parameters["schedule"],
                base_lr=parameters["lr"],
                epochs=self.epochs,
                steps_per_epoch=self.steps_per_epoch,
                momentum=optimizers.momentum(self.parts.optimizer),
            )
            self.validation = self.parts.evaluation("validation")
            self.test = self.parts.evaluation("test")
        total = min(self.epochs * self.steps_per_epoch, parameters.get("steps") or math.inf)
        # One buffer on the device for all losses: reading each one would wait for the device each time.
        self.losses = torch.full((total,), math.nan, dtype=self.parts.dtype, device=device)
        self.correct = torch.zeros((), dtype=torch.int64, device=device)
        # Answers and labels of batches whose right answers are not in `correct` yet.
        self.uncounted: list[tuple[torch.Tensor, torch.Tensor]] = []
        self.captured = None
        if captured.wanted(parameters, device, processes=1 if share is None else share.count):
            self.captured = captured.CapturedSteps(
                parameters["optimizer"],
                self.parts.loader,
                self.parts.optimizer,
                self._gradients_of,
                self.losses,
                lrs=self.schedule.lr,
                momenta=self.schedule.momentum,
                clocks=clocks,
            )
        self.lr: float | None = None  # that the optimizer was given last
        self.samples = 0  # seen in the current epoch
        self.step = 0  # steps made in all
        self.checked = 0  # losses known to be finite
        self.rows: list[dict[str, float | int | None]] = []
        self.epoch_seconds: list[dict[str, float | int]] = []
        self.epoch_train_seconds = 0.0
        self.divergence: dict[str, Any] | None = None
        self.resumed = 0
        self.last_checkpoint, self.last_checkpoint_step = time.perf_counter(), 0

    # --- the loop ---

    def train(self) -> None:
        """Train to the end, to a divergence, or until told to stop."""
        self.report.begin(self.step, len(self.losses), self.steps_per_epoch)
        while self.divergence is None and (self.step < len(self.losses) or self._unended() is not None):
            self.train_epoch()

    def train_epoch(self) -> None:
        """Train and evaluate to the end of the epoch, or to a checkpoint or divergence within it."""
        with self.captured.on_stream() if self.captured is not None else nullcontext():
            self._train_epoch()

    def _train_epoch(self) -> None:
        if self._unended() is None:  # a run may have been stopped while it evaluated
            self._train_steps(self.step // self.steps_per_epoch)
        epoch = self._unended()
        if self.divergence is None and epoch is not None:
            self._end_epoch(epoch)
        if self.divergence is None:
            self._maybe_checkpoint()

    def _train_steps(self, epoch: int) -> None:
        """Make the steps of an epoch (0-based) that are left, or up to a checkpoint or divergence."""
        before = self.clocks.seconds["train"]
        with self.clocks.running("train"):
            self.parts.loader.start_epoch(epoch)
            last = self._last_step(epoch)
            while self.step < last and self.divergence is None:
                self._steps(self._next_look(last), first_of_epoch=epoch * self.steps_per_epoch)
                self._find_divergence()
                self.report.made(self.step, lambda: self.losses[self.step - 1].item())
                if self.stop.signal is not None or self._checkpoint_due():
                    break
        self.epoch_train_seconds += self.clocks.seconds["train"] - before

    def _last_step(self, epoch: int) -> int:
        """Steps made in all at the end of an epoch (0-based)."""
        return min((epoch + 1) * self.steps_per_epoch, len(self.losses))

    def _unended(self) -> int | None:
        """The epoch (0-based) whose steps are all made, but which has no row in epochs.csv yet."""
        epoch = len(self.rows)
        return epoch if epoch * self.steps_per_epoch < self.step == self._last_step(epoch) else None

    def _next_look(self, last: int) -> int:
        """The step before which the device is looked at next, `last` at the latest."""
        return min(last, (self.step // LOOK_EVERY + 1) * LOOK_EVERY)

    def _steps(self, until: int, first_of_epoch: int) -> None:
        """Make steps up to `until` without ever waiting for the device.

        On a CPU an operation on a few numbers takes some 20 µs, five times what it takes alone, for the step's
        arithmetic has taken the caches: right answers are therefore counted, and places of losses found, once.
        """
        self._make_steps(until, first_of_epoch)
        self._count()

    def _make_steps(self, until: int, first_of_epoch: int) -> None:
        stop, graphs = self.stop, self.captured
        places = self.losses[self.step : until].unbind()
        for step, place in enumerate(places, self.step):
            first, last = self.parts.loader.span(step - first_of_epoch)
            if graphs is None or not graphs.made(step, first, last - first):
                self.parts.optimizer.zero_grad(set_to_none=True)
                try:
                    place.copy_(self._gradients(step - first_of_epoch))
                except Stopped:  # between micro-batches: the step is made when the run continues
                    return
                self._update(step)
            elif graphs.updates:
                self.lr = None  # the graph has set another
            else:
                self._update(step)
            self.samples += last - first
            self.step = step + 1
            if stop.signal is not None:
                return

    def _update(self, step: int) -> None:
        """One step of the optimizer, with the LR and momentum of this step."""
        optimizer, schedule = self.parts.optimizer, self.schedule
        if schedule.lr[step] != self.lr:
            self.lr = float(schedule.lr[step])
            optimizers.set_lr(optimizer, self.lr)
        if schedule.momentum is not None:
            optimizers.set_momentum(optimizer, float(schedule.momentum[step]))
        optimizer.step()

    def _gradients(self, step: int) -> torch.Tensor:
        """Gradients of the epoch's batch `step` (0-based); its mean loss.

        Raises:
            Stopped: between micro-batches a signal asks to stop; the run is as before the step.
        """
        x, y = self.parts.loader.batch(step)
        micro = self.parameters.get("micro_batch")
        if micro is None or micro >= len(y):
            return self._gradients_of(x, y)
        with self._undone_if_stopped():
            return self._accumulate(x, y, micro, self.stop)

    def _gradients_of(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Gradients of a batch; its mean loss. All of it can be captured in a CUDA graph."""
        micro = self.parameters.get("micro_batch")
        if micro is not None and micro < len(y):
            return self._accumulate(x, y, micro)
        output = self.parts.forward(self.parts.step_model, x)
        loss = nn.functional.cross_entropy(output, y)
        loss.backward()
        self._answered(output, y)
        return loss.detach()

    def _answered(self, output: torch.Tensor, y: torch.Tensor) -> None:
        """Take note of a batch's answers; a graph has to count the right ones itself."""
        answers = output.detach().argmax(1)
        if self.captured is None:
            self.uncounted.append((answers, y))
        else:
            self.correct += (answers == y).sum()

    def _count(self) -> None:
        """Add the right answers of the batches noted to the epoch's."""
        if self.uncounted:
            answers, labels = map(torch.cat, zip(*self.uncounted, strict=True))
            self.correct += (answers == labels).sum()
            self.uncounted.clear()

    def _accumulate(
        self, x: torch.Tensor, y: torch.Tensor, micro: int, stop: Stop | None = None
    ) -> torch.Tensor:
        """Gradients of the whole batch, `micro` samples at a time: per-sample losses over the batch size.

        Raises:
            Stopped: between two of them `stop` has a signal.
        """
        total = torch.zeros((), dtype=self.losses.dtype, device=self.device)
        for part_x, part_y in zip(x.split(micro), y.split(micro), strict=True):
            if stop is not None:
                stop.look()
            output = self.parts.forward(self.parts.step_model, part_x)
            loss = nn.functional.cross_entropy(output, part_y, reduction="sum") / len(y)
            loss.backward()
            total += loss.detach()
            self._answered(output, part_y)
        return total

    @contextmanager
    def _undone_if_stopped(self) -> Iterator[None]:
        """Where a signal ends the block, have all that a forward pass changes as it was before it.

        These are buffers (the statistics of batch normalisation), the count of correct answers, and the random
        generators (dropout). Weights and the optimizer's state change in `_update` alone.
        """
        cuda = self.device.type == "cuda"
        tensors = [*self.parts.model.buffers(), self.correct]
        kept, random_state = [tensor.clone() for tensor in tensors], generators.state(cuda)
        uncounted = len(self.uncounted)
        try:
            yield
        except Stopped:
            del self.uncounted[uncounted:]
            for tensor, value in zip(tensors, kept, strict=True):
                tensor.copy_(value)
            generators.restore(random_state, cuda)
            raise

    def _find_divergence(self) -> None:
        """Look for the first loss that is not finite since the last look; an epoch's steps wait for the device here."""
        finite = torch.isfinite(self.losses[self.checked : self.step])
        if bool(finite.all()):
            self.checked = self.step
            return
        step = self.checked + int((~finite).to(torch.int8).argmax())
        self._diverged(step, "non_finite_loss")

    def _diverged(self, step: int, cause: str) -> None:
        known = self.losses[:step].cpu().numpy()
        known = known[np.isfinite(known)]
        self.divergence = {
            "step": step,
            "epoch": step // self.steps_per_epoch + 1,
            "last_finite_loss": float(known[-1]) if len(known) else None,
            "cause": cause,
        }
        log.warning("diverged at step %d (epoch %d): %s", step, self.divergence["epoch"], cause)

    def _end_epoch(self, epoch: int) -> None:
        first = epoch * self.steps_per_epoch
        row: dict[str, float | int | None] = dict.fromkeys(records.EPOCH_COLUMNS)
        row |= {"epoch": epoch + 1, "step": self.step, "lr": float(self.schedule.lr[self.step - 1])}
        row["train_loss"] = self._mean_loss(first)
        row["train_accuracy"] = self.correct.item() / self.samples
        before = self.clocks.seconds["evaluate"]
        every = self.parameters.get("eval_every") or 1
        if (epoch + 1) % every == 0 or epoch + 1 == self.epochs:
            try:
                with self.clocks.running("evaluate"), self._undone_if_stopped():
                    if self.validation is not None:
                        row["validation_loss"], row["validation_accuracy"] = self.validation(self.asked)
                    row["test_loss"], row["test_accuracy"] = self.test(self.asked)
                    row["batch_mean_test_accuracy"] = self.test.batch_mean_accuracy(
                        self.parameters["batch_size"]
                    )
            except Stopped:  # the epoch ends when the run continues
                self.stop.signal = self.asked.signal
                return
        losses = [row[name] for name in ("validation_loss", "test_loss") if row[name] is not None]
        if not all(map(math.isfinite, losses)):
            self._diverged(self.step - 1, "non_finite_evaluation")
            return
        self.rows.append(row)
        self.epoch_seconds.append(
            {
                "epoch": epoch + 1,
                "train_s": round(self.epoch_train_seconds, 6),
                "evaluate_s": round(self.clocks.seconds["evaluate"] - before, 6),
            }
        )
        self.epoch_train_seconds = 0.0
        self.correct.zero_()
        self.samples = 0
        log.info("epoch %d/%d %s%s", epoch + 1, self.epochs, _brief(row), self.report.left(self.step))

    def _mean_loss(self, first: int) -> float:
        """Mean over the epoch's samples: the last batch may be smaller and then weighs less."""
        losses = self.losses[first : self.step].double().cpu().numpy()
        sizes = np.full(len(losses), self.parameters["batch_size"], dtype=np.float64)
        sizes[-1] = self.samples - sizes[:-1].sum()
        return float(losses @ sizes / self.samples)

    # --- checkpoints ---

    def _checkpoint_due(self) -> bool:
        if self.checkpoints is None:
            return False
        epochs = self.step // self.steps_per_epoch - self.last_checkpoint_step // self.steps_per_epoch
        by_epoch = self.checkpoint_epochs is not None and epochs >= self.checkpoint_epochs
        return by_epoch or time.perf_counter() - self.last_checkpoint >= self.checkpoint_seconds

    def _maybe_checkpoint(self) -> None:
        finished = self.step == len(self.losses) and self._unended() is None
        if finished or (self.stop.signal is None and not self._checkpoint_due()):
            return  # a finished run writes its record, whatever it is told meanwhile
        if self.checkpoints is not None:
            with self.clocks.running("checkpoint"):
                self.checkpoints.save(self._state())
            self.last_checkpoint, self.last_checkpoint_step = time.perf_counter(), self.step
        if self.stop.signal is not None:
            name = signal.Signals(self.stop.signal).name
            raise Interrupted(f"stopped by {name} after step {self.step} of {len(self.losses)}")

    def _state(self) -> dict[str, Any]:
        return {
            "model": self.parts.model.state_dict(),
            "optimizer": self.parts.optimizer.state_dict(),
            "losses": self.losses[: self.step].clone(),
            "correct": self.correct,
            "samples": self.samples,
            "step": self.step,
            "rows": self.rows,
            "epoch_seconds": self.epoch_seconds,
            "epoch_train_seconds": self.epoch_train_seconds,
            "clocks": self.clocks.seconds,
            "resumed": self.resumed,
            "generators": generators.state(self.device.type == "cuda"),
        }

    def resume(self) -> None:
        """Continue from the newest whole checkpoint, if there is one."""
        state = self.checkpoints.load() if self.checkpoints is not None else None
        if state is not None:
            self._restore(state)
            log.info("continuing from the checkpoint at step %d of %d", self.step, len(self.losses))

    def _restore(self, state: dict[str, Any]) -> None:
        self.parts.model.load_state_dict(state["model"])
        optimizers.load_state(self.parts.optimizer, state["optimizer"])
        self.lr = None
        self.step = self.checked = self.last_checkpoint_step = state["step"]
        self.losses[: self.step] = state["losses"].to(self.device)
        self.correct.copy_(state["correct"])
        self.samples, self.rows = state["samples"], state["rows"]
        self.epoch_seconds, self.epoch_train_seconds = state["epoch_seconds"], state["epoch_train_seconds"]
        for name, seconds in state["clocks"].items():
            self.clocks.seconds[name] += seconds
        self.resumed = state["resumed"] + 1
        generators.restore(state["generators"], self.device.type == "cuda")

    # --- the record ---

    def record(self) -> dict[str, Any]:
        """What the run contributes to run.json."""
        splits = self.parts.splits
        return {
            "status": "diverged" if self.divergence else "completed",
            "divergence": self.divergence,
            "steps": self._finite_steps(),
            "steps_per_epoch": self.steps_per_epoch,
            "samples": {
                "train": len(splits.train),
                "validation": len(splits.validation),
                "test": len(splits.test),
            },
            "model_parameters": self.parts.model_parameters,
            "weights_digest": None if self.divergence else self.parts.weights_digest(),
            "results": results(self.rows, diverged=self.divergence is not None),
        }

    def _finite_steps(self) -> int:
        if self.divergence and self.divergence["cause"] == "non_finite_loss":
            return self.divergence["step"]
        return self.step

    def machine(self) -> dict[str, Any]:
        """The content of machine.json."""
        made = provenance.machine(self.device, self.clocks, epochs=self.epoch_seconds, resumed=self.resumed)
        return made | {
            "channels_last": self.parts.channels_last,
            "optimizer_kernel": optimizers.kernel(self.parts.optimizer),
            "captured_batch_sizes": sorted(self.captured.replays) if self.captured else [],
        }

    def epoch_table(self) -> dict[str, list]:
        """epochs.csv, up to the divergence."""
        return {name: [row[name] for row in self.rows] for name in records.EPOCH_COLUMNS}

    def step_table(self) -> dict[str, np.ndarray]:
        """steps.csv, up to the divergence."""
        steps = self._finite_steps()
        return {
            "step": np.arange(steps),
            "lr": self.schedule.lr[:steps],
            "loss": self.losses[:steps].cpu().numpy(),
        }


def results(rows: list[dict[str, Any]], *, diverged: bool) -> dict[str, float | int | None]:
    """The ``results`` entry of run.json from the rows of epochs.csv.

    ``best_*`` takes the first epoch with the highest accuracy. "Best on test" is chosen on the test set, as
    the write-ups do, and so overstates; the honest figure is ``test_accuracy_at_best_validation``.
    ``batch_mean_test_accuracy`` is the last epoch's, of rows that have it: it is no column of epochs.csv.
    """
    evaluated = [row for row in rows if row["test_accuracy"] is not None]
    validated = [row for row in evaluated if row["validation_accuracy"] is not None]
    last = evaluated[-1] if evaluated and not diverged else None
    best = max(validated, key=lambda row: row["validation_accuracy"], default=None)
    best_test = max(evaluated, key=lambda row: row["test_accuracy"], default=None)
    return {
        "final_test_accuracy": last and last["test_accuracy"],
        "final_test_loss": last and last["test_loss"],
        "batch_mean_test_accuracy": last and last.get("batch_mean_test_accuracy"),
        "final_validation_accuracy": last and last["validation_accuracy"],
        "final_validation_loss": last and last["validation_loss"],
        "best_validation_accuracy": best and best["validation_accuracy"],
        "best_validation_epoch": best and best["epoch"],
        "test_accuracy_at_best_validation": best and best["test_accuracy"],
        "best_test_accuracy": best_test and best_test["test_accuracy"],
        "best_test_epoch": best_test and best_test["epoch"],
    }


def _brief(row: Mapping[str, Any]) -> str:
    names = ("lr", "train_loss", "train_accuracy", "validation_accuracy", "test_accuracy")
    return " ".join(f"{name}={row[name]:.4g}" for name in names if row[name] is not None)
