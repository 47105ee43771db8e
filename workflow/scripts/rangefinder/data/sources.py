"""Where raw data come from: scikit-learn, torchvision, the user's own files and functions."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..names import TORCHVISION_CLASSES
from ..prepared import file_digest
from ..user_code import is_reference, load_function
from .sampling import stratified_sample
from .torchvision_classes import read_class
from .torchvision_files import TORCHVISION, read_torchvision

_NPZ_NAMES = (
    ("x_train", "y_train", "x_test", "y_test"),
    ("train_images", "train_labels", "test_images", "test_labels"),
)
_HELD_OUT = 0.2


@dataclass
class RawData:
    """What a source gives: images uint8 [N, C, H, W] (or a list of PIL images), labels int64 [N].

    ``classes`` may be empty (then they are numbered); ``sources`` maps file names to MD5 digests.
    """

    train_images: np.ndarray | list
    train_labels: np.ndarray
    test_images: np.ndarray | list
    test_labels: np.ndarray
    classes: list[str] = field(default_factory=list)
    sources: dict[str, str] = field(default_factory=dict)


def read_source(
    spec: dict, *, data_dir: Path | None, data_mirror: str | None, download: bool, cache: Path
) -> RawData:
    """The raw data of a study's ``dataset`` section.

    Args:
        spec: ``name`` and what the source needs: ``path`` (npz, imagefolder), ``arguments`` (of a function
            or of a torchvision class).
        data_dir: a torchvision root to read from, never written to; None for ``cache``.
        data_mirror: base URL to download from instead of the original ones.
        download: whether missing files may be downloaded (into ``cache``, when no ``data_dir`` is given).
        cache: a torchvision root that downloads are kept in.

    Raises:
        InputError: unknown name, or missing or damaged data.
    """
    name = spec.get("name")
    if name == "digits":
        return _digits()
    if name in TORCHVISION:
        train, test, classes, sources = read_torchvision(
            name, data_dir=data_dir, data_mirror=data_mirror, download=download, cache=cache
        )
        return RawData(*train, *test, classes, sources)
    if name in TORCHVISION_CLASSES:
        train, test, classes = read_class(
            name, spec.get("arguments") or {}, data_dir=data_dir, download=download, cache=cache
        )
        return RawData(*train, *test, classes)
    if name == "npz":
        return _npz(_path(spec))
    if name == "imagefolder":
        return _imagefolder(_path(spec))
    if is_reference(name):
        return _function(name, spec.get("arguments") or {})
    allowed = ["digits", *TORCHVISION, *TORCHVISION_CLASSES, "npz", "imagefolder", "path/file.py:function"]
    raise InputError("unknown data set", key="dataset.name", value=name, allowed=allowed)


def hold_out(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions for training and test (a fifth, rounded up) where the source has one undivided set."""
    test = stratified_sample(labels, int(np.ceil(len(labels) * _HELD_OUT)), "held-out test set", 0)
    return np.setdiff1d(np.arange(len(labels)), test, assume_unique=True), test


def _path(spec: dict) -> Path:
    if not spec.get("path"):
        raise InputError("this data set needs a path", key="dataset.path", allowed="a file or folder")
    path = Path(spec["path"])
    if not path.exists():
        raise InputError("does not exist", key="dataset.path", value=str(path))
    return path


