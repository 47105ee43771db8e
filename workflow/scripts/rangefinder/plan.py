"""What a study will cost before it is run: jobs, steps, device time, disk; from timed steps or earlier records."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import answers, records
from .chunks import chunks
from .errors import InputError
from .runs import Study, digest

# What the time of a step, of an evaluation or of a job's start can depend on; the LR, schedule and seed cannot.
TIMED = (
    "model",
    "optimizer",
    "batch_size",
    "micro_batch",
    "initialisation",
    "precision",
    "channels_last",
    "compile",
    "cuda_graph",
    "order",
    "drop_last",
    "eval_batch_size",
    "dataset",
)
RECORD_BYTES = 5000  # run.json and machine.json without their epochs, and the log's first lines
EPOCH_BYTES = 500  # a row of epochs.csv, of machine.json and of the log
STEP_BYTES = 50  # a row of steps.csv or sweep.csv
CHECKPOINTS = 2  # files kept of a run in progress
TIMED_STEPS = "timed steps"  # where finished runs tell nothing
COLUMNS = (
    "kind",
    "optimizer",
    "batch_size",
    "epochs",
    "jobs",
    "done",
    "steps",
    "steps_left",
    "step_s",
    "evaluation_s",
    "start_s",
    "total_s",
    "left_s",
    "left_cpu_s",
    "timed",
)


@dataclass(frozen=True)
class Group:
    """Jobs of one kind that cost the same.

    Attributes:
        subject: key of what is timed for them.
        names: of the jobs, as `Study.jobs` gives them.
        sweep: the range test, for jobs that run it.
        trainings: in each job; more than one in a confirmation, which trains at most so many.
    """

    kind: str
    optimizer: str
    subject: str
    parameters: Mapping[str, Any]
    names: tuple[str, ...]
    sweep: str | None = None
    trainings: int = 1


def subject(parameters: Mapping[str, Any], dataset: str) -> dict[str, Any]:
    """What has to be timed for a job with these parameters on this prepared data set.

    Range tests have no `cuda_graph`: theirs is no subject of a training, whose steps may be captured.
    """
    return {key: parameters[key] for key in TIMED if key in parameters} | {"data": dataset}


def subjects(study: Study) -> dict[str, dict[str, Any]]:
    """Everything that has to be timed for a study, by key."""
    jobs = [*study.runs.values(), *study.range_tests.values()]
    found = [subject(job.parameters, job.dataset) for job in jobs]
    for test in study.range_tests.values():
        if test.confirm:
            found.append(subject(test.confirm.parameters, test.dataset))
    return {digest(entry): entry for entry in found}


def sweeps(study: Study) -> dict[str, tuple[str, dict[str, Any]]]:
    """The subject and the parameters of every range test."""
    return {
        name: (digest(subject(test.parameters, test.dataset)), test.parameters)
        for name, test in study.range_tests.items()
    }


def groups(study: Study) -> list[Group]:
    """A study's jobs in groups that cost the same."""
    found = []
    for test in study.range_tests.values():
        key = digest(subject(test.parameters, test.dataset))
        names = tuple(f"{test.name}-seed{seed}" for seed in test.seeds)
        found.append(Group("range_test", test.optimizer, key, test.parameters, names, sweep=test.name))
    for test in study.range_tests.values():
        if test.confirm:
            key = digest(subject(test.confirm.parameters, test.dataset))
            names = tuple(f"{test.name}-seed{seed}" for seed in test.confirm.seeds)
            most = len(answers.RESERVED) + len(test.confirm.lrs)
            parameters = test.confirm.parameters
            found.append(Group("confirm_lr_range", test.optimizer, key, parameters, names, trainings=most))
    alike: dict[tuple, list] = {}
    for run in study.runs.values():
        key = digest(subject(run.parameters, run.dataset))
        mark = (run.axes["optimizer"], key, run.parameters["epochs"], run.parameters["eval_every"])
        alike.setdefault(mark, []).append(run)
    for (optimizer, key, *_), runs in alike.items():
        names = tuple(run.id for run in runs)
        found.append(Group("train", optimizer, key, runs[0].parameters, names))
    return found


def from_records(
    study: Study, folder: Path | str, finished: Collection[str], device: str
) -> dict[str, dict[str, Any]]:
    """Seconds per step of every subject that has finished runs.

    Args:
        folder: the study's results.
        finished: ids of the runs with a record of their own parameters.
        device: that runs must have been made on to count.

    Returns:
        ``{"runs", "step_s"}`` by the subject's key.
    """
    sums: dict[str, list[float]] = {}
    for name in finished:
        run = study.runs[name]
        try:
            record = records.read_run(Path(folder) / "runs" / name, tables=())
        except InputError:
            continue
        if record["machine"]["device"] != device or not record["machine"]["epochs"]:
            continue
        entry = sums.setdefault(digest(subject(run.parameters, run.dataset)), [0, 0, 0])
        entry[0] += 1
        entry[1] += sum(epoch["train_s"] for epoch in record["machine"]["epochs"])
        entry[2] += len(record["machine"]["epochs"]) * record["run"]["steps_per_epoch"]
    return {key: {"runs": count, "step_s": train / steps} for key, (count, train, steps) in sums.items()}


