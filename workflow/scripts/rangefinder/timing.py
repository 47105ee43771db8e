"""A few real steps of everything that a study trains, timed on this machine's device; nothing is recorded of them."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from . import data, experiment, progress, range_test
from .clocks import Clocks
from .trainer import Trainer

# Small enough to change nothing, with as many digits in a table as a real one.
HARMLESS_LR = 1.2345678901234567e-9
FIRST_STEPS, PASSES, PASS_S, MOST_STEPS = 5, 3, 0.5, 200

# What some steps were made with, and the seconds to build it and to make them, without evaluation.
Made = tuple[experiment.Experiment, dict[str, float], dict[str, float]]


def process_age() -> float:
    """Seconds since this process began, its interpreter's start and imports included (proc(5), field 22)."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - progress.began()


def stopwatch() -> Callable[[], dict[str, float]]:
    """A function that tells the seconds since now: on the wall's clock, and of this process's computing."""
    wall, cpu = time.perf_counter(), time.process_time()
    return lambda: {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}


def start(clocks: Clocks) -> dict[str, float]:
    """Seconds of this process up to now, without those it waited for a device."""
    return {"wall": process_age() - clocks.seconds["wait"], "cpu": time.process_time()}


def median(values: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Of every clock its own median."""
    return {clock: statistics.median(entry[clock] for entry in values) for clock in values[0]}


def device_name(leased: int) -> str:
    """Name of the device that a job with so many leased GPUs computes on, as machine.json has it."""
    device = experiment.pick_device(leased)
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def measure(
    subjects: Mapping[str, Mapping[str, Any]],
    sweeps: Mapping[str, tuple[str, Mapping[str, Any]]],
    known: set[str],
    *,
    data_root: Path | str,
    leased: int = 0,
) -> dict[str, Any]:
    """Time every subject that is not known from records.

    Args:
        subjects: of `plan.subjects`, by key.
        sweeps: subject and parameters of every range test, by its name.
        known: keys of the subjects whose steps earlier records tell; theirs are not timed again.
        data_root: folder of the prepared data sets.

    Returns:
        ``subjects``: by key; ``sweeps``: steps of every range test; ``once_s``: what a process takes at its first
        training over any later one (libraries that start, kernels that are chosen). Every
        duration is ``{"wall", "cpu"}`` in seconds.
    """
    device = experiment.pick_device(leased)
    measured, steps, once = {}, {}, None
    of_sweeps = {key for key, _ in sweeps.values()}
    for key, subject in subjects.items():
        watch = stopwatch()
        arrays = data.load(Path(data_root) / subject["data"])
        loaded = watch()
        per_epoch = range_test.steps_per_epoch(subject, arrays)
        entry = {"steps_per_epoch": per_epoch, "data_s": loaded}
        if once is None:
            once = _once(subject, arrays, device)
        passes = 0 if key in known else PASSES
        entry |= _subject(subject, arrays, device, passes, swept if key in of_sweeps else trained)
        measured[key] = entry
        for name, (other, parameters) in sweeps.items():
            if other == key:
                steps[name] = len(range_test.rates(parameters, per_epoch))
    return {"device": device_name(leased), "subjects": measured, "sweeps": steps, "once_s": once}


def trained(subject: Mapping[str, Any], arrays: data.Arrays, device: torch.device, steps: int) -> Made:
    """Train so many steps, as runs and confirmations do."""
    watch = stopwatch()
    epochs = math.ceil(steps / range_test.steps_per_epoch(subject, arrays))
    parameters = {**subject, "epochs": epochs, "steps": steps, "eval_every": epochs}
    parameters |= {"lr": HARMLESS_LR, "schedule": {"name": "none"}, "seed": 0}
    clocks = Clocks()
    trainer = Trainer(parameters, arrays, device=device, clocks=clocks)
    built = watch()
    watch = stopwatch()
    trainer.train()
    took = watch()
    share = clocks.seconds["train"] / took["wall"]  # the rest is the last evaluation
    return trainer.parts, built, {clock: seconds * share for clock, seconds in took.items()}


def swept(subject: Mapping[str, Any], arrays: data.Arrays, device: torch.device, steps: int) -> Made:
    """Make so many steps of a range test, whose steps are not captured and set the LR each."""
    watch = stopwatch()
    parameters = {**subject, "seed": 0}
    epochs = math.ceil(steps / range_test.steps_per_epoch(subject, arrays))
    parts = experiment.build(parameters, arrays, device=device, lr=HARMLESS_LR, epochs=epochs)
    parts.compile(Clocks())
    built = watch()
    watch = stopwatch()
    range_test.sweep(
        parts.step_model,
        parts.optimizer,
        range_test.endless(parts.loader),
        np.full(steps, HARMLESS_LR),
        forward=parts.forward,
        micro_batch=parameters["micro_batch"],
    )
    return parts, built, watch()


def _once(subject: Mapping[str, Any], arrays: data.Arrays, device: torch.device) -> dict[str, float]:
    """What the process's first training takes over the next one of the same."""
    (_, *first), (_, *second) = (trained(subject, arrays, device, FIRST_STEPS) for _ in range(2))
    return {
        clock: max(0.0, sum(part[clock] for part in first) - sum(part[clock] for part in second))
        for clock in ("wall", "cpu")
    }


def _subject(
    subject: Mapping[str, Any],
    arrays: data.Arrays,
    device: torch.device,
    passes: int,
    make: Callable[[Mapping[str, Any], data.Arrays, torch.device, int], Made],
) -> dict[str, Any]:
    """Times of one subject: the median of several passes of real steps, after a first one that warms up."""
    parts, build, first = make(subject, arrays, device, FIRST_STEPS)
    rough, times = first["wall"] / FIRST_STEPS, []
    for _ in range(passes):
        count = min(MOST_STEPS, max(FIRST_STEPS, math.ceil(PASS_S / rough)))
        parts, _, took = make(subject, arrays, device, count)
        times.append({clock: seconds / count for clock, seconds in took.items()})
        rough = times[-1]["wall"]
        if took["wall"] > 10 * PASS_S:  # slow steps: one pass says enough
            break
    rough = {clock: seconds / FIRST_STEPS for clock, seconds in first.items()}
    per_step = median(times or [rough])
    warm_up = {clock: max(0.0, first[clock] - FIRST_STEPS * per_step[clock]) for clock in first}
    evaluations = {split: parts.evaluation(split) for split in ("validation", "test")}
    seconds = {}
    for split, evaluation in evaluations.items():
        watch = stopwatch()
        if evaluation is not None:
            evaluation()
        seconds[split] = watch()
    tensors = [*parts.model.state_dict().values()]
    for state in parts.optimizer.state.values():
        tensors += [value for value in state.values() if isinstance(value, torch.Tensor)]
    return {
        "step_s": per_step,
        "validation_s": seconds["validation"],
        "test_s": seconds["test"],
        "build_s": build,
        "warm_up_s": warm_up,
        "state_bytes": sum(tensor.numel() * tensor.element_size() for tensor in tensors),
    }
