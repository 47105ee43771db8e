"""torchvision's data sets: files found or downloaded, checked by MD5, read by torchvision's classes."""

from __future__ import annotations

import http.client
import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..prepared import file_digest

# Name in a study → class in torchvision.datasets. All have a training and a test part and published MD5 sums.
TORCHVISION = {
    "mnist": "MNIST",
    "fashion-mnist": "FashionMNIST",
    "cifar10": "CIFAR10",
    "cifar100": "CIFAR100",
}
_NETWORK_TIMEOUT_S = 60

Part = tuple[np.ndarray, np.ndarray]


def read_torchvision(
    name: str, *, data_dir: Path | None, data_mirror: str | None, download: bool, cache: Path
) -> tuple[Part, Part, list[str], dict[str, str]]:
    """Read a data set through torchvision's own loader, after every file's MD5 has been checked.

    Args: as of :func:`rangefinder.data.sources.read_source`.

    Returns:
        (training images uint8 [N, C, H, W], labels int64 [N]), the same of the test, class names, MD5 sums.

    Raises:
        InputError: a file is missing or damaged and may not, or could not, be downloaded.
    """
    import torchvision.datasets

    base = getattr(torchvision.datasets, TORCHVISION[name])
    wanted = _wanted_files(base)
    if data_dir is not None:
        root = Path(data_dir)
        if not root.is_dir():
            raise InputError(
                "no such folder", key="data_dir", value=str(root), allowed="a torchvision data root"
            )
        missing = _missing(root, wanted)
        if missing:
            raise InputError(
                f"{name} needs this file and data_dir is only read, never downloaded to: put it there",
                file=root / missing[0],
                allowed=f"a file with MD5 {wanted[missing[0]]}",
            )
    else:
        root = cache
        missing = _missing(root, wanted)
        if missing and not download:
            raise InputError(
                f"{name} is not here and downloads are off: set data_dir to where it is, or allow downloads",
                file=root / missing[0],
                allowed=f"a file with MD5 {wanted[missing[0]]}",
            )
        if missing:
            _download(base, missing, wanted, root, data_mirror)
    for file, md5 in wanted.items():
        _check(root / file, md5, cached=data_dir is None)
    with _readable_root(base, root, wanted) as place:
        parts = [base(root=str(place), train=train, download=False) for train in (True, False)]
    train, test = ((_images(part.data), np.asarray(part.targets, dtype=np.int64)) for part in parts)
    return train, test, list(parts[0].classes), {Path(file).name: md5 for file, md5 in wanted.items()}


def _wanted_files(base: type) -> dict[str, str]:
    """Path below the root → MD5, as torchvision's class states them."""
    if hasattr(base, "resources"):
        return {f"{base.__name__}/raw/{file}": md5 for file, md5 in base.resources}
    listed = [*base.train_list, *base.test_list, (base.meta["filename"], base.meta["md5"])]
    return {f"{base.base_folder}/{file}": md5 for file, md5 in listed}


def _missing(root: Path, wanted: dict[str, str]) -> list[str]:
    return [file for file in wanted if not (root / file).is_file()]


def _check(path: Path, md5: str, *, cached: bool) -> None:
    try:
        found = file_digest(path, "md5")
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror})", file=path) from error
    if found != md5:
        remedy = "delete it to download it again" if cached else "replace it by a good copy"
        raise InputError(
            f"damaged or truncated ({path.stat().st_size} bytes, MD5 {found}); {remedy}",
            file=path,
            allowed=f"MD5 {md5}",
        )


def _images(data: object) -> np.ndarray:
    """torchvision's ``data`` ([N, H, W] tensor or [N, H, W, C] array) as uint8 [N, C, H, W]."""
    array = np.asarray(data)
    array = array[:, None] if array.ndim == 3 else array.transpose(0, 3, 1, 2)
    return np.ascontiguousarray(array)


@contextmanager
def _readable_root(base: type, root: Path, wanted: dict[str, str]) -> Iterator[Path]:
    """A root that torchvision's class can read: the given one, or a private one with archives unpacked.

    The MNIST family is published compressed and read uncompressed; the uncompressed files have no published
    sums, so they are made anew from the checked archives instead of trusting what lies beside them.
    """
    if not hasattr(base, "resources"):
        yield root
        return
    from torchvision.datasets.utils import extract_archive

    with tempfile.TemporaryDirectory(prefix="rangefinder-data-") as temporary:
        raw = Path(temporary) / base.__name__ / "raw"
        raw.mkdir(parents=True)
        for file in wanted:
            extract_archive(str(root / file), str(raw))
        yield Path(temporary)


def _download(base: type, missing: list[str], wanted: dict[str, str], root: Path, mirror: str | None) -> None:
    """Download with torchvision's class into a private folder; only whole, checked files reach the cache."""
    if mirror is not None and not mirror.startswith(("http://", "https://")):
        allowed = "an http:// or https:// address (a folder is given as data_dir)"
        raise InputError("not a mirror", key="data_mirror", value=mirror, allowed=allowed)
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".download-", dir=root) as temporary:
        place = Path(temporary)
        before = socket.getdefaulttimeout()
        socket.setdefaulttimeout(_NETWORK_TIMEOUT_S)
        try:
            _at_mirror(base, mirror)(root=str(place), train=True, download=True)
        except (OSError, RuntimeError, EOFError, http.client.HTTPException) as error:
            raise InputError(
                f"downloading {base.__name__} failed ({error}); try again, or set data_mirror or data_dir",
                key="data_mirror" if mirror else "dataset.name",
                value=mirror,
            ) from error
        finally:
            socket.setdefaulttimeout(before)
        for file in missing:
            _check(place / file, wanted[file], cached=True)
            (root / file).parent.mkdir(parents=True, exist_ok=True)
            os.replace(place / file, root / file)


def _at_mirror(base: type, mirror: str | None) -> type:
    """The class with other addresses: a mirror holds the files at its top or laid out as a data root."""
    if mirror is None:
        return base
    top = mirror.rstrip("/")
    if hasattr(base, "resources"):
        replaced = {"mirrors": [f"{top}/{base.__name__}/raw/", f"{top}/"]}
    else:
        replaced = {"url": f"{top}/{base.filename}"}
    # Of the same name, since torchvision names the folder after the class.
    return type(base.__name__, (base,), replaced)