def rows(
    study: Study,
    timing: Mapping[str, Any],
    known: Mapping[str, Mapping[str, Any]],
    done: Collection[tuple[str, str]],
    between_s: float,
    runs_per_job: int = 1,
) -> list[dict[str, Any]]:
    """The plan's rows, one per group.

    Args:
        timing: content of timing.json: `timing.measure` and ``start_s`` of a job's process.
        known: of `from_records`.
        done: kind and name of every job that is done.
        between_s: seconds from a job's last line to the first of the next, by Snakemake and the system.
        runs_per_job: runs that share a job's start.

    Returns:
        Values of `COLUMNS`; ``start_s`` is what a job takes beside its steps and evaluations, of which runs that share
        one each bear a part. Beside them ``together``, how many share a job.
    """
    together = {run.id: len(chunk) for chunk in chunks(study, runs_per_job) for run in chunk}
    found = []
    for group in groups(study):
        sizes = [together.get(name, 1) if group.kind == "train" else 1 for name in group.names]
        share = sum(1 / size for size in sizes) / len(sizes)
        row = _row(group, timing, known, done, between_s, share)
        found.append(row | {"together": max(sizes)})
    return found


def _row(
    group: Group,
    timing: Mapping[str, Any],
    known: Mapping[str, Mapping[str, Any]],
    done: Collection[tuple[str, str]],
    between_s: float,
    share: float,
) -> dict[str, Any]:
    """One row; a run bears `share` of what its process takes once."""
    measured = timing["subjects"][group.subject]
    record = known.get(group.subject)
    timed = TIMED_STEPS
    if record is not None:
        measured = measured | {"step_s": dict.fromkeys(("wall", "cpu"), record["step_s"])}
        timed = f"{record['runs']} finished run{'s' * (record['runs'] > 1)}"
    steps, validations, tests, epochs = _work(group, timing, measured)
    seconds, start = {}, {}
    for clock in ("wall", "cpu"):
        own = measured["build_s"][clock] + measured["warm_up_s"][clock]
        once = timing["start_s"][clock] + timing["once_s"][clock] + measured["data_s"][clock]
        start[clock] = share * once + own
        work = steps * measured["step_s"][clock] + tests * measured["test_s"][clock]
        work += validations * measured["validation_s"][clock]
        seconds[clock] = start[clock] + group.trainings * work + (group.trainings - 1) * own
    start["wall"] += share * between_s
    seconds["wall"] += share * between_s
    jobs = len(group.names)
    left = jobs - sum((group.kind, name) in done for name in group.names)
    steps *= group.trainings
    return {
        "kind": group.kind,
        "optimizer": group.optimizer,
        "batch_size": group.parameters["batch_size"],
        "epochs": epochs,
        "jobs": jobs,
        "done": jobs - left,
        "steps": jobs * steps,
        "steps_left": left * steps,
        "step_s": measured["step_s"]["wall"],
        "evaluation_s": measured["validation_s"]["wall"] + measured["test_s"]["wall"],
        "start_s": start["wall"],
        "total_s": jobs * seconds["wall"],
        "left_s": left * seconds["wall"],
        "left_cpu_s": left * seconds["cpu"],
        "timed": timed,
    }


def _work(
    group: Group, timing: Mapping[str, Any], measured: Mapping[str, Any]
) -> tuple[int, int, int, int | None]:
    """Steps, evaluations on the validation and on the test set, and epochs, of one training of a job."""
    parameters = group.parameters
    if group.sweep is not None:
        steps, every = timing["sweeps"][group.sweep], parameters["validation_every"]
        return steps, math.ceil(steps / every) if every else 0, 0, None
    per_epoch, epochs = measured["steps_per_epoch"], parameters.get("epochs")
    steps = min(epochs * per_epoch if epochs else math.inf, parameters.get("steps") or math.inf)
    epochs = math.ceil(steps / per_epoch)
    times = 1 if group.kind == "confirm_lr_range" else math.ceil(epochs / parameters["eval_every"])
    return steps, times, times, epochs


def disk_bytes(rows: Iterable[Mapping[str, Any]]) -> int:
    """What the records of the jobs that are left take on disk."""
    return sum(
        (row["jobs"] - row["done"]) * (RECORD_BYTES + EPOCH_BYTES * (row["epochs"] or 0))
        + STEP_BYTES * row["steps_left"]
        for row in rows
    )


def columns(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """plan.csv."""
    return {name: [row[name] for row in rows] for name in COLUMNS}
