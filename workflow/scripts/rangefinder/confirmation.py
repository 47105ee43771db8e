"""Confirmation of an LR range: short runs at every rule's answer, from the same start on the same batches."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from . import answers, data, experiment, memory, provenance, records, resolution, run_lock, runs, stopping
from .checkpoints import Checkpoints
from .clocks import Clocks
from .progress import Progress
from .trainer import Trainer

log = logging.getLogger(__name__)


class _Progress:
    """What a killed confirmation continues from: its finished trainings, and the state of the one it was in.

    Stands in for the `Checkpoints` of a single training.
    """

    def __init__(self, checkpoints: Checkpoints, clocks: Clocks) -> None:
        self.checkpoints, self.clocks = checkpoints, clocks
        state = checkpoints.load()
        self.resumed = 0 if state is None else state["resumed"] + 1
        self.trained: list[dict[str, Any]] = [] if state is None else state["trained"]
        self.current = None if state is None else state["current"]
        if state is not None and self.current is None:  # else the training that continues adds them up
            for name, seconds in state["clocks"].items():
                clocks.seconds[name] += seconds

    def save(self, state: dict[str, Any] | None) -> None:
        """Keep the finished trainings with the state of the current one."""
        whole = {"trained": self.trained, "current": state, "resumed": self.resumed}
        self.checkpoints.save(whole | {"clocks": dict(self.clocks.seconds)})

    def load(self) -> dict[str, Any] | None:
        """The state of the training that was cut short; only the first one to ask gets it."""
        state, self.current = self.current, None
        return state

    def finish(self, entry: dict[str, Any]) -> None:
        """Keep a finished training."""
        self.trained.append(entry)
        self.save(None)


def run(
    spec: Mapping[str, Any],
    *,
    lr_range: Mapping[str, Any],
    data_folder: Path | str,
    folder: Path | str,
    checkpoint_folder: Path | str,
    leased: int = 0,
    clocks: Clocks | None = None,
    checkpoint_minutes: float = 5.0,
    report: Progress | None = None,
) -> dict[str, Any]:
    """Train at every LR that a rule answered, with one seed, and write confirmation.json and machine.json.

    All trainings of a seed start from the same weights and see the same batches; the LR is constant.

    Args:
        spec: of `runs.RangeTest.confirmation_spec(seed)`.
        lr_range: the content of range.json.
        checkpoint_folder: where checkpoints and the job's lock are while it trains.
        checkpoint_minutes: minutes between two checkpoints inside a training; one is written after each as well.
        report: told how far the job is.

    Returns:
        The content of confirmation.json.

    Raises:
        Interrupted, OutOfMemory, InputError: as `training.run`.
    """
    clocks = clocks or Clocks()
    report = report or Progress()
    found = answers.collect(resolution.of_job(spec, lr_range), spec["lrs"])
    rates, place = answers.distinct(found)
    with clocks.running("data"), memory.loading():
        arrays = data.load(data_folder, verify="full")
    splits = data.split(arrays, spec["parameters"]["dataset"])
    split = "validation" if len(splits.validation) else "test"
    parameters = _with_length({**spec["parameters"], "seed": spec["seed"]}, len(splits.train))
    checkpoints = Checkpoints(
        checkpoint_folder,
        f"{spec['range_test']}.confirm.seed{spec['seed']}",  # a run's id ends in "-seed<k>"
        runs.digest({"parameters": parameters, "lrs": rates, "data": arrays.digest}),
    )
    device = experiment.pick_device(leased)
    with (
        run_lock.hold(checkpoint_folder, checkpoints.run, run_lock.WAIT_S),
        stopping.stop_on_signal() as stop,
    ):
        progress = _Progress(checkpoints, clocks)
        for number, lr in enumerate(rates[len(progress.trained) :], start=len(progress.trained) + 1):
            report.part(number, len(rates))
            log.info("training %d of %d, LR %.4g", number, len(rates), lr)
            with memory.watched(parameters, {}):
                with stop.at_once():
                    trainer = Trainer(
                        parameters | {"lr": lr, "schedule": {"name": "none"}},
                        arrays,
                        device=device,
                        clocks=clocks,
                        checkpoints=progress,
                        checkpoint_seconds=60 * checkpoint_minutes,
                        stop=stop,
                        report=report,
                    )
                    trainer.resume()
                trainer.train()
            progress.finish(_entry(trainer, lr, split))
        record = {
            **{key: spec[key] for key in ("study", "range_test", "seed")},
            "parameters": parameters,
            "digest": runs.digest(parameters),
            "spec_digest": runs.digest(spec),
            "range": {"status": lr_range["status"], "checksum": lr_range["checksum"]},
            "split": split,
            "samples": {"train": len(splits.train), split: len(getattr(splits, split))},
            "answers": [{"rule": name, "lr": lr, "training": place[name]} for name, lr in found.items()],
            "trainings": progress.trained,
            "provenance": provenance.provenance(arrays.digest),
        }
        records.write_json(
            Path(folder) / "machine.json", provenance.machine(device, clocks, resumed=progress.resumed)
        )
        records.write_json(Path(folder) / "confirmation.json", record)
        checkpoints.remove()
    return record


def _with_length(parameters: dict[str, Any], samples: int) -> dict[str, Any]:
    """The length in whole or begun epochs and in steps, from whichever the study gives; evaluated at the end alone."""
    per_epoch = data.steps_per_epoch(
        samples, parameters["batch_size"], drop_last=bool(parameters.get("drop_last"))
    )
    epochs, steps = parameters.get("epochs"), parameters.get("steps")
    steps = min(epochs * per_epoch if epochs else math.inf, steps or math.inf)
    epochs = math.ceil(steps / per_epoch)
    return parameters | {"epochs": epochs, "steps": steps, "eval_every": epochs}


def _entry(trainer: Trainer, lr: float, split: str) -> dict[str, Any]:
    """What a finished training contributes to the record; a diverged one has no accuracy."""
    whole = trainer.record()
    first = trainer.losses[0].item()
    return {
        "lr": lr,
        **{key: whole[key] for key in ("status", "divergence", "steps")},
        "initial_loss": first if math.isfinite(first) else None,
        "accuracy": whole["results"][f"final_{split}_accuracy"],
        "loss": whole["results"][f"final_{split}_loss"],
    }
