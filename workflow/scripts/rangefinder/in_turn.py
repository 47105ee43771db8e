"""Several runs trained one after another in one process, each to the record that it would have alone."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch

from . import finished, generators, training
from .clocks import Clocks
from .errors import InputError, RunError
from .progress import Progress

log = logging.getLogger(__name__)


def train(
    specs: Sequence[Mapping[str, Any]],
    *,
    study_folder: Path | str,
    leased: int,
    clocks: Clocks,
    report: Progress,
    log_into: Callable[[Path], AbstractContextManager[Any]],
    reported: Callable[[Path, Mapping[str, Any]], AbstractContextManager[Progress]],
    kept: bool,
    **options: Any,
) -> None:
    """Train every run, and go on where one cannot be finished.

    Args:
        specs: of the runs.
        study_folder: the study's results.
        leased: number of GPUs leased for the job.
        clocks: of the job's waiting and start-up, which its first run is charged with.
        report: told how far the first run is.
        log_into: logs into a run's file while its context is open.
        reported: makes the progress of a further run, from its log file and its specification.
        kept: whether each run that ends is kept for a further attempt, should this one not come to its end.
        options: of `training.run`.

    Raises:
        Interrupted: told to stop; runs that are finished are kept, and the one that was interrupted continues.
        InputError, RunError: a run could not be finished; with several, it says which, after the last of them.
    """
    folder = Path(study_folder)
    several = len(specs) > 1
    # Not where processes of their own train each run: this one must take no memory of their devices.
    cuda = several and leased == 1 and torch.cuda.is_available()
    if several:
        gc.freeze()  # what is imported stays: looking it through after every run takes a tenth of a second
    if cuda:
        with clocks.running("startup"):
            torch.cuda.init()
    failures: list[tuple[str, str]] = []
    verify: bool | str = "full"
    for number, spec in enumerate(specs):
        name = spec["run"]
        file = finished.log_file(folder, name)
        with log_into(file), reported(file, spec) if number else nullcontext(report) as told:
            try:
                with as_if_alone(cuda) if several else nullcontext():
                    training.run(
                        spec,
                        folder=folder / "runs" / name,
                        checkpoint_folder=folder / "checkpoints",
                        notes_folder=folder / "unfinished",
                        leased=leased,
                        verify=verify,
                        trained_before=number
                        if leased < 2
                        else 0,  # several GPUs: new processes for each run
                        clocks=Clocks() if number else clocks,
                        report=told,
                        **options,
                    )
            except Exception as error:
                if not several or getattr(error, "status", None) == "interrupted":
                    raise
                if isinstance(error, InputError | RunError):
                    log.error("error: %s: %s", name, error)
                else:
                    log.exception("%s failed", name)
                failures.append((name, " ".join(str(error).split())))
            else:
                verify = True  # the file's contents were compared just now
                if kept:
                    finished.keep(folder, name)
    if failures:
        first, reason = failures[0]
        others = f" (and {', '.join(name for name, _ in failures[1:])})" if failures[1:] else ""
        raise RunError(
            f"{len(failures)} of {len(specs)} runs could not be finished: {first}{others}: {reason}"
        )


@contextmanager
def as_if_alone(cuda: bool) -> Iterator[None]:
    """Leave the process at the end of the block as it was at its start: in all that a training can depend on.

    These are the random generators, the settings of torch that are the process's and not the run's, and the memory
    that was held.

    Args:
        cuda: the random generators of the CUDA devices, and their memory, as well.
    """
    random_state = generators.state(cuda)
    dtype, precision = torch.get_default_dtype(), torch.get_float32_matmul_precision()
    deterministic = _deterministic()
    threads, gradients = torch.get_num_threads(), torch.is_grad_enabled()
    try:
        yield
    finally:
        torch.set_default_dtype(dtype)
        torch.set_float32_matmul_precision(precision)
        if _deterministic() != deterministic:  # setting it imports torch's compiler, which takes seconds
            torch.use_deterministic_algorithms(deterministic[0], warn_only=deterministic[1])
        torch.set_num_threads(threads)
        torch.set_grad_enabled(gradients)
        gc.collect()
        generators.restore(random_state, cuda)
        if cuda:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()


def _deterministic() -> tuple[bool, bool]:
    return torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
