"""Finds, describes and reads datasets that TensorFlow Datasets has prepared on this machine. Never uses the network.

Their JSON files contain nearly everything, so finding and describing needs neither TensorFlow nor TFDS. The layout is
`DATA_DIR/NAME[/CONFIG]/VERSION/` (https://www.tensorflow.org/datasets/external_tfrecord).
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np

from tiedexp.data.catalogue import CATALOGUE
from tiedexp.data.images import fit_encoded
from tiedexp.data.kind import DatasetKind, Description, Images, Source, Warn
from tiedexp.data.splits import Split
from tiedexp.errors import DatasetError

_NAME = re.compile(r"[a-z][a-z0-9_]*(/[A-Za-z0-9_][A-Za-z0-9_.=+-]*)?")
_VERSION = re.compile(r"(\d+)\.(\d+)\.(\d+)")
_READ_BATCH = 256


@dataclass(frozen=True)
class PreparedDataset:
    """A prepared dataset as described by its own files.

    Args:
        directory: the directory of this version.
        image_key: the feature that holds the images.
        label_key: the feature that holds the classes.
        image_shape: (rows, cols, channels), with None for sizes in which the images differ.
        class_names: one name per class.
        split_sizes: the number of images in each split.
    """

    directory: Path
    image_key: str
    label_key: str
    image_shape: tuple[int | None, int | None, int | None]
    class_names: tuple[str, ...]
    split_sizes: dict[str, int]

    @property
    def test_split(self) -> str | None:
        """The split to test on: `test`, else `validation`; None if there is neither."""
        return next((name for name in ("test", "validation") if name in self.split_sizes), None)

    def list_files(self, split: str) -> list[str]:
        """The record files of a split, in order."""
        return sorted(str(path) for path in self.directory.glob(f"*-{split}.tfrecord-*-of-*"))


@dataclass(frozen=True)
class Tfds(DatasetKind):
    """A dataset of TensorFlow Datasets.

    Args:
        others: names of the other kinds, which messages can suggest.
    """

    others: tuple[str, ...] = ()
    meaning = "a dataset of TensorFlow Datasets"

    def describe(self, source: Source, image_size: int | None, warn: Warn) -> Description:
        name, data_dir = source.name, find_data_dir(source.data_dir)
        if name in CATALOGUE and name not in list_prepared(data_dir):
            entry = CATALOGUE[name]
            return Description(entry.image_shape, entry.num_classes, entry.train_images, entry.test_images)
        prepared = find_prepared(name, data_dir, self.others)
        rows, cols, channels = prepared.image_shape
        if image_size is None and (rows is None or cols is None or channels is None):
            raise DatasetError(f"the images of '{name}' differ in size; set image_size to resize them all")
        sizes = prepared.split_sizes
        test = None if prepared.test_split is None else sizes[prepared.test_split]
        return Description((rows or 0, cols or 0, channels or 3), len(prepared.class_names), sizes["train"], test)

    def load(self, source: Source, image_size: int | None, warn: Warn) -> Images:
        prepared = find_prepared(source.name, find_data_dir(source.data_dir), self.others)
        train = load_prepared(prepared, "train", image_size)
        test = None if prepared.test_split is None else load_prepared(prepared, prepared.test_split, image_size)
        return Images(train, test, prepared.class_names)

    def check(self, source: Source) -> None:
        find_prepared(source.name, find_data_dir(source.data_dir), self.others)


def find_data_dir(data_dir: Path | None = None) -> Path:
    """The directory of prepared datasets: `data_dir`, else $TFDS_DATA_DIR, else the default of TFDS.

    The default is in the home directory. If there is none, e.g. in a container whose user has no name, the path begins
    with `~` and does not exist.
    """
    if data_dir is not None:
        return data_dir
    directory = os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    return Path(os.path.expanduser(directory))  # noqa: PTH111 (pathlib raises if there is no home)


def list_prepared(data_dir: Path) -> list[str]:
    """The names, `name` or `name/config`, of the datasets that are prepared in a directory."""
    if not data_dir.is_dir():
        return []
    names = [path.name for path in _subdirectories(data_dir) if _find_version(path)]
    names += [
        f"{path.name}/{config.name}"
        for path in _subdirectories(data_dir)
        for config in _subdirectories(path)
        if _find_version(config)
    ]
    return sorted(name for name in names if _NAME.fullmatch(name))


def check_name(name: str, others: Iterable[str]) -> None:
    """Refuse text that cannot be the name of a dataset, including paths.

    Raises:
        DatasetError: it cannot be a name; the message suggests the closest name of the catalogue and of `others`.
    """
    if not _NAME.fullmatch(name):
        raise DatasetError(f"'{name}' is not the name of a dataset{suggest_name(name, others)}")


def suggest_name(name: str, others: Iterable[str]) -> str:
    """`; did you mean 'mnist'?` if a name in the catalogue or in `others` is close, else an empty string."""
    known = [*CATALOGUE, *others]
    if name in known:
        return ""
    configs = [entry for entry in known if entry.startswith(f"{name}/")]
    if configs:
        return f"; it has several configurations, choose one: {', '.join(configs)}"
    close = get_close_matches(name.lower(), known, n=1, cutoff=0.7)
    return f"; did you mean '{close[0]}'?" if close else ""


def find_prepared(name: str, data_dir: Path, others: Iterable[str] = ()) -> PreparedDataset:
    """The newest prepared version of a dataset.

    Args:
        name: `name` or `name/config`.
        data_dir: the TFDS data directory.
        others: further names that messages can suggest.

    Raises:
        DatasetError: the dataset is not prepared (the message says where it was expected and how to prepare it), is
            incomplete, or does not consist of images with one class each.
    """
    known = (*others, *list_prepared(data_dir))
    check_name(name, known)
    directory = _find_version(data_dir / name)
    if directory is None:
        missing = "" if data_dir.is_dir() else ", which does not exist"
        raise DatasetError(
            f"the dataset '{name}' is not prepared in {data_dir}{missing}{suggest_name(name, known)}\n"
            f"Prepare it with:  tiedexp data prepare {name}  (needs the network), or  tiedexp data import {name} DIR  "
            "(from its original archives)"
        )
    return _read_description(directory)


def load_prepared(prepared: PreparedDataset, split: str, image_size: int | None) -> Split:
    """All images of one split, in their stored order.

    Records are read and decoded in batches, in a quarter of the time that TFDS needs to do so one by one.

    Raises:
        DatasetError: files are damaged, images lack a label, or images differ in size and there is no `image_size`.
    """
    import tensorflow as tf

    as_stored = image_size is None or prepared.image_shape[:2] == (image_size, image_size)
    if as_stored and None in prepared.image_shape:
        raise DatasetError(f"the images in {prepared.directory} differ in size; set image_size to resize them all")
    try:
        with tf.device("CPU"):
            records = tf.data.TFRecordDataset(prepared.list_files(split)).batch(_READ_BATCH)
            batches = records.map(_build_decoder(prepared, as_stored), num_parallel_calls=tf.data.AUTOTUNE).prefetch(2)
            parts = [
                (images if as_stored else fit_encoded(images, prepared.image_shape[2] or 3, image_size or 0), labels)
                for images, labels in batches.as_numpy_iterator()
            ]
    except (tf.errors.OpError, OSError) as error:
        raise DatasetError(f"the {split} split in {prepared.directory} is damaged: {error}") from error
    images, labels = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    if len(labels) != prepared.split_sizes[split] or labels.min() < 0:
        raise DatasetError(
            f"the {split} split in {prepared.directory} should have {prepared.split_sizes[split]} labelled images; "
            f"it has {np.count_nonzero(labels >= 0)}"
        )
    return Split(images, labels)


def _build_decoder(prepared: PreparedDataset, decode_images: bool) -> Any:
    """A function from examples, (n,), to images, (n, rows, cols, channels) or still encoded, and labels, (n,)."""
    import tensorflow as tf

    features = {
        prepared.image_key: tf.io.FixedLenFeature([], tf.string),
        prepared.label_key: tf.io.FixedLenFeature([], tf.int64),
    }

    def decode_image(content: Any) -> Any:
        return tf.io.decode_image(content, channels=prepared.image_shape[2], expand_animations=False)

    def decode(records: Any) -> tuple[Any, Any]:
        examples = tf.io.parse_example(records, features)
        images = examples[prepared.image_key]
        if decode_images:
            images = tf.map_fn(decode_image, images, fn_output_signature=tf.TensorSpec(prepared.image_shape, tf.uint8))
        return images, examples[prepared.label_key]

    return decode


def _read_description(directory: Path) -> PreparedDataset:
    try:
        return _parse_description(directory)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DatasetError(f"the description of the dataset in {directory} cannot be read: {error!r}") from error


def _parse_description(directory: Path) -> PreparedDataset:
    info = json.loads((directory / "dataset_info.json").read_text(encoding="utf-8"))
    features = json.loads((directory / "features.json").read_text(encoding="utf-8"))["featuresDict"]["features"]
    sizes = {split["name"]: sum(map(int, split["shardLengths"])) for split in info["splits"]}
    shards = {split["name"]: len(split["shardLengths"]) for split in info["splits"]}
    if info.get("fileFormat", "tfrecord") != "tfrecord":
        raise DatasetError(f"the dataset in {directory} is stored as {info['fileFormat']}; only tfrecord can be read")
    for split, number in shards.items():
        found = len(list(directory.glob(f"*-{split}.tfrecord-*-of-{number:05d}")))
        if found != number:
            raise DatasetError(
                f"the dataset in {directory} is incomplete: it has {found} of the {number} files of its {split} split; "
                "delete the directory and prepare it again"
            )
    if "train" not in sizes:
        raise DatasetError(f"the dataset in {directory} has no split 'train'; it has {', '.join(sizes) or 'none'}")
    image_key, label_key = _find_keys(directory, info, features)
    return PreparedDataset(
        directory=directory,
        image_key=image_key,
        label_key=label_key,
        image_shape=_read_image_shape(directory, features[image_key]["image"]),
        class_names=_read_class_names(directory, label_key, features[label_key]["classLabel"]),
        split_sizes=sizes,
    )


def _find_keys(directory: Path, info: dict[str, Any], features: dict[str, Any]) -> tuple[str, str]:
    """The keys of the image and the label: the declared input and target, or else the only ones."""
    images = [key for key, feature in features.items() if "image" in feature]
    labels = [key for key, feature in features.items() if "classLabel" in feature]
    supervised = [item.get("featureKey") for item in info.get("supervisedKeys", {}).get("tuple", {}).get("items", [])]
    image = [key for key in images if key in supervised] or images
    label = [key for key in labels if key in supervised] or labels
    if len(image) != 1 or len(label) != 1:
        raise DatasetError(
            f"the dataset in {directory} does not consist of images with one class each: of its features "
            f"({', '.join(features)}), {len(images)} are images and {len(labels)} are class labels"
        )
    return image[0], label[0]


def _read_image_shape(directory: Path, feature: dict[str, Any]) -> tuple[int | None, int | None, int | None]:
    if feature.get("dtype", "uint8") != "uint8":
        raise DatasetError(f"the images in {directory} are {feature['dtype']}; only uint8 images can be used")
    sides = [int(side) for side in feature.get("shape", {}).get("dimensions", [-1, -1, 3])]
    rows, cols, channels = (side if side > 0 else None for side in sides)
    return rows, cols, channels


def _read_class_names(directory: Path, key: str, feature: dict[str, Any]) -> tuple[str, ...]:
    number = int(feature["numClasses"])
    path = directory / f"{key}.labels.txt"
    names = tuple(path.read_text(encoding="utf-8").splitlines()) if path.is_file() else ()
    return names if len(names) == number else tuple(map(str, range(number)))


def _find_version(directory: Path) -> Path | None:
    """The newest complete version in a dataset's directory, or None."""
    versions = [
        (tuple(map(int, match.groups())), path)
        for path in _subdirectories(directory)
        if (match := _VERSION.fullmatch(path.name)) and (path / "dataset_info.json").is_file()
    ]
    return max(versions)[1] if versions else None


def _subdirectories(directory: Path) -> list[Path]:
    try:
        return sorted(path for path in directory.iterdir() if path.is_dir())
    except (NotADirectoryError, FileNotFoundError, PermissionError):
        return []
