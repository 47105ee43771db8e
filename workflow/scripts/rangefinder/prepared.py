"""Prepared data sets on disk: what describes them, and whether their files still are what was described."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from . import records
from .errors import InputError

FILES = ("train_images.npy", "train_labels.npy", "test_images.npy", "test_labels.npy")
REDO = "delete the folder and prepare again"


def file_digest(path: Path, algorithm: str = "sha256") -> str:
    """Hexadecimal digest of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.new(algorithm, usedforsecurity=False)).hexdigest()


def read_description(folder: Path) -> dict:
    """``dataset.json`` of a prepared folder.

    Raises:
        InputError: it is missing, damaged, edited or of another format.
    """
    path = Path(folder) / "dataset.json"
    if not path.exists():
        raise InputError("no prepared data set here", file=folder, allowed="a folder with dataset.json")
    return records.read_json(path, "dataset")


def check_files(folder: Path, description: Mapping[str, Any], verify: bool | str = True) -> None:
    """Hold the files of a prepared data set against its description.

    Args:
        folder: what `data.prepare` filled.
        description: as `read_description` gives it.
        verify: True compares every file's size; ``"full"`` the SHA-256 too (0.1 s or so per 100 MB); False looks
            only whether the files are there.

    Raises:
        InputError: a file is missing, truncated, or not the one that was prepared.
    """
    for name in FILES:
        path, wanted = Path(folder) / name, description["files"][name]
        if not path.is_file():
            raise InputError(f"missing; {REDO}", file=path)
        if verify and path.stat().st_size != wanted["bytes"]:
            found = path.stat().st_size
            raise InputError(
                f"truncated or replaced: {found} bytes, not {wanted['bytes']}; {REDO}", file=path
            )
        if verify == "full" and file_digest(path) != wanted["sha256"]:
            raise InputError(f"contents changed: SHA-256 is not {wanted['sha256']}; {REDO}", file=path)
