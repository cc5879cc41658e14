"""Weights files: plain arrays of the model's shapes are loaded; everything else that HDF5 can hold is refused."""

from __future__ import annotations

import io
import os
import pickle
import shutil
import struct
import sys
import tracemalloc
import zipfile

import h5py
import numpy as np
import pytest

from tiedexp.errors import RunError
from tiedexp.training.checkpoint import CheckpointStore, load_weights
from tiedexp.training.weights_file import check_weights_file

KERNEL = "layers/conv2d/vars/0"  # of shape (3, 3, 2, 5)
SHAPE = (3, 3, 2, 5)


@pytest.fixture
def trainer(make_trainer):
    return make_trainer("adam", model={"batch_norm": True, "dropout": 0.1})


@pytest.fixture
def checkpoint(trainer, tmp_path):
    return CheckpointStore(tmp_path / "checkpoints").save(1, trainer.model, {})


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw", "lion"])
@pytest.mark.parametrize("precision", ["float32", "mixed_float16"])
def test_what_a_run_writes_is_accepted(make_trainer, tmp_path, name, precision):
    options = {"model": {"dropout": 0.4, "batch_norm": True, "dtype": precision}, "optimizer": {"precision": precision}}
    trainer = make_trainer(name, **options)
    checkpoint = CheckpointStore(tmp_path).save(1, trainer.model, {})
    check_weights_file(checkpoint.weights, trainer.model.variables)


def replace(path, make):
    """Replace the kernel by something else; `make` is called with the file and the kernel's name."""
    with h5py.File(path, "r+") as file:
        del file[KERNEL]
        make(file, KERNEL)


def soft_link(file, name):
    file[name] = h5py.SoftLink("/layers/dense/vars/0")


def external_link(file, name):
    file[name] = h5py.ExternalLink("secret.h5", "/values")


def linked_group(file, name):
    file.move("layers/conv2d", "layers/other")
    file["layers/conv2d"] = h5py.ExternalLink("secret.h5", "/")


def external_values(file, name):
    file.create_dataset(name, SHAPE, "f4", external=[("secret.bin", 0, 360)])


def virtual_values(file, name):
    layout = h5py.VirtualLayout(SHAPE, "f4")
    layout[:] = h5py.VirtualSource("secret.h5", "values", SHAPE)
    file.create_virtual_dataset(name, layout)


def huge_shape(file, name):
    file.create_dataset(name, (10**7, 10**7), "f4")


def unwritten(file, name):
    file.create_dataset(name, SHAPE, "f4")


def bomb(file, name):
    file.create_dataset(name, (1, 10**9), "u1", chunks=(1, 10**6), compression="gzip", fillvalue=0)


def compressed(file, name):
    file.create_dataset(name, data=np.zeros(SHAPE, "f4"), compression="gzip")


def annotated(file, name):
    file.create_dataset(name, data=np.zeros(SHAPE, "f4")).attrs["dtype"] = "bfloat16"


def text(file, name):
    file.create_dataset(name, data=np.full(SHAPE, b"x" * 9))


def references(file, name):
    file.create_dataset(name, data=np.full(SHAPE, file["layers"].ref), dtype=h5py.ref_dtype)


def crowd(file, name):
    for number in range(3000):
        file.create_group(f"more/{number}")


