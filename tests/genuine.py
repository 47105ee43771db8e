"""Where the genuine MNIST and CIFAR-10 files are, for the tests that read them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

_REPOSITORY = Path(__file__).resolve().parents[1]
FOLDER = Path(os.environ.get("RANGEFINDER_DATA_DIR") or _REPOSITORY.parent / "shared" / "data")

needs_mnist = pytest.mark.skipif(
    not (FOLDER / "MNIST" / "raw" / "train-images-idx3-ubyte.gz").is_file(),
    reason=f"no MNIST in {FOLDER}; set RANGEFINDER_DATA_DIR to a torchvision data root",
)
needs_cifar10 = pytest.mark.skipif(
    not (FOLDER / "cifar-10-batches-py" / "data_batch_1").is_file(),
    reason=f"no CIFAR-10 in {FOLDER}; set RANGEFINDER_DATA_DIR to a torchvision data root",
)
