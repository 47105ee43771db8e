"""Prepares a data set: raw files in, uint8 arrays and their description out."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path

import numpy as np

from .. import records
from ..errors import InputError
from ..prepared import FILES, file_digest
from .sources import RawData, read_source

_RESIZED_AT_ONCE = 1000


def prepare(
    spec: dict,
    folder: Path | str,
    *,
    data_dir: Path | str | None = None,
    data_mirror: str | None = None,
    download: bool = False,
) -> None:
    """Write ``{train,test}_{images,labels}.npy`` and ``dataset.json`` into ``folder``.

    Everything is first written beside ``folder`` and then renamed into it, ``dataset.json`` last: a folder
    with this file is complete. The bytes depend on the data and ``spec`` alone.

    Args:
        spec: a study's ``dataset`` section: ``name``, ``path``, ``arguments``, ``resize`` (pixels, square).
            Keys about splits, normalising and augmenting are not looked at.
        folder: made if missing.
        data_dir: a torchvision data root to read, never written to.
        data_mirror: base URL to download from instead of the original addresses.
        download: whether missing files may be downloaded. They are kept in ``$RANGEFINDER_CACHE``, by default
            the folder ``raw`` beside ``folder``.

    Raises:
        InputError: unknown data set, missing or damaged files, unusable arrays; nothing is written then.
    """
    folder = Path(folder)
    cache = Path(os.environ.get("RANGEFINDER_CACHE") or folder.parent / "raw")
    raw = read_source(
        spec,
        data_dir=Path(data_dir) if data_dir else None,
        data_mirror=data_mirror or None,
        download=download,
        cache=cache,
    )
    parts = _finished(raw, spec)
    # A fixed name, so that what a killed process left is cleared away by the next.
    building = folder.parent / f".{folder.name}.building"
    shutil.rmtree(building, ignore_errors=True)
    try:
        building.mkdir(parents=True)
        for name in FILES:
            np.save(building / name, parts[name])
        description = _describe(spec, raw, parts, building)
        records.write_json(building / "dataset.json", description)
        folder.mkdir(exist_ok=True)
        (folder / "dataset.json").unlink(missing_ok=True)
        for name in (*FILES, "dataset.json"):
            os.replace(building / name, folder / name)
    except OSError as error:
        raise InputError(f"cannot be written: {error.strerror}", file=folder) from error
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _finished(raw: RawData, spec: dict) -> dict[str, np.ndarray]:
    """The four arrays, resized and checked."""
    where = spec.get("path") or spec.get("name")
    size = spec.get("resize")
    if size is not None and (type(size) is not int or size < 1):
        raise InputError("not a size", key="dataset.resize", value=size, allowed="pixels, 1 or more")
    parts = {}
    for split in ("train", "test"):
        images, labels = getattr(raw, f"{split}_images"), getattr(raw, f"{split}_labels")
        if isinstance(images, list):
            images = _from_pil(images, size, where)
        elif size is not None and images.shape[2:] != (size, size):
            images = resize(images, size)
        if len(images) != len(labels) or not len(labels):
            message = f"{len(images)} {split} images but {len(labels)} labels"
            raise InputError(message, file=where, allowed="one label per image, at least one image")
        parts[f"{split}_images.npy"] = np.ascontiguousarray(images)
        parts[f"{split}_labels.npy"] = labels
    if parts["train_images.npy"].shape[1:] != parts["test_images.npy"].shape[1:]:
        shapes = [parts[f"{split}_images.npy"].shape[1:] for split in ("train", "test")]
        raise InputError(
            "training and test images differ in shape; resize can help", file=where, value=shapes
        )
    classes = len(raw.classes) or int(parts["train_labels.npy"].max()) + 1
    for split in ("train", "test"):
        labels = parts[f"{split}_labels.npy"]
        if labels.min() < 0 or labels.max() >= classes:
            found = [int(labels.min()), int(labels.max())]
            raise InputError(
                f"{split} labels out of range", file=where, value=found, allowed=f"0 to {classes - 1}"
            )
    return parts


def resize(images: np.ndarray, size: int) -> np.ndarray:
    """Each image through PIL's bilinear resize, as ``torchvision.transforms.Resize`` does on a PIL image.

    PIL resizes rows first, rounds to 8 bits, then columns; each row's result depends on that row alone. So
    many images stacked on top of each other go through at once, to the same bits.

    Args:
        images: uint8 [N, C, H, W].
        size: new height and width.

    Returns:
        uint8 [N, C, size, size].
    """
    count, channels, height, width = images.shape
    result = np.empty((count, channels, size, size), dtype=np.uint8)
    for first in range(0, count, _RESIZED_AT_ONCE):
        block = images[first : first + _RESIZED_AT_ONCE].reshape(-1, height, width)
        wide = _resize_rows(block, size)
        tall = _resize_rows(wide.transpose(0, 2, 1), size).transpose(0, 2, 1)
        result[first : first + _RESIZED_AT_ONCE] = tall.reshape(-1, channels, size, size)
    return result


def _resize_rows(images: np.ndarray, width: int) -> np.ndarray:
    """uint8 [M, H, W] → [M, H, width]."""
    from PIL import Image

    stacked = np.ascontiguousarray(images).reshape(-1, images.shape[2])
    resized = Image.fromarray(stacked).resize((width, len(stacked)), Image.Resampling.BILINEAR)
    return np.asarray(resized).reshape(*images.shape[:2], width)


def _from_pil(pictures: list, size: int | None, where: object) -> np.ndarray:
    """Pictures, grey or RGB, as uint8 [N, 1 or 3, H, W], resized where a size is given."""
    from PIL import Image

    if size is not None:
        pictures = [picture.resize((size, size), Image.Resampling.BILINEAR) for picture in pictures]
    sizes = sorted({picture.size for picture in pictures})
    if len(sizes) > 1:
        raise InputError("images differ in size", file=where, value=sizes[:5], allowed="one size; set resize")
    stacked = np.stack([np.asarray(picture) for picture in pictures])
    return stacked[:, None] if stacked.ndim == 3 else stacked.transpose(0, 3, 1, 2)


def _describe(spec: dict, raw: RawData, parts: dict[str, np.ndarray], building: Path) -> dict:
    """``dataset.json``."""
    train = parts["train_images.npy"]
    files = {
        name: {
            "sha256": file_digest(building / name),
            "bytes": (building / name).stat().st_size,
            "dtype": str(parts[name].dtype),
            "shape": list(parts[name].shape),
        }
        for name in FILES
    }
    classes = raw.classes or [str(number) for number in range(int(parts["train_labels.npy"].max()) + 1)]
    seen = {"classes": classes, "sha256": {name: files[name]["sha256"] for name in FILES}}
    mean, std = pixel_statistics(train)
    return {
        "name": spec["name"],
        "resize": spec.get("resize"),
        "classes": classes,
        "shape": list(train.shape[1:]),
        "counts": {"train": len(train), "test": len(parts["test_images.npy"])},
        "mean": mean,
        "std": std,
        "digest": hashlib.sha256(json.dumps(seen, sort_keys=True).encode()).hexdigest(),
        "files": files,
        "sources": raw.sources,
    }


def pixel_statistics(images: np.ndarray) -> tuple[list[float], list[float]]:
    """Mean and standard deviation (over all pixels) per channel, pixels scaled to [0, 1].

    From counts of the 256 grey levels, so exact up to the last division whatever the number of images.
    """
    means, deviations = [], []
    levels = np.arange(256)
    for channel in range(images.shape[1]):
        counts = np.bincount(images[:, channel].ravel(), minlength=256)
        total, first, second = int(counts.sum()), int(counts @ levels), int(counts @ levels**2)
        means.append(first / total / 255)
        deviations.append((total * second - first * first) ** 0.5 / total / 255)
    return means, deviations
