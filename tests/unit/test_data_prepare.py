"""Prepared data against scikit-learn's and torchvision's own loaders; user data; loading."""

import json
import os
import pickle

import numpy as np
import pytest
import torch
import torchvision
from genuine import FOLDER, needs_cifar10, needs_mnist
from PIL import Image
from rangefinder import data, names
from rangefinder.data.prepare import pixel_statistics, resize
from rangefinder.errors import InputError
from rangefinder.prepared import FILES
from sklearn.datasets import load_digits


@pytest.fixture(scope="module")
def digits_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "digits"
    data.prepare({"name": "digits"}, folder)
    return folder


@pytest.fixture
def digits_copy(digits_folder, tmp_path):
    folder = tmp_path / "digits"
    folder.mkdir()
    for file in digits_folder.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    return folder


def facts(arrays):
    """What a study's checks know of a data set before it is read."""
    count = len(arrays.train_labels), len(arrays.test_labels)
    return names.Facts(*count, arrays.shape, len(arrays.classes))


def test_digits_are_scikit_learns(digits_folder):
    arrays = data.load(digits_folder, verify="full")
    assert facts(arrays) == names.DATASETS["digits"]
    assert (arrays.shape, arrays.classes) == ((1, 8, 8), tuple("0123456789"))
    assert (arrays.train_images.dtype, arrays.train_labels.dtype) == (np.uint8, np.int64)
    bunch = load_digits()
    ours = [
        (tuple(np.rint(image.ravel() * 16.0 / 255).astype(int)), int(label))
        for images, labels in [
            (arrays.train_images, arrays.train_labels),
            (arrays.test_images, arrays.test_labels),
        ]
        for image, label in zip(images, labels, strict=True)
    ]
    theirs = [
        (tuple(image.astype(int)), int(label)) for image, label in zip(bunch.data, bunch.target, strict=True)
    ]
    assert len(ours) == 1797 and sorted(ours) == sorted(theirs)


def test_digits_test_set_has_every_class_in_its_share(digits_folder):
    arrays = data.load(digits_folder)
    assert (len(arrays.train_labels), len(arrays.test_labels)) == (1437, 360)
    exact = np.bincount(load_digits().target) * 360 / 1797
    assert np.abs(np.bincount(arrays.test_labels) - exact).max() < 1


def test_mean_and_deviation_are_of_the_training_pixels(digits_folder):
    arrays = data.load(digits_folder)
    pixels = arrays.train_images.astype(np.float64) / 255
    assert arrays.mean == pytest.approx([pixels.mean()], rel=1e-12)
    assert arrays.std == pytest.approx([pixels.std()], rel=1e-12)
    images = np.random.default_rng(0).integers(0, 256, (7, 3, 5, 4), dtype=np.uint8)
    mean, std = pixel_statistics(images)
    assert mean == pytest.approx((images / 255).mean(axis=(0, 2, 3)), rel=1e-12)
    assert std == pytest.approx((images / 255).std(axis=(0, 2, 3)), rel=1e-12)


def test_preparing_twice_gives_the_same_bytes_and_leaves_nothing_else(digits_folder, tmp_path):
    folder = tmp_path / "there"
    folder.mkdir()  # as Snakemake does before a job
    data.prepare({"name": "digits", "validation": 360, "normalise": "dataset"}, folder)
    assert sorted(os.listdir(folder)) == sorted([*FILES, "dataset.json"])
    assert os.listdir(tmp_path) == ["there"]
    for file in folder.iterdir():
        assert file.read_bytes() == (digits_folder / file.name).read_bytes()


def test_digest_sees_pixels_labels_and_classes_only(tmp_path):
    rng = np.random.default_rng(0)
    parts = {
        "x_train": rng.integers(0, 256, (20, 6, 6), dtype=np.uint8),
        "y_train": np.arange(20) % 2,
        "x_test": rng.integers(0, 256, (8, 6, 6), dtype=np.uint8),
        "y_test": np.arange(8) % 2,
    }

    def digest(name, **changes):
        np.savez(tmp_path / f"{name}.npz", **{**parts, **changes})
        data.prepare({"name": "npz", "path": str(tmp_path / f"{name}.npz")}, tmp_path / name)
        return data.load(tmp_path / name).digest

    same = digest("a")
    assert digest("b") == same
    assert digest("c", classes=np.array(["cat", "dog"])) != same
    assert digest("d", y_test=1 - parts["y_test"]) != same
    assert digest("e", x_test=parts["x_test"] ^ 1) != same


