"""What is known of a run that has no record: a small note on how it ended, gone when the run completes.

A run that completed or diverged has a record in ``runs/``. Everything else leaves a note in ``unfinished/``,
outside the outputs that Snakemake declares and deletes. A process killed outright (SIGKILL, power) cannot
write one: then a checkpoint left behind is what tells a run that was begun from one that never was.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from . import finished, records
from .errors import InputError, InUse, RunError
from .stopping import Told

log = logging.getLogger(__name__)

FOLDER = "unfinished"
WORDS = {"out_of_memory": "out of memory", "interrupted": "interrupted", "failed": "failed"}


@contextmanager
def noted(folder: Path | str | None, spec: Mapping[str, Any], spec_digest: str) -> Iterator[dict[str, Any]]:
    """Leave a note if the block ends in an error, and delete the run's note if it does not.

    Args:
        folder: the study's folder of notes; None leaves none.
        spec: the run's specification.
        spec_digest: digest of it, so that a note on other parameters is not taken for this run's.

    Yields:
        what the note will say of the run's progress; the block fills in ``step``, ``steps`` and ``advice``.
    """
    progress: dict[str, Any] = dict.fromkeys(("step", "steps", "advice", "micro_batch"))
    if folder is None:
        yield progress
        return
    path = Path(folder) / f"{spec['run']}.json"
    try:
        yield progress
    except InUse:
        raise
    except BaseException as error:
        status = error.status if isinstance(error, RunError) else "failed"
        if isinstance(error, KeyboardInterrupt):
            status = "interrupted"
        note = {key: spec[key] for key in ("study", "run", "seed")} | progress
        note |= {"spec_digest": spec_digest, "status": status, "cause": _cause(error)}
        note["time"] = datetime.now(UTC).isoformat(timespec="seconds")
        try:
            records.write_json(path, note)
        except InputError as failure:  # the disk that ended the run may refuse the note as well
            log.warning("no note on the unfinished run: %s", failure)
        raise
    path.unlink(missing_ok=True)
    with suppress(OSError):  # not empty: other runs have theirs in it
        path.parent.rmdir()


def _cause(error: BaseException) -> str:
    own = isinstance(error, InputError | RunError | Told)
    text = str(error) if own else f"{type(error).__name__}: {error}"
    return " ".join(text.split())[:500]


def read(folder: Path | str, run: str, spec_digest: str) -> dict[str, Any] | None:
    """The note on a run, or None if there is none, or one on other parameters.

    Raises:
        InputError: the note is damaged.
    """
    path = Path(folder) / f"{run}.json"
    if not path.exists():
        return None
    note = records.read_json(path, "unfinished")
    return note if (note["run"], note["spec_digest"]) == (run, spec_digest) else None


def reasons(study_folder: Path | str, study: Mapping[str, Any], missing: list[str]) -> dict[str, str]:
    """Why these runs have no record, in a few words, for those that were begun.

    Args:
        study_folder: the study's results.
        study: content of study.json.
        missing: run ids.
    """
    folder = Path(study_folder)
    digests = {entry["run"]: entry["spec_digest"] for entry in study["runs"]}
    checkpoints = folder / "checkpoints"
    begun = {
        re.sub(r"-[0-9a-f]{16}$", "", path.name)
        for path in (checkpoints.iterdir() if checkpoints.is_dir() else ())
    }
    found = {}
    for run in missing:
        note = read(folder / FOLDER, run, digests[run])
        if note is not None:
            found[run] = f"{WORDS[note['status']]}: {note['cause']}"
        elif finished.read(folder, run, digests[run]) is not None:
            found[run] = "finished; its record is kept until the other runs of its job are done"
        elif run in begun:
            found[run] = "training, or killed; a checkpoint is kept"
    return found
