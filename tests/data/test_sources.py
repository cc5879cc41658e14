"""Datasets by name: the built-in one, real ones that TFDS prepared, and the errors."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from tiedexp.data.catalogue import CATALOGUE
from tiedexp.data.sources import (
    check_prepared,
    describe_dataset,
    find_data_dir,
    list_prepared,
    load_dataset,
    parse_source,
)
from tiedexp.errors import DatasetError


def shape_of(dataset):
    return dataset.image_shape, dataset.num_classes, len(dataset.train), len(dataset.test)


def described(name, **options):
    shape = describe_dataset(name, **options)
    return shape.image_shape, shape.num_classes, shape.train_images, shape.test_images


def test_digits():
    dataset = load_dataset("digits")
    assert shape_of(dataset) == described("digits") == ((8, 8, 1), 10, 1438, 359)
    counts = np.bincount(load_digits().target)
    np.testing.assert_allclose(np.bincount(dataset.test.labels) / counts, 0.2, atol=0.01)
    assert (dataset.train.images.min(), dataset.train.images.max()) == (0, 255)
    # The same images as scikit-learn's, each once.
    ours = np.concatenate([dataset.train.images, dataset.test.images]).reshape(1797, 64) / 255 * 16
    theirs = load_digits().images.reshape(1797, 64)
    np.testing.assert_array_equal(np.unique(np.rint(ours), axis=0), np.unique(theirs, axis=0))
    assert load_dataset("digits").fingerprint == dataset.fingerprint


def test_digits_limited_and_scaled():
    dataset = load_dataset("digits", limit=20, image_size=12)
    assert shape_of(dataset) == ((12, 12, 1), 10, 20, 20)
    assert np.bincount(dataset.train.labels).tolist() == [2] * 10
    assert described("digits", image_size=12)[0] == (12, 12, 1)


def test_real_mnist(shared_data):
    dataset = load_dataset("mnist", data_dir=shared_data / "tfds")
    assert shape_of(dataset) == described("mnist", data_dir=shared_data / "tfds") == ((28, 28, 1), 10, 60000, 10000)
    assert np.bincount(dataset.train.labels).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert np.bincount(dataset.test.labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert dataset.train.images.mean() / 255 == pytest.approx(0.1307, abs=1e-4)


def test_real_cifar10(shared_data):
    dataset = load_dataset("cifar10", data_dir=shared_data / "tfds", limit=1000)
    assert shape_of(dataset) == ((32, 32, 3), 10, 1000, 1000)
    assert dataset.class_names[:2] == ("airplane", "automobile")
    assert described("cifar10", data_dir=shared_data / "tfds")[2:] == (50000, 10000)


def test_the_catalogue_agrees_with_what_is_prepared(shared_data, tmp_path):
    for name in ("mnist", "cifar10"):
        assert described(name, data_dir=tmp_path) == described(name, data_dir=shared_data / "tfds")


def test_common_sets_can_be_described_before_they_are_there(tmp_path):
    for name, entry in CATALOGUE.items():
        shape = describe_dataset(name, data_dir=tmp_path)
        assert (shape.image_shape, shape.num_classes) == (entry.image_shape, entry.num_classes)
        assert shape.train_images + shape.test_images == entry.train_images + entry.test_images
        assert shape.test_images > 0
    assert described("cifar100", data_dir=tmp_path, image_size=16) == ((16, 16, 3), 100, 50000, 10000)


def write_dataset(root, sizes, *, image_shape=(4, 4, 1), features=None, version="1.0.0"):
    """A small dataset as TFDS would write it, of images whose value is their label times ten."""
    import tensorflow as tf

    directory = root / version
    directory.mkdir(parents=True)
    for split, number in sizes.items():
        path = directory / f"tiny-{split}.tfrecord-00000-of-00001"
        with tf.io.TFRecordWriter(str(path)) as writer:
            for index in range(number):
                label = index % 3
                side = 4 if -1 not in image_shape else 4 + 2 * label
                png = tf.io.encode_png(np.full((side, side, image_shape[2]), label * 10, np.uint8)).numpy()
                feature = {
                    "image": tf.train.Feature(bytes_list=tf.train.BytesList(value=[png])),
                    "label": tf.train.Feature(int64_list=tf.train.Int64List(value=[label])),
                }
                writer.write(tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString())
    splits = [{"name": split, "shardLengths": [str(number)]} for split, number in sizes.items()]
    info = {"name": "tiny", "fileFormat": "tfrecord", "splits": splits}
    (directory / "dataset_info.json").write_text(json.dumps(info))
    dimensions = [str(side) for side in image_shape]
    features = features or {
        "image": {"image": {"dtype": "uint8", "shape": {"dimensions": dimensions}}},
        "label": {"classLabel": {"numClasses": "3"}},
    }
    (directory / "features.json").write_text(json.dumps({"featuresDict": {"features": features}}))
    (directory / "label.labels.txt").write_text("red\ngreen\nblue\n")
    return directory


@pytest.fixture
def tiny(tmp_path):
    return write_dataset(tmp_path / "tiny", {"train": 30, "test": 6})


def test_a_prepared_dataset(tmp_path, tiny):
    dataset = load_dataset("tiny", data_dir=tmp_path)
    assert shape_of(dataset) == described("tiny", data_dir=tmp_path) == ((4, 4, 1), 3, 30, 6)
    assert dataset.class_names == ("red", "green", "blue")
    np.testing.assert_array_equal(dataset.train.images[:, 0, 0, 0], dataset.train.labels * 10)
    assert list_prepared(tmp_path) == ["tiny"]


def test_the_newest_version_is_read(tmp_path, tiny):
    write_dataset(tmp_path / "tiny", {"train": 9, "test": 3}, version="1.10.0")
    write_dataset(tmp_path / "tiny", {"train": 12, "test": 3}, version="1.9.0")
    assert described("tiny", data_dir=tmp_path)[2] == 9


def test_a_configuration_and_no_test_split(tmp_path):
    write_dataset(tmp_path / "sets" / "small", {"train": 30})
    dataset = load_dataset("sets/small", data_dir=tmp_path)
    assert shape_of(dataset) == described("sets/small", data_dir=tmp_path) == ((4, 4, 1), 3, 24, 6)
    assert np.bincount(dataset.test.labels).tolist() == [2, 2, 2]
    assert list_prepared(tmp_path) == ["sets/small"]
    with pytest.raises(DatasetError, match=r"'sets' is not prepared .* several configurations, choose one: sets/small"):
        check_prepared("sets", data_dir=tmp_path)


def test_a_validation_split_serves_where_there_is_no_test_split(tmp_path):
    write_dataset(tmp_path / "tiny", {"train": 30, "validation": 9})
    assert shape_of(load_dataset("tiny", data_dir=tmp_path))[2:] == described("tiny", data_dir=tmp_path)[2:] == (30, 9)


@pytest.mark.parametrize("channels", [1, 3])
def test_images_of_different_sizes(tmp_path, channels):
    write_dataset(tmp_path / "tiny", {"train": 6, "test": 3}, image_shape=(-1, -1, channels))
    for function in (load_dataset, describe_dataset):
        with pytest.raises(DatasetError, match="differ in size; set image_size"):
            function("tiny", data_dir=tmp_path)
    dataset = load_dataset("tiny", data_dir=tmp_path, image_size=5)
    shape = ((5, 5, channels), 3, 6, 3)
    assert shape_of(dataset) == described("tiny", data_dir=tmp_path, image_size=5) == shape
    np.testing.assert_array_equal(dataset.train.images[:, 2, 2, 0], dataset.train.labels * 10)


def refused(name, data_dir, message):
    for function in (check_prepared, load_dataset):
        with pytest.raises(DatasetError, match=message):
            function(name, data_dir=data_dir)


def test_an_incomplete_dataset(tmp_path, tiny):
    next(tiny.glob("*-test*")).unlink()
    refused("tiny", tmp_path, "incomplete: it has 0 of the 1 files of its test split")


def test_a_truncated_dataset(tmp_path, tiny):
    path = next(tiny.glob("*-train*"))
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(DatasetError, match=r"the train split in .*tiny.* is damaged"):
        load_dataset("tiny", data_dir=tmp_path)


def test_a_dataset_with_fewer_images_than_it_promises(tmp_path, tiny):
    info = json.loads((tiny / "dataset_info.json").read_text())
    info["splits"][0]["shardLengths"] = ["31"]
    (tiny / "dataset_info.json").write_text(json.dumps(info))
    with pytest.raises(DatasetError, match="should have 31 labelled images; it has 30"):
        load_dataset("tiny", data_dir=tmp_path)


@pytest.mark.parametrize("image", ["", "3", '{"image": []}'])
def test_an_unreadable_description(tmp_path, tiny, image):
    label = '{"classLabel": {"numClasses": "3"}}'
    text = f'{{"featuresDict": {{"features": {{"image": {image}, "label": {label}}}}}}}'
    (tiny / "features.json").write_text(text)
    refused("tiny", tmp_path, r"the description of the dataset in .* cannot be read")


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (
            {"text": {"text": {}}},
            "does not consist of images with one class each: of its features .text., 0 are images and 0",
        ),
        ({"image": {"image": {}}, "box": {"bbox": {}}}, "1 are images and 0 are class labels"),
        (
            {"image": {"image": {"dtype": "float32"}}, "label": {"classLabel": {"numClasses": "3"}}},
            "are float32; only uint8",
        ),
    ],
)
def test_a_dataset_that_is_not_for_classification(tmp_path, features, message):
    write_dataset(tmp_path / "tiny", {"train": 3}, features=features)
    refused("tiny", tmp_path, message)


def test_the_label_is_what_the_dataset_calls_its_target(tmp_path):
    features = {
        "image": {"image": {"dtype": "uint8", "shape": {"dimensions": ["4", "4", "1"]}}},
        "coarse": {"classLabel": {"numClasses": "2"}},
        "label": {"classLabel": {"numClasses": "3"}},
    }
    directory = write_dataset(tmp_path / "tiny", {"train": 30, "test": 3}, features=features)
    refused("tiny", tmp_path, "1 are images and 2 are class labels")
    info = json.loads((directory / "dataset_info.json").read_text())
    info["supervisedKeys"] = {"tuple": {"items": [{"featureKey": "image"}, {"featureKey": "label"}]}}
    (directory / "dataset_info.json").write_text(json.dumps(info))
    assert load_dataset("tiny", data_dir=tmp_path).class_names == ("red", "green", "blue")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mnist", r"(?s)'mnist' is not prepared in .*tiedexp data prepare mnist .*tiedexp data import mnist DIR"),
        ("mnits", "did you mean 'mnist'"),
        ("CIFAR10", "'CIFAR10' is not the name of a dataset; did you mean 'cifar10'"),
        ("digit", "did you mean 'digits'"),
        ("emnist", "several configurations, choose one: emnist/byclass, .*emnist/letters"),
        ("emnist/leters", "did you mean 'emnist/letters'"),
        ("../secrets", "'../secrets' is not the name of a dataset"),
        ("mnist/..", "is not the name of a dataset"),
        ("quite_unknown", r"'quite_unknown' is not prepared in [^;]*\n"),
    ],
)
def test_what_is_not_there(tmp_path, name, message):
    refused(name, tmp_path, message)
    with pytest.raises(DatasetError, match=r"does not exist|is not the name"):
        check_prepared(name, data_dir=tmp_path / "nowhere")


def test_nothing_is_known_of_an_unknown_set(tmp_path):
    with pytest.raises(DatasetError, match="tiedexp data prepare beans"):
        describe_dataset("beans", data_dir=tmp_path)


def test_the_data_directory(monkeypatch, tmp_path):
    assert find_data_dir() == Path("~/tensorflow_datasets").expanduser()
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    assert find_data_dir() == tmp_path
    assert find_data_dir(tmp_path / "own") == tmp_path / "own"
    assert list_prepared(tmp_path / "own") == []


def test_what_a_user_may_write(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    (tmp_path / "mnist").mkdir()
    assert parse_source("photos") == ("folder", Path("photos"))
    assert parse_source("mnist") == ("mnist", None)
    assert parse_source("some.npz") == ("npz", Path("some.npz"))
    assert parse_source("emnist/letters") == ("emnist/letters", None)


def test_describing_and_refusing_import_neither_tensorflow_nor_tfds(tmp_path, tiny, shared_data):
    shutil.copytree(
        shared_data / "tfds" / "mnist", tmp_path / "mnist", copy_function=lambda a, b: Path(b).symlink_to(a)
    )
    code = f"""
import sys
from pathlib import Path
from tiedexp.data.sources import check_prepared, describe_dataset
from tiedexp.errors import DatasetError
root = Path({str(tmp_path)!r})
for name in ("digits", "tiny", "mnist", "kmnist"):
    describe_dataset(name, data_dir=root)
check_prepared("mnist", data_dir=root)
try:
    check_prepared("kmnist", data_dir=root)
except DatasetError:
    print([name for name in ("tensorflow", "keras", "tensorflow_datasets", "sklearn") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