@pytest.mark.parametrize("size", [32, 28, 17, 64])
@pytest.mark.parametrize("channels", [1, 3])
def test_resize_is_torchvisions(size, channels):
    images = np.random.default_rng(size).integers(0, 256, (1003, channels, 28, 28), dtype=np.uint8)[::59]
    ours = resize(images, size)
    transform = torchvision.transforms.Resize((size, size))
    for image, result in zip(images, ours, strict=True):
        picture = Image.fromarray(
            image[0] if channels == 1 else np.ascontiguousarray(image.transpose(1, 2, 0))
        )
        expected = np.asarray(transform(picture))
        np.testing.assert_array_equal(
            result, expected[None] if channels == 1 else expected.transpose(2, 0, 1)
        )


def listing(root):
    return {str(path): path.stat().st_mtime_ns for path in root.rglob("*")}


@needs_mnist
def test_mnist_resized_is_torchvisions(tmp_path):
    before = listing(FOLDER)
    data.prepare({"name": "mnist", "resize": 32}, tmp_path / "mnist", data_dir=FOLDER)
    assert listing(FOLDER) == before
    arrays = data.load(tmp_path / "mnist", verify="full")
    assert (arrays.train_images.shape, arrays.test_images.shape) == ((60000, 1, 32, 32), (10000, 1, 32, 32))

    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for file in (FOLDER / "MNIST" / "raw").glob("*.gz"):
        torchvision.datasets.utils.extract_archive(str(file), str(raw))
    for train, images, labels in [
        (True, arrays.train_images, arrays.train_labels),
        (False, arrays.test_images, arrays.test_labels),
    ]:
        theirs = torchvision.datasets.MNIST(
            tmp_path, train=train, transform=torchvision.transforms.Resize(32)
        )
        np.testing.assert_array_equal(labels, theirs.targets.numpy())
        for index in range(0, len(theirs), 97):
            np.testing.assert_array_equal(images[index, 0], np.asarray(theirs[index][0]))
    # The well-known values for 28×28 do not hold at 32×32, but the digests of the sources do.
    sources = json.loads((tmp_path / "mnist" / "dataset.json").read_text())["sources"]
    assert sources["train-images-idx3-ubyte.gz"] == "f68b3c2dcbeaaa9fbdd348bbdeb94873" and len(sources) == 4


@needs_mnist
def test_mnist_mean_and_deviation_are_the_published_ones(tmp_path):
    data.prepare({"name": "mnist"}, tmp_path / "mnist", data_dir=FOLDER)
    arrays = data.load(tmp_path / "mnist")
    assert facts(arrays) == names.DATASETS["mnist"] == names.DATASETS["fashion-mnist"]
    assert (round(arrays.mean[0], 4), round(arrays.std[0], 4)) == (0.1307, 0.3081)


@needs_cifar10
def test_cifar10_is_what_its_files_hold(tmp_path):
    before = listing(FOLDER)
    data.prepare({"name": "cifar10"}, tmp_path / "cifar10", data_dir=FOLDER)
    assert listing(FOLDER) == before
    arrays = data.load(tmp_path / "cifar10")
    assert facts(arrays) == names.DATASETS["cifar10"] == names.DATASETS["cifar100"]._replace(classes=10)
    assert arrays.classes[:2] == ("airplane", "automobile")
    for name, images, labels in [
        ("data_batch_2", arrays.train_images[10000:20000], arrays.train_labels[10000:20000]),
        ("test_batch", arrays.test_images, arrays.test_labels),
    ]:
        batch = pickle.loads((FOLDER / "cifar-10-batches-py" / name).read_bytes(), encoding="bytes")
        np.testing.assert_array_equal(images.reshape(10000, 3072), batch[b"data"])
        np.testing.assert_array_equal(labels, batch[b"labels"])
    assert [round(value, 4) for value in arrays.mean] == [0.4914, 0.4822, 0.4465]
    assert [round(value, 4) for value in arrays.std] == [0.2470, 0.2435, 0.2616]


# --- the user's own data ---------------------------------------------------------------------------


def images_and_labels(count=60, shape=(6, 5), classes=3, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, *shape), dtype=np.uint8), np.arange(count) % classes


