"""Does one fault to a fresh place, runs the same command until it succeeds, and tells what was lost."""

from __future__ import annotations

import json
import random
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from faults import Fault
from places import STEPS_PER_EPOCH, Place


@dataclass(frozen=True)
class Outcome:
    """What one fault did.

    Attributes:
        saw: the line that the user saw.
        lost: what differs from an undisturbed execution, and what was left lying about: must be empty.
    """

    saw: str
    lost: tuple[str, ...]


def endure(fault: Fault, origin: Place, undisturbed: Place, folder: Path, seed: int) -> Outcome:
    """Do `fault` to a copy of `origin` in `folder`, which is deleted if nothing was lost.

    Args:
        origin: a place whose command was not run yet.
        undisturbed: a place whose command was run once.
        seed: of every random choice.
    """
    place = origin.copy(folder)
    saw = fault.inflict(place, random.Random(seed)).replace(str(folder), "…")
    lost = [] if re.search(fault.expected, saw) else [f"the expected message (saw: {saw})"]
    if fault.ends_in == "divergence":
        lost += wrong_divergences(place, undisturbed)
    else:
        lost += after_the_same_command(place, undisturbed)
    lost += [f"a clean folder: {name} was left" for name in place.leftovers()]
    outputs = {path.name: path.read_text() for path in sorted(folder.glob("output-*.txt"))}
    lost += [
        f"one line instead of a traceback: {text[-2000:]}" for text in outputs.values() if "Traceback" in text
    ]
    if not lost:
        shutil.rmtree(folder)
    return Outcome(saw, tuple(lost))


def after_the_same_command(place: Place, undisturbed: Place) -> list[str]:
    """What is wrong after the same command was run again."""
    attempt = place.run()
    if attempt.code != 0:
        return [f"success of the same command: {attempt.output()[-2000:]}"]
    found, wanted = place.records(), undisturbed.records()
    changed = {name for name in found | wanted if found.get(name) != wanted.get(name)}
    return [f"the bytes of {name}" for name in sorted(changed)]


def wrong_divergences(place: Place, undisturbed: Place) -> list[str]:
    """What is wrong with the records of runs whose loss was made NaN at step `place.diverges_at`."""
    step, wrong = place.diverges_at, []
    for folder in sorted((undisturbed.results / "torture/runs").iterdir()):
        whole = (folder / "steps.csv").read_text().splitlines(keepends=True)
        record = json.loads((place.results / "torture/runs" / folder.name / "run.json").read_text())
        wanted = {
            "step": step,
            "epoch": step // STEPS_PER_EPOCH + 1,
            "last_finite_loss": float(np.float32(whole[step].split(",")[2])),
            "cause": "non_finite_loss",
        }
        if (record["status"], record["divergence"]) != ("diverged", wanted):
            wrong.append(f"the divergence of {folder.name}: {record['divergence']}, not {wanted}")
        table = (place.results / "torture/runs" / folder.name / "steps.csv").read_text()
        if table != "".join(whole[: step + 1]):
            wrong.append(f"the steps of {folder.name} before its divergence")
    return wrong
