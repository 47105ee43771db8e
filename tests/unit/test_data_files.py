"""Offline folders, caches and mirrors: missing, damaged and half-downloaded files."""

import functools
import gzip
import hashlib
import http.server
import os
import pickle
import shutil
import tarfile
import threading

import numpy as np
import pytest
import torchvision.datasets
from genuine import FOLDER, needs_cifar10, needs_mnist
from rangefinder import data
from rangefinder.errors import InputError


def md5(path):
    return hashlib.md5(path.read_bytes()).hexdigest()


def idx(array):
    """The IDX format of the MNIST files (http://yann.lecun.com/exdb/mnist)."""
    return (
        bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape) + array.tobytes()
    )


@pytest.fixture
def tiny_mnist(tmp_path, monkeypatch):
    """A data root in MNIST's format with 12 + 6 images, which torchvision's class is told to expect."""
    raw = tmp_path / "root" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for part, count in (("train", 12), ("t10k", 6)):
        images = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        (raw / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(images)))
        (raw / f"{part}-labels-idx1-ubyte.gz").write_bytes(
            gzip.compress(idx(np.arange(count, dtype=np.uint8) % 3))
        )
    names = [name for name, _ in torchvision.datasets.MNIST.resources]
    monkeypatch.setattr(torchvision.datasets.MNIST, "resources", [(name, md5(raw / name)) for name in names])
    return tmp_path / "root"


@pytest.fixture
def tiny_cifar10(tmp_path, monkeypatch):
    """The same for CIFAR-10: a root with the unpacked folder, and the archive beside it."""
    root = tmp_path / "cifar"
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    base = torchvision.datasets.CIFAR10
    for name, _ in base.train_list + base.test_list:
        batch = {"data": rng.integers(0, 256, (4, 3072), dtype=np.uint8), "labels": [0, 1, 2, 3]}
        (folder / name).write_bytes(pickle.dumps(batch))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": ["a", "b", "c", "d"]}))
    for attribute in ("train_list", "test_list"):
        listed = [[name, md5(folder / name)] for name, _ in getattr(base, attribute)]
        monkeypatch.setattr(base, attribute, listed)
    monkeypatch.setattr(base, "meta", {**base.meta, "md5": md5(folder / "batches.meta")})
    with tarfile.open(tmp_path / "cifar-10-python.tar.gz", "w:gz") as archive:
        archive.add(folder, arcname=folder.name)
    monkeypatch.setattr(base, "tgz_md5", md5(tmp_path / "cifar-10-python.tar.gz"))
    return root


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*_args, **_kwargs):
        raise AssertionError("opened an address")

    monkeypatch.setattr("urllib.request.urlopen", refuse)


