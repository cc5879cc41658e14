"""Arrays in an .npz archive."""

from __future__ import annotations

import io
import tracemalloc
import zipfile

import numpy as np
import pytest

from tiedexp.data.sources import check_prepared, describe_dataset, load_dataset
from tiedexp.errors import DatasetError

LABELS = np.array([0, 1, 2] * 10)
IMAGES = np.random.default_rng(0).integers(0, 256, (30, 4, 5)).astype(np.uint8)


@pytest.fixture
def save(tmp_path):
    def save_arrays(compressed=False, **changes):
        arrays = {"x_train": IMAGES, "y_train": LABELS, "x_test": IMAGES[:6], "y_test": LABELS[:6]} | changes
        path = tmp_path / "data.npz"
        write = np.savez_compressed if compressed else np.savez
        write(path, **{name: array for name, array in arrays.items() if array is not None})
        return path

    return save_arrays


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize(
    "images",
    [IMAGES, IMAGES[..., np.newaxis], IMAGES / 255, (IMAGES / 255).astype(np.float32)],
    ids=["uint8", "with channel", "float64", "float32"],
)
def test_greyscale_images(save, images, compressed):
    path = save(compressed, x_train=images, x_test=images[:6])
    dataset = load_dataset("npz", path=path)
    np.testing.assert_array_equal(dataset.train.images[..., 0], IMAGES)
    np.testing.assert_array_equal(dataset.test.labels, LABELS[:6])
    assert dataset.train.labels.dtype == np.int64
    shape = describe_dataset("npz", path=path)
    assert shape.image_shape == dataset.image_shape == (4, 5, 1)
    assert (shape.num_classes, shape.train_images, shape.test_images) == (3, 30, 6)
    check_prepared("npz", path=path)


def test_colour_column_labels_and_names(save):
    colour = np.stack([IMAGES] * 3, axis=-1)
    path = save(
        x_train=colour, x_test=colour[:6], y_train=LABELS[:, np.newaxis].astype(np.uint8), class_names=list("abcd")
    )
    dataset = load_dataset("npz", path=path)
    assert dataset.image_shape == (4, 5, 3)
    assert dataset.class_names == ("a", "b", "c", "d")


def test_without_test_arrays_a_stratified_fifth_is_held_out(save):
    path = save(x_test=None, y_test=None)
    dataset = load_dataset("npz", path=path)
    assert np.bincount(dataset.test.labels).tolist() == [2, 2, 2]
    shape = describe_dataset("npz", path=path)
    assert (shape.train_images, shape.test_images) == (24, 6)


def test_image_size_and_limit(save):
    dataset = load_dataset("npz", path=save(), image_size=8, limit=6)
    assert dataset.image_shape == (8, 8, 1)
    assert np.bincount(dataset.train.labels).tolist() == [2, 2, 2]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x_train": None}, "has no array x_train; it has y_train"),
        ({"y_test": None}, "has no array y_test"),
        ({"x_train": IMAGES[:29]}, "x_train has 29 images, but y_train has 30 labels"),
        ({"x_train": IMAGES.astype(np.int64)}, "x_train must be uint8, or floats from 0 to 1; it is int64"),
        ({"x_train": IMAGES * 1.0}, r"from 0 to 1; they are from 0\.0 to 255\.0"),
        ({"x_train": IMAGES / 255 * np.nan}, "from 0 to 1; they are from nan to nan"),
        (
            {"x_train": np.zeros((30, 3, 28, 28), np.uint8)},
            r"x_train is \(30, 3, 28, 28\), which means images of 3x28 with 28 channels, because channels come last; "
            r"if there are 3 channels, use np\.moveaxis\(x_train, 1, -1\)",
        ),
        ({"x_test": np.zeros((6, 1, 28, 28), np.uint8)}, r"x_test is \(6, 1, 28, 28\), which means images of 1x28"),
        ({"x_train": IMAGES.reshape(30, 20)}, r"must have the shape \(images, rows, cols\) .* it is \(30, 20\)"),
        ({"x_test": IMAGES[:6, :3]}, r"images \(4, 5, 1\), but x_test has \(3, 5, 1\)"),
        ({"y_train": LABELS / 1.0}, "y_train must contain class numbers.*float64"),
        ({"y_train": np.eye(3, dtype=int)[LABELS]}, r"y_train must contain class numbers.*int64 \(30, 3\)"),
        ({"y_train": LABELS - 1}, "class numbers in y_train must start from 0; the lowest is -1"),
        ({"y_train": LABELS * 2}, "contains classes up to 4, but no image of class 1"),
        ({"y_test": LABELS[:6] + 1}, "y_test contains class 3, but the highest class is 2"),
        ({"class_names": ["a", "b"]}, "class_names has 2 names, but y_train contains class 2"),
        ({"y_train": np.array([object()] * 30)}, "not a readable .npz archive of plain arrays"),
    ],
)
def test_arrays_that_do_not_fit(save, changes, message):
    with pytest.raises(DatasetError, match=message):
        load_dataset("npz", path=save(**changes))


