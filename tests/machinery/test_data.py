"""Data sets: what is read is what the publisher made, and what is damaged or missing is named and left alone."""

import functools
import gzip
import hashlib
import http.server
import io
import os
import pickle
import re
import socket
import struct
import tarfile
import threading

import numpy as np
import pytest
from torchvision.datasets import CIFAR10, MNIST, FashionMNIST

from utils import data
from utils.cli import ROOT, Options

UNREACHABLE = "http://127.0.0.1:9/"  # the discard port: refused at once, on this machine


def idx(array):
    header = struct.pack(">BBBB", 0, 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    return gzip.compress(header + array.tobytes(), mtime=0)


@pytest.fixture
def tiny_mnist(tmp_path, monkeypatch):
    """Write a data folder with four archives in MNIST's format, and expect just those."""
    rng = np.random.default_rng(0)
    arrays = {}
    for prefix, n in (("train", 60), ("t10k", 20)):
        arrays[f"{prefix}-images-idx3-ubyte.gz"] = rng.integers(0, 256, (n, 28, 28), dtype=np.uint8)
        arrays[f"{prefix}-labels-idx1-ubyte.gz"] = np.repeat(np.arange(10, dtype=np.uint8), n // 10)
    folder = tmp_path / "data" / "MNIST" / "raw"
    folder.mkdir(parents=True)
    sums = {}
    for name, array in arrays.items():
        (folder / name).write_bytes(idx(array))
        sums[name] = hashlib.md5((folder / name).read_bytes()).hexdigest()
    monkeypatch.setitem(data.MD5_SUMS, "mnist", sums)
    monkeypatch.setattr(MNIST, "mirrors", [UNREACHABLE])
    monkeypatch.setenv("DATA_SOURCE", "")
    return tmp_path / "data", arrays


def test_names_and_sums_are_torchvisions():
    for name, dataset in (("mnist", MNIST), ("fashion_mnist", FashionMNIST)):
        assert data.FOLDERS[name] == dataset.__name__ and data.MD5_SUMS[name] == dict(dataset.resources)


def test_mnist_is_read_as_published(tiny_mnist):
    folder, arrays = tiny_mnist
    for train, prefix in ((True, "train"), (False, "t10k")):
        images, labels = data.load("mnist", folder, train)
        np.testing.assert_array_equal(images, arrays[f"{prefix}-images-idx3-ubyte.gz"])
        np.testing.assert_array_equal(labels, arrays[f"{prefix}-labels-idx1-ubyte.gz"])
        assert images.dtype == np.uint8 and labels.dtype == np.int64


def test_what_is_not_in_the_data_folder_is_read_where_data_source_says(tiny_mnist, tmp_path, monkeypatch):
    """From links, too, as git-annex and DVC lay them; the source is left as it is, and what is in data/ goes first."""
    folder, arrays = tiny_mnist
    source = tmp_path / "source"
    (source / "MNIST").mkdir(parents=True)
    (source / "MNIST" / "raw").symlink_to(folder / "MNIST" / "raw")
    before = sorted(folder.rglob("*"))
    with pytest.raises(data.DataUnavailable):
        data.load("mnist", tmp_path / "new", train=True)
    monkeypatch.setenv("DATA_SOURCE", str(source))
    images, _ = data.load("mnist", tmp_path / "new", train=True)
    np.testing.assert_array_equal(images, arrays["train-images-idx3-ubyte.gz"])
    assert sorted(folder.rglob("*")) == before and not (tmp_path / "new").exists()
    path = tmp_path / "ours" / "MNIST" / "raw" / "train-images-idx3-ubyte.gz"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"damaged")
    with pytest.raises(data.UnusableFile, match="ours"):
        data.load("mnist", tmp_path / "ours", train=True)


def test_a_source_of_data_that_is_no_folder_or_hidden_is_named(tiny_mnist, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    for source in (tmp_path / "file", tmp_path / "nowhere"):
        monkeypatch.setenv("DATA_SOURCE", str(source))
        with pytest.raises(data.UnusableFile, match=rf"DATA_SOURCE={source} is not a folder"):
            data.load("mnist", tmp_path / "new", train=True)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("DATA_SOURCE", "~/data")  # tiny_mnist's folder
    assert len(data.load("mnist", tmp_path / "newer", train=True)[1]) == 60


@pytest.mark.parametrize(("name", "pixel_mean"), [("mnist", 33.318), ("fashion_mnist", 72.940)])
def test_the_real_archives(name, pixel_mean):
    try:
        images, _ = data.load(name, ROOT / "data", train=True, download=False)
    except data.DataUnavailable:
        pytest.skip(f"{name} is not on this machine")
    assert images.shape == (60_000, 28, 28) and len(data.load(name, ROOT / "data", train=False)[1]) == 10_000
    assert images.mean() == pytest.approx(pixel_mean, abs=0.001)  # 0.1307 and 0.2860 of 255, as published


DAMAGES = {
    "truncated": lambda path, content: path.write_bytes(content[:-100]),
    "bit flipped": lambda path, content: path.write_bytes(content[:99] + bytes([content[99] ^ 1]) + content[100:]),
    "empty": lambda path, content: path.touch(),
    "a folder": lambda path, content: path.mkdir(),
    "a pipe": lambda path, content: os.mkfifo(path),
    "a link to itself": lambda path, content: path.symlink_to(path),
    "a link that leads nowhere": lambda path, content: path.symlink_to(path.with_name("nowhere")),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_archive_is_named_refused_and_kept(tiny_mnist, damage):
    folder, _ = tiny_mnist
    path = folder / "MNIST" / "raw" / "train-images-idx3-ubyte.gz"
    content = path.read_bytes()
    path.unlink()
    DAMAGES[damage](path, content)
    before = path.lstat()
    with pytest.raises(data.UnusableFile, match=str(path)):
        data.load("mnist", folder, train=True)
    assert path.lstat() == before
    for preset in ("quick", "full"):  # neither preset goes on without what is there but damaged
        with pytest.raises(SystemExit, match=str(path)):
            data.resolve([{"dataset": "mnist"}], Options(preset=preset, data_dir=folder))


def test_without_data_and_network_full_stops_and_quick_takes_digits(tiny_mnist, tmp_path, capsys):
    configs = [{"dataset": "mnist", "seed": 0}]
    empty = tmp_path / "empty"
    with pytest.raises(SystemExit) as stopped:
        data.resolve(configs, Options(preset="full", data_dir=empty))
    message = str(stopped.value.code)  # a string: printed, and status 1
    assert UNREACHABLE in message and str(empty / "MNIST" / "raw") in message and "--data-dir" in message
    assert data.resolve(configs, Options(preset="quick", data_dir=empty)) == [{"dataset": "digits", "seed": 0}]
    assert "digits" in capsys.readouterr().err
    assert not empty.exists() or not list(empty.rglob("*.gz"))


def test_drawing_the_committed_results_needs_no_data(tmp_path):
    configs = [{"dataset": "mnist"}]
    assert data.resolve(configs, Options(replot=True, data_dir=tmp_path)) == configs


@pytest.fixture
def mirror(tiny_mnist):
    """Serve the four archives on this machine; return the address and the server's folder."""
    folder = tiny_mnist[0] / "MNIST" / "raw"
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/", folder
        server.shutdown()


def test_a_missing_archive_is_downloaded_and_checked(tiny_mnist, mirror, tmp_path, monkeypatch):
    arrays, (address, served) = tiny_mnist[1], mirror
    monkeypatch.setattr(MNIST, "mirrors", [UNREACHABLE, address])
    images, _ = data.load("mnist", tmp_path / "new", train=True)
    np.testing.assert_array_equal(images, arrays["train-images-idx3-ubyte.gz"])
    (served / "t10k-images-idx3-ubyte.gz").write_bytes(b"not what was published")
    with pytest.raises(data.DataUnavailable):
        data.load("mnist", tmp_path / "new", train=False)
    raw = tmp_path / "new" / "MNIST" / "raw"
    assert sorted(path.name for path in raw.iterdir()) == [n for n in sorted(arrays) if n.startswith("train")]


BROKEN = {  # what a mirror answers
    "no HTTP": b"this is no HTTP\r\n\r\n",
    "breaks off": b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffff\r\nbroken off",
    "redirects to nonsense": b"HTTP/1.0 302 Found\r\nLocation: http://[nonsense/\r\n\r\n",
}


def answer(server, content):
    while True:
        connection, _ = server.accept()
        with connection:
            connection.recv(1000)
            connection.sendall(content)


@pytest.mark.parametrize("kind", BROKEN)
def test_after_a_broken_mirror_the_next_one_is_tried(kind, tiny_mnist, mirror, tmp_path, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=answer, args=(server, BROKEN[kind]), daemon=True).start()
        broken = f"http://127.0.0.1:{server.getsockname()[1]}/"
        monkeypatch.setattr(MNIST, "mirrors", [broken])
        configs = [{"dataset": "mnist"}]
        with pytest.raises(SystemExit, match=re.escape(broken)):
            data.resolve(configs, Options(preset="full", data_dir=tmp_path / "new"))
        assert data.resolve(configs, Options(preset="quick", data_dir=tmp_path / "new")) == [{"dataset": "digits"}]
        monkeypatch.setattr(MNIST, "mirrors", [broken, mirror[0]])
        images, _ = data.load("mnist", tmp_path / "new", train=True)
        np.testing.assert_array_equal(images, tiny_mnist[1]["train-images-idx3-ubyte.gz"])


@pytest.mark.parametrize("name", ["digits", "mnist", "fashion_mnist"])
def test_the_sizes_of_the_data_sets_are_those_of_the_arrays(name):
    for part, size in data.SIZES[name].items():
        try:
            _, labels = data.load(name, ROOT / "data", train=part == "train", download=False)
        except data.DataUnavailable:
            pytest.skip(f"{name} is not on this machine")
        assert len(labels) == size


def test_digits_are_mnist_shaped():
    (train, train_labels), (test, test_labels) = (data.load("digits", "nowhere", part) for part in (True, False))
    assert train.shape[1:] == test.shape[1:] == (28, 28) and len(train) + len(test) == 1797
    assert train.dtype == np.uint8 and train.max() == 255 and set(train_labels) == set(test_labels) == set(range(10))


def test_cifar10_goes_through_the_real_loader(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    parts, archive = {}, tmp_path / CIFAR10.filename
    with tarfile.open(archive, "w:gz") as tar:
        for name in ("data_batch_1", "test_batch", "batches.meta"):
            pixels, labels = rng.integers(0, 256, (20, 3072), dtype=np.uint8), list(range(10)) * 2
            parts[name] = pixels, labels
            content = pickle.dumps({"data": pixels, "labels": labels, "label_names": [*"abcdefghij"]})
            info = tarfile.TarInfo(f"{CIFAR10.base_folder}/{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
            md5 = hashlib.md5(content).hexdigest()
            if name == "batches.meta":
                monkeypatch.setattr(CIFAR10, "meta", {"filename": name, "key": "label_names", "md5": md5})
            else:
                monkeypatch.setattr(CIFAR10, f"{name.split('_')[0].replace('data', 'train')}_list", [(name, md5)])
    monkeypatch.setattr(CIFAR10, "tgz_md5", hashlib.md5(archive.read_bytes()).hexdigest())
    (tmp_path / CIFAR10.base_folder).write_text("")  # a folder cannot be made here, as in a folder that is read-only
    with pytest.raises(data.DataUnavailable, match=r"archive cannot be unpacked in .*--data-dir"):
        data.load("cifar10", tmp_path, train=True)
    (tmp_path / CIFAR10.base_folder).unlink()
    images, labels = data.load("cifar10", tmp_path, train=True)
    pixels, expected = parts["data_batch_1"]
    np.testing.assert_array_equal(images, pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
    np.testing.assert_array_equal(labels, expected)
    batch = tmp_path / CIFAR10.base_folder / "test_batch"
    batch.write_bytes(b"x" + batch.read_bytes()[1:])
    with pytest.raises(data.UnusableFile, match="test_batch"):
        data.load("cifar10", tmp_path, train=False)


def test_an_unknown_name_is_answered_with_the_choices():
    with pytest.raises(ValueError, match=r"'emnist'.*mnist, fashion_mnist, cifar10, digits"):
        data.load("emnist", "nowhere", train=True)


def test_split_is_stratified_disjoint_complete_and_seeded():
    labels = np.repeat(np.arange(10), 60)
    training, validation = data.split(labels, 50, seed=3)
    assert sorted([*training, *validation]) == list(range(600))
    assert (np.bincount(labels[validation]) == 5).all()
    np.testing.assert_array_equal(validation, data.split(labels, 50, seed=3)[1])
    assert not np.array_equal(validation, data.split(labels, 50, seed=4)[1])