@pytest.mark.parametrize("layout", ["N H W", "N C H W", "N H W C"])
def test_npz_layouts(tmp_path, layout):
    x, y = images_and_labels(shape={"N H W": (6, 5), "N C H W": (3, 6, 5), "N H W C": (6, 5, 3)}[layout])
    np.savez(tmp_path / "d.npz", x_train=x[:40], y_train=y[:40, None], x_test=x[40:], y_test=y[40:])
    data.prepare({"name": "npz", "path": str(tmp_path / "d.npz")}, tmp_path / "out")
    arrays = data.load(tmp_path / "out")
    expected = x[:, None] if layout == "N H W" else x if layout == "N C H W" else np.moveaxis(x, 3, 1)
    np.testing.assert_array_equal(np.concatenate([arrays.train_images, arrays.test_images]), expected)
    np.testing.assert_array_equal(arrays.train_labels, y[:40])


def test_npz_without_a_test_set_holds_out_a_fifth(tmp_path):
    x, y = images_and_labels(count=61)
    np.savez(tmp_path / "d.npz", images=x, labels=y)
    data.prepare({"name": "npz", "path": str(tmp_path / "d.npz")}, tmp_path / "out")
    arrays = data.load(tmp_path / "out")
    assert (len(arrays.train_images), len(arrays.test_images)) == (48, 13)
    together = np.concatenate([arrays.train_images, arrays.test_images])[:, 0]
    assert sorted(map(bytes, together)) == sorted(map(bytes, x))


def test_floats_are_kept_if_they_were_8_bits(tmp_path):
    x, y = images_and_labels()
    floats = (torch.from_numpy(x).float() / 255).numpy()
    np.savez(tmp_path / "d.npz", images=floats, labels=y)
    data.prepare({"name": "npz", "path": str(tmp_path / "d.npz")}, tmp_path / "out")
    arrays = data.load(tmp_path / "out")
    assert sorted(map(bytes, np.concatenate([arrays.train_images, arrays.test_images])[:, 0])) == sorted(
        map(bytes, x)
    )


X, Y = images_and_labels()


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": (X / 255 - 0.5) / 0.3, "labels": Y}, "would be changed"),
        ({"images": X.astype(np.int64) + 1, "labels": Y}, "would be changed"),
        ({"images": X.astype(np.int64) - 1, "labels": Y}, "would be changed"),
        ({"images": np.where(X > 200, np.nan, X / 255), "labels": Y}, "would be changed"),
        ({"images": X[:, :, 0], "labels": Y}, "shape"),
        ({"images": X, "labels": Y - 1}, "labels out of range"),
        ({"images": X, "labels": Y.astype(float)}, "labels of this kind"),
        ({"pictures": X, "labels": Y}, "arrays are missing"),
        ({"x_train": X, "y_train": Y[:-1], "x_test": X, "y_test": Y}, "60 train images but 59 labels"),
        ({"x_train": X, "y_train": Y, "x_test": X[:, :5], "y_test": Y}, "differ in shape"),
        ({"x_train": X, "y_train": Y, "x_test": X, "y_test": Y + 1}, "test labels out of range"),
        ({"x_train": X, "y_train": Y, "x_test": X[:0], "y_test": Y[:0]}, "0 test images"),
    ],
)
def test_unusable_arrays_are_refused_and_nothing_is_written(tmp_path, arrays, message):
    np.savez(tmp_path / "d.npz", **arrays)
    with pytest.raises(InputError, match=message) as caught:
        data.prepare({"name": "npz", "path": str(tmp_path / "d.npz")}, tmp_path / "out")
    assert "d.npz" in str(caught.value) and "\n" not in str(caught.value)
    assert os.listdir(tmp_path) == ["d.npz"]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"name": "mnits"}, "did you mean 'mnist'"),
        ({"name": "npz"}, "needs a path"),
        ({"name": "npz", "path": "missing.npz"}, "does not exist"),
        ({"name": "npz", "path": __file__}, "not a readable .npz"),
        ({"name": "imagefolder", "path": "."}, "no train and test"),
        ({"name": "missing.py:f"}, "no such file"),
        ({"name": "digits", "resize": 0}, "dataset.resize"),
        ({"name": "digits", "resize": "32"}, "dataset.resize"),
    ],
)
def test_bad_specifications(tmp_path, monkeypatch, spec, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=message):
        data.prepare(spec, tmp_path / "out")
    assert os.listdir(tmp_path) == []