def circle(file, name):
    file["layers/conv2d/vars/again"] = file["layers"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (soft_link, r"/layers/conv2d/vars/0 is a link \(SoftLink\)"),
        (external_link, r"/layers/conv2d/vars/0 is a link \(ExternalLink\)"),
        (linked_group, r"/layers/conv2d is a link \(ExternalLink\)"),
        (external_values, "has its values in another file"),
        (virtual_values, "has its values in another file"),
        (huge_shape, r"has shape \(10000000, 10000000\), which no weight of the model has"),
        (unwritten, "should have 360 bytes, but the file does not hold them"),
        (bomb, r"has shape \(1, 1000000000\), which no weight"),
        (compressed, "is compressed, chunked or has attributes"),
        (annotated, "is compressed, chunked or has attributes"),
        (text, "holds .S9, not numbers"),
        (references, "holds object, not numbers"),
        (crowd, "far more entries than the model has weights"),
        (circle, "nested deeper than 16 levels"),
    ],
)
def test_anything_but_a_plain_array_is_refused_unread(checkpoint, trainer, tmp_path, make, message):
    with h5py.File(tmp_path / "checkpoints" / "secret.h5", "w") as file:
        file["values"] = np.ones(SHAPE, "f4")
    secret = tmp_path / "checkpoints" / "secret.bin"
    secret.write_bytes(np.ones(SHAPE, "f4").tobytes())
    replace(checkpoint.weights, make)
    before = [value.numpy() for value in trainer.model.variables]
    opened = secret.stat().st_atime_ns, (tmp_path / "checkpoints" / "secret.h5").stat().st_atime_ns
    tracemalloc.start()
    with pytest.raises(RunError, match=message) as caught:
        load_weights(checkpoint, trainer.model)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert str(checkpoint.weights) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert peak < 20 * 2**20
    assert opened == (secret.stat().st_atime_ns, (tmp_path / "checkpoints" / "secret.h5").stat().st_atime_ns)
    for old, variable in zip(before, trainer.model.variables, strict=True):
        np.testing.assert_array_equal(old, variable.numpy())


def as_pickle(tmp_path):
    class Trap:
        def __reduce__(self):
            return (tmp_path / "sprung").touch, ()

    return pickle.dumps(Trap())


def as_zip_bomb(tmp_path):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("layers.npy", bytes(50 * 2**20))
    return content.getvalue()


@pytest.mark.parametrize("make", [as_pickle, as_zip_bomb, lambda _: b"", lambda _: b"\x89HDF\r\n\x1a\n" + bytes(90)])
def test_a_file_that_is_not_hdf5_is_refused(checkpoint, trainer, tmp_path, make):
    checkpoint.weights.write_bytes(make(tmp_path))
    with pytest.raises(RunError, match="is not a readable HDF5 file"):
        load_weights(checkpoint, trainer.model)
    assert not (tmp_path / "sprung").exists()


def test_damage_that_makes_hdf5_take_all_memory(checkpoint, trainer):
    """The free list of a heap of names is a circle; found by changing random bytes."""
    content = bytearray(checkpoint.weights.read_bytes())
    heap = content.find(b"HEAP")
    while heap >= 0:
        free, data = struct.unpack_from("<QQ", content, heap + 16)  # the first free block, and where the heap's data is
        if free != 1:  # 1 if there is none
            struct.pack_into("<Q", content, data + free, free)
        heap = content.find(b"HEAP", heap + 1)
    checkpoint.weights.write_bytes(content)
    with pytest.raises(RunError, match=r"is not loaded: it is not a readable HDF5 file: .*memory"):
        load_weights(checkpoint, trainer.model)


def test_damage_that_makes_hdf5_crash(checkpoint, trainer, monkeypatch):
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    with pytest.raises(RunError, match="it is so damaged that the HDF5 library crashes"):
        load_weights(checkpoint, trainer.model)


def test_links_and_pipes_are_not_opened(checkpoint, trainer, tmp_path):
    store = CheckpointStore(tmp_path / "checkpoints")
    checkpoint.weights.rename(tmp_path / "elsewhere")
    checkpoint.weights.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RunError, match="is not a regular file"):
        load_weights(checkpoint, trainer.model)
    checkpoint.weights.unlink()
    os.mkfifo(checkpoint.weights)
    with pytest.raises(RunError, match="is not a regular file"):
        load_weights(checkpoint, trainer.model)
    assert store.latest() is None
    about = checkpoint.weights.with_name("epoch-0001.json")
    about.unlink()
    os.mkfifo(about)
    assert store.latest() is None


def test_a_json_that_is_far_too_large_is_not_read(checkpoint, tmp_path):
    with checkpoint.weights.with_name("epoch-0001.json").open("r+b") as file:
        file.truncate(2**40)  # takes no disk space
    assert CheckpointStore(tmp_path / "checkpoints").latest() is None
