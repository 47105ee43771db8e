"""Any other data set class of torchvision by its name: samples read one by one, resized if asked, kept as uint8."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from ..names import TORCHVISION_CLASSES

Part = tuple[list, np.ndarray]


def read_class(
    name: str, arguments: Mapping[str, Any], *, data_dir: Path | None, download: bool, cache: Path
) -> tuple[Part, Part, list[str]]:
    """The training and the test part of ``torchvision.datasets.<name>``.

    torchvision checks the files it knows sums of. A mirror is not used: only the classes of
    `rangefinder.data.torchvision_files` can be pointed at one.

    Args:
        name: of `rangefinder.names.TORCHVISION_CLASSES`.
        arguments: further keyword arguments of the class, such as ``{split: letters}`` of EMNIST.
        data_dir: its root, read only; None for ``cache``.
        download: whether files that are missing may be downloaded into ``cache``.

    Returns:
        (training images as RGB or grey PIL images, labels int64 [N]), the same of the test, class names.

    Raises:
        InputError: files are missing, an argument is wrong, or the labels are no classes.
    """
    import torchvision.datasets

    base, word = getattr(torchvision.datasets, name), TORCHVISION_CLASSES[name]
    root = data_dir or cache
    allowed = (
        "data_dir is only read: put the files there, or set it to null"
        if data_dir
        else "downloads are off: set data_dir to where the data are, or download to true"
        if not download
        else "try again, or set data_dir"
    )
    parts = []
    for test in (False, True):
        which = {"train": not test} if word is None else {"split": "test" if test else word}
        try:
            cache.mkdir(parents=True, exist_ok=True)
            made = base(root=str(root), download=download and data_dir is None, **which, **arguments)
            samples = [made[position] for position in range(len(made))]
        except TypeError as error:
            raise InputError(
                f"{name} refuses its arguments ({error})", key="dataset.arguments", value=dict(arguments)
            ) from error
        except (RuntimeError, OSError, ValueError, EOFError) as error:
            raise InputError(
                f"{name} cannot be read from {root} ({error})",
                key="dataset.name",
                value=name,
                allowed=allowed,
            ) from error
        images = [image if image.mode in ("L", "RGB") else image.convert("RGB") for image, _ in samples]
        parts.append((images, np.array([label for _, label in samples])))
        if parts[-1][1].dtype.kind not in "iu":
            raise InputError("labels are no classes", key="dataset.name", value=name, allowed="integers")
    return parts[0], parts[1], [str(label) for label in getattr(made, "classes", [])]