@pytest.mark.parametrize("shape", [(3, 28, 3), (4, 4, 16), (1, 256, 64), (3, 28, 1), (28, 28, 28), (32, 3, 32)])
def test_few_rows_are_not_taken_for_channels(save, shape):
    path = save(x_train=np.zeros((30, *shape), np.uint8), x_test=np.zeros((6, *shape), np.uint8))
    assert describe_dataset("npz", path=path).image_shape == shape


def test_files_that_are_not_archives(tmp_path):
    def refused(path, message):
        for function in (check_prepared, load_dataset, describe_dataset):
            with pytest.raises(DatasetError, match=message):
                function("npz", path=path)

    refused(tmp_path / "nowhere.npz", "there is no file .*nowhere")
    refused(tmp_path, "is not a readable .npz archive")
    (tmp_path / "text.npz").write_text("hello")
    refused(tmp_path / "text.npz", "is not a readable .npz archive")
    np.save(tmp_path / "one.npy", IMAGES)
    refused(tmp_path / "one.npy", "is one array, not an .npz archive")
    np.savez(tmp_path / "cut.npz", x_train=IMAGES, y_train=LABELS)
    content = (tmp_path / "cut.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(content[:300])
    refused(tmp_path / "cut.npz", "is not a readable .npz archive")


def test_nothing_is_unpickled(save, tmp_path):
    class Trap:
        def __reduce__(self):
            return (tmp_path / "sprung").touch, ()

    path = save(class_names=np.array([Trap()], dtype=object))
    with pytest.raises(DatasetError, match=r"not a readable \.npz archive of plain arrays"):
        load_dataset("npz", path=path)
    assert not (tmp_path / "sprung").exists()


def write_member(path, name, header_shape, content):
    """An archive with one member, whose header can be wrong."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": header_shape})
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive, archive.open(f"{name}.npy", "w") as member:
        member.write(header.getvalue())
        for part in content:
            member.write(part)


@pytest.mark.parametrize("name", ["x_train", "y_train", "x_test", "class_names"])
def test_an_array_that_claims_to_be_huge_is_not_read(save, name):
    path = save(**{name: None})
    write_member(path, name, (10**6, 10**6, 10**6), [b"12345"])
    with pytest.raises(
        DatasetError, match=rf"{name}, an array .*, should have 1000000000000000000 bytes.*but the file has 5 for it"
    ):
        load_dataset("npz", path=path)


def test_few_bytes_that_unpack_to_very_many_are_not_read(save):
    path = save(x_train=None)
    write_member(path, "x_train", (30, 7000, 7000), [bytes(7000 * 7000)] * 30)
    assert path.stat().st_size < 2 * 2**20
    tracemalloc.start()
    with pytest.raises(DatasetError, match=r"bytes that unpack to 14700\d+, more than 200 times as many"):
        load_dataset("npz", path=path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20


def test_a_header_without_end(save):
    path = save(x_train=None)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x_train.npy", b"\x93NUMPY\x02\x00" + b"\xff\xff\xff\x7f" + b"(" * 10**6)
    for function in (load_dataset, describe_dataset):
        with pytest.raises(DatasetError, match=r"not a readable \.npz archive of plain arrays"):
            function("npz", path=path)
