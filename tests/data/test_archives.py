"""Datasets prepared from archives, and the errors. Nothing here uses the network."""

from __future__ import annotations

import shutil
import socket
from urllib.error import HTTPError, URLError

import pytest

from tiedexp.data import archives
from tiedexp.data.archives import import_archives, prepare_dataset
from tiedexp.data.sources import find_data_dir, list_prepared, load_dataset
from tiedexp.errors import DatasetError

MNIST = [f"{split}-{kind}-ubyte.gz" for split in ("t10k", "train") for kind in ("images-idx3", "labels-idx1")]


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """Fails the test if a connection is opened."""

    def refuse(*arguments, **options):
        raise AssertionError("the network was touched")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def test_mnist_from_its_archives(shared_data, tmp_path):
    prepared = import_archives("mnist", shared_data / "mnist-archives", tmp_path)
    assert prepared.split_sizes == {"train": 60000, "test": 10000}
    fingerprints = {load_dataset("mnist", data_dir=root).fingerprint for root in (tmp_path, shared_data / "tfds")}
    assert len(fingerprints) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["mnist"]
    # It is there now, so neither needs anything.
    assert import_archives("mnist", tmp_path / "nowhere", tmp_path) == prepared
    assert prepare_dataset("mnist", tmp_path) == prepared


def test_missing_archives_are_named(shared_data, tmp_path):
    shutil.copy(shared_data / "mnist-archives" / MNIST[0], tmp_path)
    with pytest.raises(DatasetError, match=f"missing: {', '.join(MNIST[1:])}$"):
        import_archives("mnist", tmp_path, tmp_path / "data")
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("damage", ["changed", "cut"])
def test_a_wrong_checksum(shared_data, tmp_path, damage):
    for name in MNIST:
        (tmp_path / name).symlink_to(shared_data / "mnist-archives" / name)
    content = bytearray((tmp_path / MNIST[1]).read_bytes())
    content[1000] ^= 1
    (tmp_path / MNIST[1]).unlink()
    (tmp_path / MNIST[1]).write_bytes(content if damage == "changed" else content[:-1])
    with pytest.raises(DatasetError, match=rf"{MNIST[1]} is not the original archive: its SHA-256 is .*, not f7ae60f9"):
        import_archives("mnist", tmp_path, tmp_path / "data")
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mnits", "did you mean 'mnist'"),
        ("emnist/leters", "emnist"),
        ("imdb_reviews", "'imdb_reviews' is not a dataset of images with one class each"),
        ("digits", "'digits' needs no preparation"),
        ("../x", "is not the name of a dataset"),
    ],
)
def test_names_that_cannot_be_prepared(tmp_path, name, message):
    for make in (lambda: prepare_dataset(name, tmp_path), lambda: import_archives(name, tmp_path, tmp_path)):
        with pytest.raises(DatasetError, match=message):
            make()
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_is_not_there(tmp_path):
    with pytest.raises(DatasetError, match=r"there is no directory .*nowhere"):
        import_archives("mnist", tmp_path / "nowhere", tmp_path)


def test_a_data_directory_that_cannot_be_written(shared_data, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DatasetError, match=r"'mnist' cannot be written to .*file"):
        import_archives("mnist", shared_data / "mnist-archives", tmp_path / "file")


@pytest.mark.parametrize("error", [URLError("no route"), TimeoutError("timed out"), OSError("refused")])
def test_a_host_that_cannot_be_reached(tmp_path, monkeypatch, error):
    def urlopen(request, timeout):
        assert timeout <= 10
        raise error

    monkeypatch.setattr(archives, "urlopen", urlopen)
    with pytest.raises(DatasetError, match=r"storage\.googleapis\.com cannot be reached .*tiedexp data import mnist"):
        prepare_dataset("mnist", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_host_that_does_not_answer_is_not_waited_for(tmp_path, monkeypatch):
    from threading import Event

    never = Event()

    def urlopen(request, timeout):
        never.wait()
        raise OSError("too late")

    monkeypatch.setattr(archives, "urlopen", urlopen)
    monkeypatch.setattr(archives, "CONNECT_SECONDS", 0.05)
    with pytest.raises(DatasetError, match="no answer in"):
        prepare_dataset("mnist", tmp_path)
    never.set()


def test_any_answer_is_a_host_that_is_there(monkeypatch):
    asked = []

    def urlopen(request, timeout):
        asked.append((request.get_method(), request.full_url))
        raise HTTPError(request.full_url, 405, "method not allowed", None, None)

    monkeypatch.setattr(archives, "urlopen", urlopen)
    archives._check_reachable("x", ["http://one/a", "http://one/b", "https://two/c"])
    assert sorted(asked) == [("HEAD", "http://one/a"), ("HEAD", "https://two/c")]


def test_without_a_home_directory_nothing_is_prepared_in_one(monkeypatch, tmp_path):
    """As in a container whose user has no name."""
    monkeypatch.chdir(tmp_path)
    for name in ("HOME", "TFDS_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("os.path.expanduser", lambda path: path)  # which finds no user of this number
    assert list_prepared(find_data_dir()) == []
    for prepare in (lambda: prepare_dataset("mnist"), lambda: import_archives("mnist", tmp_path)):
        with pytest.raises(DatasetError, match=r"there is no home directory.* use --data-dir or set TFDS_DATA_DIR"):
            prepare()
    assert list(tmp_path.iterdir()) == []
