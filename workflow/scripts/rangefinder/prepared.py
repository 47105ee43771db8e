"""Prepared data sets on disk: what describes them, and whether their files still are what was described."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .errors import InputError

FORMAT = 1
FILES = ("train_images.npy", "train_labels.npy", "test_images.npy", "test_labels.npy")
REDO = "delete the folder and prepare again"


def file_digest(path: Path, algorithm: str = "sha256") -> str:
    """Hexadecimal digest of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.new(algorithm, usedforsecurity=False)).hexdigest()


def read_description(folder: Path) -> dict:
    """``dataset.json`` of a prepared folder.

    Raises:
        InputError: it is missing, damaged or of another format.
    """
    path = Path(folder) / "dataset.json"
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(
            "no prepared data set here", file=folder, allowed="a folder with dataset.json"
        ) from None
    except ValueError as error:
        raise InputError(f"damaged ({error}); {REDO}", file=path) from None
    if not isinstance(description, dict) or description.get("format") != FORMAT:
        found = description.get("format") if isinstance(description, dict) else None
        raise InputError(
            "unknown format; prepare again", file=path, key="format", value=found, allowed=[FORMAT]
        )
    return description


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