def test_imagefolder_is_torchvisions(tmp_path):
    rng = np.random.default_rng(0)
    for part, count in (("train", 4), ("test", 2)):
        for name in ("ant", "bee"):
            (tmp_path / "set" / part / name).mkdir(parents=True)
            for index in range(count):
                pixels = rng.integers(0, 256, (20 + index, 15, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / "set" / part / name / f"{index}.png")
    spec = {"name": "imagefolder", "path": str(tmp_path / "set")}
    with pytest.raises(InputError, match="differ in size"):
        data.prepare(spec, tmp_path / "out")
    data.prepare({**spec, "resize": 8}, tmp_path / "out")
    arrays = data.load(tmp_path / "out")
    theirs = torchvision.datasets.ImageFolder(
        tmp_path / "set" / "train", transform=torchvision.transforms.Resize((8, 8))
    )
    assert arrays.classes == ("ant", "bee") and len(theirs) == 8
    for index, (picture, label) in enumerate(theirs):
        np.testing.assert_array_equal(arrays.train_images[index].transpose(1, 2, 0), np.asarray(picture))
        assert arrays.train_labels[index] == label
    (tmp_path / "set" / "test" / "ant" / "0.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match="unreadable"):
        data.prepare({**spec, "resize": 8}, tmp_path / "other")


USER_CODE = """
import numpy as np
import torch

def arrays(count):
    x = np.arange(count * 16, dtype=np.uint8).reshape(count, 4, 4)
    return x, np.arange(count) % 2, x[:4], np.arange(4) % 2

class Images(torch.utils.data.Dataset):
    classes = ["even", "odd"]
    def __len__(self):
        return 6
    def __getitem__(self, index):
        if index >= 6:
            raise IndexError
        return torch.full((1, 4, 4), float(index)) / 255, index % 2

def datasets():
    return Images(), Images()

def nonsense():
    return 7

def broken():
    raise RuntimeError("no such server")

number = 3
"""


def test_functions_of_the_user(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(USER_CODE)
    data.prepare({"name": f"{file}:arrays", "arguments": {"count": 10}}, tmp_path / "a")
    arrays = data.load(tmp_path / "a")
    assert arrays.train_images.shape == (10, 1, 4, 4) and arrays.train_images[1, 0, 0, 0] == 16
    data.prepare({"name": f"{file}:datasets"}, tmp_path / "b")
    arrays = data.load(tmp_path / "b")
    assert arrays.classes == ("even", "odd")
    assert arrays.test_images[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4, 5]
    for function, message in [
        ("nonsense", "no data set"),
        ("broken", "RuntimeError: no such server"),
        ("array", "did you mean 'arrays'"),
        ("number", "no such function"),
    ]:
        with pytest.raises(InputError, match=message):
            data.prepare({"name": f"{file}:{function}"}, tmp_path / "c")
    file.write_text("import no_such_module\n")
    with pytest.raises(InputError, match="no_such_module"):
        data.prepare({"name": f"{file}:arrays"}, tmp_path / "c")
    assert not (tmp_path / "c").exists()


# --- loading ---------------------------------------------------------------------------------------


def test_truncated_missing_and_foreign_files_are_refused(digits_copy):
    path = digits_copy / "train_images.npy"
    good = path.read_bytes()
    for bad, message in [
        (good[:-1], "truncated"),
        (b"", "truncated"),
        (b"x" * len(good), "not a NumPy array"),
        (good.replace(b"(1437, 1, 8, 8)", b"(1437, 8, 1, 8)"), "not uint8"),
    ]:
        path.write_bytes(bad)
        with pytest.raises(InputError, match=message) as caught:
            data.load(digits_copy)
        assert str(path) in str(caught.value)
    path.unlink()
    with pytest.raises(InputError, match="missing"):
        data.load(digits_copy)


def test_changed_contents_are_found_by_the_full_check(digits_copy):
    path = digits_copy / "test_labels.npy"
    changed = bytearray(path.read_bytes())
    changed[-8] ^= 1
    path.write_bytes(changed)
    data.load(digits_copy)
    with pytest.raises(InputError, match="SHA-256"):
        data.load(digits_copy, verify="full")


def test_descriptions_that_cannot_be_used(digits_copy):
    path = digits_copy / "dataset.json"
    whole = path.read_text()
    for text, message in [
        ("{", "truncated or not JSON.*; delete it and run again"),
        ("[]", "not a JSON object"),
        ('{"format": 99}', "another format version"),
        ('{"format": 1}', "not a dataset record: .* is a required property"),
        (whole.replace('"0"', '"O"'), "changed after it was written"),
        (whole.replace('"mean": [\n  0.3', '"mean": [\n  0.4'), "changed after it was written"),
    ]:
        assert text != whole
        path.write_text(text)
        with pytest.raises(InputError, match=rf"dataset\.json: .*{message}"):
            data.load(digits_copy)
    path.unlink()
    with pytest.raises(InputError, match="no prepared data set"):
        data.load(digits_copy)
