"""What the write-ups claim, as data: read, checked, and matched to a study's cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from . import validation
from .cells import Cell
from .errors import InputError
from .published import AXES, DIRECTORY

# Keys of a test beside form and relation: what each relation needs, and what else it takes.
KEYS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "higher": (("metric", "a", "b"), ("by",)),
    "lower": (("metric", "a", "b"), ("by",)),
    "ratio": (("metric", "a", "b"), ("low", "high")),
    "within": (("metric", "a"), ("low", "high")),
    "best_within": (("metric", "a"), ("low", "high")),
    "range_within": (("range_test", "answer"), ("low", "high")),
}


def path(directory: Path | str = DIRECTORY) -> Path:
    """Where the claims of a folder of published numbers stand."""
    return Path(directory) / "claims.yaml"


def read(study: str, *, directory: Path | str = DIRECTORY) -> list[dict[str, Any]]:
    """The claims about a study, in the order of the file; none where there is no file.

    Args:
        study: the study's name.
        directory: where claims.yaml is.

    Returns:
        Mappings as in `workflow/schemas/claims.schema.yaml`, with defaults; each test also has ``key``, its place in
        the file.

    Raises:
        InputError: the file does not fit its schema, a claim stands twice, or a test has a key that its relation does
            not take.
    """
    file = path(directory)
    content = _content(file)
    seen: dict[str, int] = {}
    for position, claim in enumerate(content["claims"]):
        if claim["id"] in seen:
            raise InputError(
                f"the same id as claims.{seen[claim['id']]}",
                file=file,
                key=f"claims.{position}.id",
                value=claim["id"],
                allowed="one claim for each id",
            )
        seen[claim["id"]] = position
    return [
        claim
        | {
            "tests": [
                _complete(test, f"claims.{position}.tests.{n}", file) for n, test in enumerate(claim["tests"])
            ]
        }
        for position, claim in enumerate(content["claims"])
        if claim["study"] == study
    ]


def studies(*, directory: Path | str = DIRECTORY) -> list[str]:
    """Names of the studies that the claims are about, in the order of the file; none where there is no file.

    Raises:
        InputError: the file does not fit its schema.
    """
    return list(dict.fromkeys(claim["study"] for claim in _content(path(directory))["claims"]))


def _content(file: Path) -> dict[str, Any]:
    if not file.is_file():
        return {"claims": []}
    content = validation.read_yaml(file)
    validation.check(content, "claims", file)
    return content


def _complete(test: Mapping[str, Any], place: str, file: Path) -> dict[str, Any]:
    """A test with defaults and its place, after a check of what its relation takes."""
    relation = test["relation"]
    needed, others = KEYS[relation]
    for key in test:
        if key not in ("form", "relation", *needed, *others):
            raise InputError(
                f"not a key of the relation {relation}",
                file=file,
                key=place,
                value=key,
                allowed=[*needed, *others],
            )
    for key in needed:
        if key not in test:
            allowed = f"with the relation {relation}: {', '.join((*needed, *others))}"
            raise InputError(f"the key {key!r} is missing", file=file, key=place, allowed=allowed)
    span = {end: test.get(end) for end in ("low", "high")}
    given = [value for value in span.values() if value is not None]
    if "low" in others and (not given or given != sorted(given)):
        raise InputError(
            "not a span of values",
            file=file,
            key=place,
            value=span,
            allowed="low, high, or both with low at most high",
        )
    return {"by": 0.0, **test, **span, "key": place}


def select(
    cells: Sequence[Cell], form: str | None, wanted: Mapping[str, Any], file: Path, key: str
) -> list[Cell]:
    """The cells of a form that a selection names.

    Raises:
        InputError: there is none; the message names the axis at fault and its values.
    """
    found = [cell for cell in cells if cell.form == form]
    for axis in AXES:
        if axis not in wanted:
            continue
        values = wanted[axis] if isinstance(wanted[axis], list) else [wanted[axis]]
        known = list(dict.fromkeys(cell.axes[axis] for cell in found))
        for value in values:
            if value not in known:
                raise InputError(
                    f"no such cell in the form {form}",
                    file=file,
                    key=f"{key}.{axis}",
                    value=value,
                    allowed=known,
                )
        found = [cell for cell in found if cell.axes[axis] in values]
    return found


def select_one(
    cells: Sequence[Cell], form: str | None, wanted: Mapping[str, Any], file: Path, key: str
) -> Cell:
    """The one cell that a selection names.

    Raises:
        InputError: there is none, or more than one.
    """
    found = select(cells, form, wanted, file, key)
    if len(found) != 1:
        raise InputError(
            f"names {len(found)} cells",
            file=file,
            key=key,
            value=dict(wanted),
            allowed="a selection of one cell",
        )
    return found[0]
