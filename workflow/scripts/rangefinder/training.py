"""One training run from its specification to its record."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from . import data, experiment, memory, provenance, records, resolution, run_lock, runs, stopping, unfinished
from .checkpoints import Checkpoints
from .clocks import Clocks
from .progress import Progress
from .shares import Share
from .trainer import Trainer


def run(
    spec: Mapping[str, Any],
    *,
    lr_range: Mapping[str, Any] | None,
    data_folder: Path | str,
    folder: Path | str,
    checkpoint_folder: Path | str,
    notes_folder: Path | str | None = None,
    leased: int = 0,
    verify: bool | str = "full",
    trained_before: int = 0,
    clocks: Clocks | None = None,
    checkpoint_minutes: float = 5.0,
    checkpoint_epochs: int | None = None,
    report: Progress | None = None,
) -> dict[str, Any]:
    """Train one run of a study and write its record.

    Args:
        spec: the run's specification from the study (`runs.Run.spec`).
        lr_range: the content of range.json, for runs whose LR refers to it.
        data_folder: the prepared data set.
        folder: where run.json, machine.json, epochs.csv and steps.csv go.
        checkpoint_folder: where checkpoints and the run's lock are while it trains.
        notes_folder: where a run that does not come to its end leaves a note on why (`unfinished`).
        leased: number of GPUs leased for the run; 0 trains on the CPU, more than one with a process for each.
        verify: how the data set's files are checked (`data.load`).
        trained_before: runs that this process has trained before this one (`in_turn`).
        clocks: clocks that already hold the job's waiting and start-up time.
        checkpoint_minutes: minutes between two checkpoints.
        checkpoint_epochs: epochs between two checkpoints, where they come sooner.
        report: told how far the run is.

    Returns:
        The content of run.json. ``status`` is ``completed`` or ``diverged``; nothing else is ever written.

    Raises:
        Interrupted: told to stop; a checkpoint holds the state, and the same call continues from it.
        OutOfMemory: the memory is too small for the batch, for an evaluation's, or for the data.
        RunError: one of several processes died.
        InputError: the specification, the LR range or the data cannot be used.
    """
    spec_digest = runs.digest(spec)
    with unfinished.noted(notes_folder, spec, spec_digest) as progress:
        clocks = clocks or Clocks()
        parameters = resolution.resolve(spec["parameters"], resolution.of_job(spec, lr_range))
        if parameters.get("on_out_of_memory") == "halve" and notes_folder is not None:
            note = unfinished.read(notes_folder, spec["run"], spec_digest)
            parameters["micro_batch"] = progress["micro_batch"] = memory.halved(parameters, note)
        with clocks.running("data"), memory.watched(parameters, progress), memory.loading():
            arrays = data.load(data_folder, verify=verify)
        digest = runs.digest({"run": runs.digest(parameters), "data": arrays.digest})
        job = {
            "spec": dict(spec),
            "parameters": parameters,
            "range_status": lr_range["status"] if lr_range else None,
            "folder": str(folder),
            "trained_before": trained_before,
            "checkpoints": [str(checkpoint_folder), spec["run"], digest],
            "checkpoint_seconds": 60 * checkpoint_minutes,
            "checkpoint_epochs": checkpoint_epochs,
        }
        checkpoints = Checkpoints(*job["checkpoints"])
        with run_lock.hold(checkpoint_folder, spec["run"], run_lock.WAIT_S):
            if leased > 1:
                from . import distributed

                job["data_folder"] = str(data_folder)
                distributed.launch(
                    "rangefinder.process", job, leased, clocks=clocks, progress=progress, told=report
                )
                return records.read_json(Path(folder) / "run.json", "run")
            device = experiment.pick_device(leased)
            return train(
                job,
                arrays,
                device=device,
                clocks=clocks,
                checkpoints=checkpoints,
                progress=progress,
                report=report,
            )


def train(
    job: Mapping[str, Any],
    arrays: data.Arrays,
    *,
    clocks: Clocks,
    checkpoints: Checkpoints,
    progress: dict[str, Any],
    share: Share | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Train a run from its resolved parameters, as one process or as this process's share; write the record.

    Args:
        job: as `run` makes it.
        progress: is told how far the run came.
        share: of this process, where several train the run; the first of them writes the record.
        options: of the trainer.

    Returns:
        The content of run.json, but for what is written into every record.
    """
    spec, parameters = job["spec"], job["parameters"]
    kind, processes = Trainer, 1
    if share is not None:
        from .parallel import ParallelTrainer

        kind, processes, options = ParallelTrainer, share.count, options | {"share": share}
    with stopping.stop_on_signal() as stop:
        with memory.watched(parameters, progress, processes):
            # Building may compile for minutes. Several processes agree on when to stop, and do so once they train.
            with stop.at_once() if share is None else nullcontext():
                trainer = kind(
                    parameters,
                    arrays,
                    clocks=clocks,
                    checkpoints=checkpoints,
                    checkpoint_seconds=job["checkpoint_seconds"],
                    checkpoint_epochs=job["checkpoint_epochs"],
                    stop=stop,
                    **options,
                )
                progress["steps"] = len(trainer.losses)
                trainer.resume()
            try:
                trainer.train()
            finally:
                progress["step"] = trainer.step
        record = {
            **{key: spec[key] for key in ("study", "run", "seed")},
            "parameters": parameters,
            "digest": runs.digest(parameters),
            "spec_digest": runs.digest(spec),
            "lr": {
                "expression": spec["parameters"]["lr"],
                "value": parameters["lr"],
                "range_test": spec.get("range_test"),
                "range_status": job["range_status"],
            },
            **trainer.record(),
            "provenance": provenance.provenance(arrays.digest),
        }
        if share is None or share.rank == 0:
            machine = trainer.machine() | {"trained_before": job["trained_before"]}
            records.write_run(job["folder"], record, machine, trainer.epoch_table(), trainer.step_table())
            checkpoints.remove()
    return record
