"""Prepared arrays: loaded from disk, checked, and split."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..prepared import FILES, REDO, check_files, read_description
from .sampling import stratified_sample


@dataclass(frozen=True)
class Arrays:
    """A prepared data set.

    Attributes:
        train_images, test_images: uint8 [N, C, H, W].
        train_labels, test_labels: int64 [N], 0..len(classes)-1.
        name: of the data set.
        classes: the classes' names.
        shape: (C, H, W).
        mean, std: per channel, of the training pixels scaled to [0, 1].
        digest: SHA-256 over everything above that a training run can see.
    """

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    name: str
    classes: tuple[str, ...]
    shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    digest: str


@dataclass(frozen=True)
class Splits:
    """Ascending int64 positions: train and validation in the training arrays, test in the test arrays."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


def load(folder: Path | str, *, verify: bool | str = True) -> Arrays:
    """Load a prepared data set, memory-mapped (copy on write), so that runs on one host share the memory.

    Args:
        folder: what :func:`prepare` filled.
        verify: True compares every file's size and array header with ``dataset.json``; ``"full"`` the SHA-256
            too (0.1 s or so per 100 MB); False nothing.

    Raises:
        InputError: a file is missing, truncated, or not the one that was prepared.
    """
    folder = Path(folder)
    description = read_description(folder)
    arrays = {}
    check_files(folder, description, verify)
    for name in FILES:
        path, wanted = folder / name, description["files"][name]
        try:
            array = np.load(path, mmap_mode="c", allow_pickle=False)
        except ValueError as error:
            raise InputError(f"not a NumPy array file ({error}); {REDO}", file=path) from None
        if verify and (list(array.shape) != wanted["shape"] or str(array.dtype) != wanted["dtype"]):
            found = f"{array.dtype} {list(array.shape)}"
            raise InputError(f"is {found}, not {wanted['dtype']} {wanted['shape']}; {REDO}", file=path)
        arrays[name.removesuffix(".npy")] = array
    return Arrays(
        **arrays,
        name=description["name"],
        classes=tuple(description["classes"]),
        shape=tuple(description["shape"]),
        mean=tuple(description["mean"]),
        std=tuple(description["std"]),
        digest=description["digest"],
    )


def split(arrays: Arrays, spec: dict) -> Splits:
    """Training, validation and test positions: a pure function of the labels and the data set's settings.

    All three are stratified (each class in its share). The validation samples come out of the training arrays
    and depend on ``split_seed`` alone, so that all runs, whatever their seed and size, share them.

    Args:
        spec: ``validation`` (count, default 0), ``split_seed`` (default 0), ``train_samples`` and
            ``test_samples`` (counts; all by default). Other keys are not looked at.

    Raises:
        InputError: a count that does not fit.
    """

    def count(key: str, default: int, low: int, high: int) -> int:
        value = spec.get(key)
        value = default if value is None else value
        if type(value) is not int or not low <= value <= high:
            raise InputError(
                "impossible count", key=f"dataset.{key}", value=value, allowed=f"{low} to {high}"
            )
        return value

    seed = spec.get("split_seed") or 0
    total = len(arrays.train_labels)
    train_labels = np.asarray(arrays.train_labels)
    validation = stratified_sample(
        train_labels, count("validation", 0, 0, total - 1), "validation split", seed
    )
    train = np.setdiff1d(np.arange(total), validation, assume_unique=True)
    wanted = count("train_samples", len(train), 1, len(train))
    if wanted < len(train):
        train = train[stratified_sample(train_labels[train], wanted, "training subset", seed)]
    test = np.arange(len(arrays.test_labels))
    wanted = count("test_samples", len(test), 1, len(test))
    if wanted < len(test):
        test = stratified_sample(np.asarray(arrays.test_labels), wanted, "test subset", seed)
    return Splits(train=train, validation=validation, test=test)


def normalisation(
    choice: str | dict | None, arrays: Arrays
) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Mean and standard deviation per channel for :class:`Loader`.

    Args:
        choice: None or ``"none"`` (pixels stay in [0, 1]), ``"dataset"`` (of the training pixels), or
            ``{"mean": [...], "std": [...]}`` in units of white = 1.

    Raises:
        InputError: another word, a wrong number of channels, or a standard deviation that is not positive.
    """
    if choice is None or choice == "none":
        return None
    if choice == "dataset":
        # A channel of one constant value is only centred.
        return arrays.mean, tuple(value or 1.0 for value in arrays.std)
    allowed = (
        f"none, dataset, or {{mean: [...], std: [...]}} with {arrays.shape[0]} value(s) each, std above 0"
    )
    if not isinstance(choice, dict) or set(choice) != {"mean", "std"}:
        raise InputError("unknown normalisation", key="dataset.normalise", value=choice, allowed=allowed)
    try:
        mean, std = (tuple(float(value) for value in choice[key]) for key in ("mean", "std"))
    except (TypeError, ValueError):
        raise InputError("not numbers", key="dataset.normalise", value=choice, allowed=allowed) from None
    usable = all(math.isfinite(value) for value in (*mean, *std)) and all(value > 0 for value in std)
    if len(mean) != arrays.shape[0] or len(std) != arrays.shape[0] or not usable:
        raise InputError("wrong values", key="dataset.normalise", value=choice, allowed=allowed)
    return mean, std
