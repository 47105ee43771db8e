"""Data set classes of torchvision by name, against the classes themselves."""

import inspect
import struct

import numpy as np
import pytest
import torchvision.datasets
from rangefinder import data
from rangefinder.errors import InputError
from rangefinder.names import TORCHVISION_CLASSES


def write_idx(path, array):
    header = struct.pack(f">BBBB{array.ndim}i", 0, 0, 8, array.ndim, *array.shape)
    path.write_bytes(header + array.tobytes())


@pytest.fixture
def kmnist(tmp_path):
    raw = tmp_path / "root/KMNIST/raw"
    raw.mkdir(parents=True)
    generator = np.random.default_rng(0)
    made = {}
    for part, count in (("train", 30), ("t10k", 20)):
        images = generator.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = np.arange(count, dtype=np.uint8) % 10
        write_idx(raw / f"{part}-images-idx3-ubyte", images)
        write_idx(raw / f"{part}-labels-idx1-ubyte", labels)
        made[part] = (images, labels)
    return tmp_path / "root", made


def test_a_class_gives_its_own_samples(kmnist, tmp_path):
    root, made = kmnist
    data.prepare({"name": "KMNIST"}, tmp_path / "out", data_dir=root)
    arrays = data.load(tmp_path / "out", verify="full")
    assert arrays.classes[:2] == ("o", "ki") and arrays.shape == (1, 28, 28)
    np.testing.assert_array_equal(arrays.train_images[:, 0], made["train"][0])
    np.testing.assert_array_equal(arrays.test_labels, made["t10k"][1])
    data.prepare({"name": "KMNIST", "resize": 14}, tmp_path / "small", data_dir=root)
    resized = torchvision.transforms.Resize(14)(torchvision.datasets.KMNIST(root)[3][0])
    np.testing.assert_array_equal(data.load(tmp_path / "small").train_images[3, 0], np.asarray(resized))


def test_missing_files_and_wrong_arguments_are_named(kmnist, tmp_path):
    with pytest.raises(InputError, match=r"USPS cannot be read from .*root .*data_dir is only read"):
        data.prepare({"name": "USPS"}, tmp_path / "out", data_dir=kmnist[0])
    with pytest.raises(InputError, match=r"SVHN cannot be read .*downloads are off"):
        data.prepare({"name": "SVHN"}, tmp_path / "out")
    with pytest.raises(InputError, match=r"dataset.arguments: KMNIST refuses .*splt"):
        data.prepare({"name": "KMNIST", "arguments": {"splt": 1}}, tmp_path / "out", data_dir=kmnist[0])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", TORCHVISION_CLASSES)
def test_the_table_agrees_with_torchvision(name):
    base, word = getattr(torchvision.datasets, name), TORCHVISION_CLASSES[name]
    parameters = {}
    for kind in reversed(base.__mro__):
        if kind is not object:
            parameters |= inspect.signature(kind.__init__).parameters
    if word is None:
        assert "train" in parameters
    else:
        assert parameters["split"].default == word and word + '"' in inspect.getsource(base)
    assert "download" in parameters