def _digits() -> RawData:
    """Handwritten digits of the UCI repository, as scikit-learn ships them: 1,797 images of 8×8.

    Pixels are counts 0..16, stored as round(v · 255 / 16). 360 test images, the rest for training, each class
    in its share.
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = np.rint(bunch.images * (255 / 16)).astype(np.uint8)[:, None]
    labels = bunch.target.astype(np.int64)
    train, test = hold_out(labels)
    return RawData(
        images[train], labels[train], images[test], labels[test], [str(name) for name in bunch.target_names]
    )


def _npz(path: Path) -> RawData:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except Exception as error:
        raise InputError(f"not a readable .npz file ({error})", file=path, key="dataset.path") from error
    sources = {path.name: file_digest(path, "md5")}
    return _from_arrays(arrays, path, sources)


def _from_arrays(arrays: Mapping, file: Path, sources: dict[str, str]) -> RawData:
    for names in _NPZ_NAMES:
        if all(name in arrays for name in names):
            train_x, train_y, test_x, test_y = (np.asarray(arrays[name]) for name in names)
            break
    else:
        if "images" not in arrays or "labels" not in arrays:
            raise InputError(
                "arrays are missing",
                file=file,
                value=sorted(arrays),
                allowed="x_train, y_train, x_test, y_test, or images and labels (a fifth becomes the test)",
            )
        images, labels = np.asarray(arrays["images"]), _labels(np.asarray(arrays["labels"]), file)
        train, test = hold_out(labels)
        train_x, train_y, test_x, test_y = images[train], labels[train], images[test], labels[test]
    classes = [str(name) for name in arrays["classes"]] if "classes" in arrays else []
    return RawData(
        _images(train_x, file),
        _labels(train_y, file),
        _images(test_x, file),
        _labels(test_y, file),
        classes,
        sources,
    )


def _images(images: np.ndarray, file: Path) -> np.ndarray:
    """Images of the usual layouts as uint8 [N, C, H, W]."""
    allowed = "[N, H, W], [N, C, H, W] or [N, H, W, C] with 1 or 3 channels"
    if images.ndim == 3:
        images = images[:, None]
    elif images.ndim == 4 and images.shape[1] not in (1, 3) and images.shape[3] in (1, 3):
        images = images.transpose(0, 3, 1, 2)
    elif images.ndim != 4:
        raise InputError(
            "images of this shape cannot be used", file=file, value=images.shape, allowed=allowed
        )
    return to_uint8(images, file)


def to_uint8(images: np.ndarray, file: object) -> np.ndarray:
    """Pixels as uint8: integers 0..255, or numbers in [0, 1] that are multiples of 1/255.

    Raises:
        InputError: anything that 8 bits would not hold (normalised images, say).
    """
    if images.dtype == np.uint8:
        return images
    values = images.astype(np.float64)
    if images.dtype.kind == "f":
        values *= 255
    rounded = np.rint(values)
    # 1e-3 of a grey level: above float32's error, far below anything that was not 8 bits before.
    kept = (
        images.dtype.kind in "buif"
        and np.isfinite(values).all()
        and np.abs(values - rounded).max(initial=0) < 1e-3
    )
    if not kept or rounded.min(initial=0) < 0 or rounded.max(initial=0) > 255:
        allowed = "integers 0..255, or multiples of 1/255 in [0, 1] (normalising is asked for in the study)"
        raise InputError(f"pixels of type {images.dtype} would be changed", file=file, allowed=allowed)
    return rounded.astype(np.uint8)


def _labels(labels: np.ndarray, file: object) -> np.ndarray:
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        found = f"{labels.dtype} {list(labels.shape)}"
        raise InputError("labels of this kind cannot be used", file=file, value=found, allowed="integers [N]")
    return labels.astype(np.int64)


def _imagefolder(path: Path) -> RawData:
    """A folder with ``train`` and ``test`` (or ``val``), each with one folder per class."""
    from torchvision.datasets import ImageFolder

    second = next((name for name in ("test", "val") if (path / name).is_dir()), None)
    if second is None or not (path / "train").is_dir():
        raise InputError(
            "has no train and test folders", file=path, allowed="train/<class>/…, test/<class>/…"
        )
    parts, sources = [], {}
    for name in ("train", second):
        try:
            folder = ImageFolder(path / name)
            parts.append([folder[position][0] for position in range(len(folder))])
        except (FileNotFoundError, OSError) as error:
            raise InputError(f"unreadable images ({error})", file=path / name) from error
        parts.append(np.asarray(folder.targets, dtype=np.int64))
        # One sum for all files, of the list that `md5sum` would print in this folder.
        lines = (
            f"{file_digest(file, 'md5')}  {Path(file).relative_to(path / name)}\n"
            for file, _ in folder.samples
        )
        sources[name] = hashlib.md5("".join(lines).encode(), usedforsecurity=False).hexdigest()
        if name == "train":
            classes = folder.classes
        elif folder.classes != classes:
            raise InputError(
                "classes differ from the training folder's", file=path / name, value=folder.classes
            )
    return RawData(*parts, list(classes), sources)


def _function(reference: str, arguments: dict) -> RawData:
    """What the user's function returns: a mapping of arrays as in an .npz file, or two torch data sets."""
    function = load_function(reference, key="dataset.name")
    file = Path(reference.rpartition(":")[0])
    try:
        result = function(**arguments)
    except Exception as error:
        raise InputError(
            f"{type(error).__name__}: {error}", file=file, key="dataset.name", value=reference
        ) from error
    sources = {file.name: file_digest(file, "md5")}
    if isinstance(result, Mapping):
        return _from_arrays(result, file, sources)
    if isinstance(result, tuple | list) and len(result) == 4:
        return _from_arrays(dict(zip(_NPZ_NAMES[0], result, strict=True)), file, sources)
    if isinstance(result, tuple | list) and len(result) == 2:
        train, test = (_materialise(part, file) for part in result)
        return RawData(*train, *test, [str(name) for name in getattr(result[0], "classes", [])], sources)
    raise InputError(
        "returns something that is no data set",
        file=file,
        key="dataset.name",
        value=type(result).__name__,
        allowed="(x_train, y_train, x_test, y_test), a mapping of these, or (training, test) torch data sets",
    )


def _materialise(dataset: object, file: Path) -> tuple[np.ndarray, np.ndarray]:
    """All samples of a torch data set (image, label), images as PIL, uint8 tensor or ToTensor's float."""
    images, labels = [], []
    try:
        for position in range(len(dataset)):
            image, label = dataset[position]
            if hasattr(image, "getbands"):  # a PIL image
                array = np.asarray(image)
                array = array[None] if array.ndim == 2 else array.transpose(2, 0, 1)
            else:
                array = np.asarray(image)
            images.append(array)
            labels.append(int(label))
        stacked = np.stack(images)
    except (TypeError, ValueError) as error:
        raise InputError(f"samples are not (image, label) of one shape ({error})", file=file) from error
    return _images(stacked, file), np.asarray(labels, dtype=np.int64)