@pytest.fixture
def serve():
    """Serves a folder over HTTP; ``cut`` halves every file, whose full size is announced all the same."""
    servers = []

    def start(folder, cut=False):
        class Handler(http.server.SimpleHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def copyfile(self, source, target):
                content = source.read()
                target.write(content[: len(content) // 2] if cut else content)

        server = http.server.ThreadingHTTPServer(
            ("127.0.0.1", 0), functools.partial(Handler, directory=folder)
        )
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def files_below(root):
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def test_an_offline_folder_is_only_read(tiny_mnist, tmp_path, no_network):
    before = files_below(tiny_mnist)
    data.prepare({"name": "mnist"}, tmp_path / "data" / "mnist", data_dir=tiny_mnist, download=True)
    assert files_below(tiny_mnist) == before and os.listdir(tmp_path / "data") == ["mnist"]
    arrays = data.load(tmp_path / "data" / "mnist")
    assert arrays.train_images.shape == (12, 1, 28, 28) and len(arrays.classes) == 10
    with gzip.open(tiny_mnist / "MNIST/raw/t10k-images-idx3-ubyte.gz") as file:
        np.testing.assert_array_equal(
            arrays.test_images.ravel(), np.frombuffer(file.read()[16:], dtype=np.uint8)
        )


def test_unpacked_files_beside_the_archives_are_not_trusted(tiny_mnist, tmp_path):
    data.prepare({"name": "mnist"}, tmp_path / "a", data_dir=tiny_mnist)
    (tiny_mnist / "MNIST/raw/train-images-idx3-ubyte").write_bytes(
        idx(np.zeros((12, 28, 28), dtype=np.uint8))
    )
    data.prepare({"name": "mnist"}, tmp_path / "b", data_dir=tiny_mnist)
    assert data.load(tmp_path / "a").digest == data.load(tmp_path / "b").digest


DAMAGE = {
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-10]),
    "empty": lambda path: path.write_bytes(b""),
    "one bit": lambda path: path.write_bytes(path.read_bytes()[:-1] + bytes([path.read_bytes()[-1] ^ 1])),
    "missing": lambda path: path.unlink(),
}


def refuse_damaged(spec, root, relative, damage, folder):
    path = root / relative
    DAMAGE[damage](path)
    with pytest.raises(InputError) as caught:
        data.prepare(spec, folder, data_dir=root, download=True)
    message = str(caught.value)
    assert str(path) in message and "MD5" in message and "\n" not in message
    assert ("put it there" if damage == "missing" else "damaged or truncated") in message
    assert not folder.exists()


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_files_of_an_offline_folder(tiny_mnist, tiny_cifar10, tmp_path, no_network, damage):
    refuse_damaged(
        {"name": "mnist"}, tiny_mnist, "MNIST/raw/t10k-labels-idx1-ubyte.gz", damage, tmp_path / "x"
    )
    refuse_damaged(
        {"name": "cifar10"}, tiny_cifar10, "cifar-10-batches-py/batches.meta", damage, tmp_path / "x"
    )


@needs_mnist
@pytest.mark.parametrize("damage", ["truncated", "missing"])
def test_damaged_copies_of_the_genuine_mnist(tmp_path, no_network, damage):
    shutil.copytree(FOLDER / "MNIST", tmp_path / "MNIST")
    refuse_damaged(
        {"name": "mnist"}, tmp_path, "MNIST/raw/train-images-idx3-ubyte.gz", damage, tmp_path / "x"
    )


@needs_cifar10
@pytest.mark.parametrize("damage", ["truncated", "missing"])
def test_damaged_copies_of_the_genuine_cifar10(tmp_path, no_network, damage):
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for file in (FOLDER / "cifar-10-batches-py").iterdir():
        if file.name == "data_batch_2":
            shutil.copy(file, folder)
        else:
            (folder / file.name).symlink_to(file)
    refuse_damaged({"name": "cifar10"}, tmp_path, "cifar-10-batches-py/data_batch_2", damage, tmp_path / "x")


def test_missing_folder_and_forbidden_download(tmp_path, no_network):
    with pytest.raises(InputError, match=r"data_dir: no such folder \(got .*nowhere"):
        data.prepare({"name": "cifar10"}, tmp_path / "x", data_dir=tmp_path / "nowhere", download=True)
    with pytest.raises(InputError, match="data_batch_1: cifar10 is not here and downloads are off"):
        data.prepare({"name": "cifar10"}, tmp_path / "x", download=False)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("layout", ["flat", "data root"])
def test_mnist_from_a_mirror(tiny_mnist, tmp_path, serve, monkeypatch, layout):
    monkeypatch.delenv("RANGEFINDER_CACHE", raising=False)
    folder = tiny_mnist if layout == "data root" else tiny_mnist / "MNIST" / "raw"
    data.prepare({"name": "mnist"}, tmp_path / "data" / "mnist", data_mirror=serve(folder), download=True)
    data.prepare({"name": "mnist"}, tmp_path / "offline", data_dir=tiny_mnist)
    assert data.load(tmp_path / "data" / "mnist").digest == data.load(tmp_path / "offline").digest
    assert files_below(tmp_path / "data" / "raw") == files_below(tiny_mnist)


def test_the_cache_is_used_again_and_can_be_moved(tiny_cifar10, tmp_path, serve, monkeypatch):
    monkeypatch.setenv("RANGEFINDER_CACHE", str(tmp_path / "cache"))
    data.prepare({"name": "cifar10"}, tmp_path / "a", data_mirror=serve(tmp_path), download=True)
    assert files_below(tmp_path / "cache") == files_below(tiny_cifar10)
    monkeypatch.setattr("urllib.request.urlopen", None)
    data.prepare({"name": "cifar10"}, tmp_path / "b", download=False)
    arrays = data.load(tmp_path / "b")
    assert arrays.digest == data.load(tmp_path / "a").digest and arrays.classes == ("a", "b", "c", "d")
    assert arrays.train_images.shape == (20, 3, 32, 32)


def test_an_interrupted_download_leaves_nothing_behind(tiny_mnist, tmp_path, serve):
    with pytest.raises(InputError, match=r"downloading MNIST failed.*try again") as caught:
        data.prepare(
            {"name": "mnist"}, tmp_path / "d" / "m", data_mirror=serve(tiny_mnist, cut=True), download=True
        )
    assert "\n" not in str(caught.value)
    assert files_below(tmp_path / "d") == [] and not (tmp_path / "d" / "m").exists()
    data.prepare({"name": "mnist"}, tmp_path / "d" / "m", data_mirror=serve(tiny_mnist), download=True)


@pytest.mark.parametrize("name", ["mnist", "cifar10"])
def test_a_mirror_without_the_files(tmp_path, serve, name):
    empty = tmp_path / "empty"
    empty.mkdir()
    for mirror in (serve(empty), "http://127.0.0.1:9"):
        with pytest.raises(InputError, match=r"data_mirror: downloading .* failed"):
            data.prepare({"name": name}, tmp_path / "d" / "m", data_mirror=mirror, download=True)
    assert files_below(tmp_path / "d") == []


def test_a_mirror_that_is_none(tmp_path):
    for mirror in (tmp_path.as_uri(), "data.example.org"):
        with pytest.raises(InputError, match=r"data_mirror: not a mirror .*data_dir"):
            data.prepare({"name": "mnist"}, tmp_path / "d", data_mirror=mirror, download=True)
    assert os.listdir(tmp_path) == []


def test_a_damaged_cache_is_never_silently_downloaded_again(tiny_mnist, tmp_path, serve, monkeypatch):
    monkeypatch.setenv("RANGEFINDER_CACHE", str(tmp_path / "cache"))
    mirror = serve(tiny_mnist)
    data.prepare({"name": "mnist"}, tmp_path / "a", data_mirror=mirror, download=True)
    damaged = tmp_path / "cache/MNIST/raw/train-labels-idx1-ubyte.gz"
    DAMAGE["truncated"](damaged)
    with pytest.raises(InputError, match="delete it to download it again"):
        data.prepare({"name": "mnist"}, tmp_path / "b", data_mirror=mirror, download=True)
    damaged.unlink()
    data.prepare({"name": "mnist"}, tmp_path / "b", data_mirror=mirror, download=True)
    assert data.load(tmp_path / "a").digest == data.load(tmp_path / "b").digest
