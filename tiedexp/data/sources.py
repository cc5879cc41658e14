"""Datasets by name, as uint8 arrays.

`digits` comes with scikit-learn; `folder` and `npz` are a user's own images; every other name is a dataset of
TensorFlow Datasets that was prepared on this machine. Nothing here touches the network (`archives.prepare_dataset`
does), and only `load_dataset` of a TFDS name imports TensorFlow.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tiedexp.data import folder, npz
from tiedexp.data.catalogue import CATALOGUE, OWN_DATASETS
from tiedexp.data.images import fit_images
from tiedexp.data.prepared import (
    find_data_dir,
    find_prepared,
    list_prepared,
    load_prepared,
)
from tiedexp.data.splits import (
    Split,
    compute_fingerprint,
    count_test_split,
    limit_split,
    split_test,
)
from tiedexp.data.splits import split_validation as _split_validation
from tiedexp.errors import DatasetError

__all__ = [
    "OWN_DATASETS",
    "Dataset",
    "DatasetShape",
    "Split",
    "check_prepared",
    "describe_dataset",
    "find_data_dir",
    "list_prepared",
    "load_dataset",
    "parse_source",
    "stamp_files",
]


_DIGITS_IMAGES = 1797
_DIGITS_SIDE = 8
_DIGITS_WHITE = 16


@dataclass(frozen=True)
class Dataset:
    """A dataset in memory.

    Args:
        name: as it was asked for.
        train: the training split.
        test: the test split.
        class_names: one a class, in order.
        image_shape: (rows, cols, channels).
        num_classes: number of classes.
        fingerprint: sixteen hexadecimal digits of SHA-256 of the arrays: the same data, the same digits.
        test_is_set_aside: whether the test images were training images, of a dataset without any for the test.
    """

    name: str
    train: Split
    test: Split
    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    num_classes: int
    fingerprint: str
    test_is_set_aside: bool = False

    def split_validation(self, size: int | float, seed: int) -> tuple[Split, Split]:
        """The training images in two: those to train on, and those for validation; see `splits.split_validation`.

        Raises:
            DatasetError: too few images, or too few of a class, to have every class on both sides.
        """
        return _split_validation(
            self.train, size, seed, self.class_names, self.test if self.test_is_set_aside else None
        )


@dataclass(frozen=True)
class DatasetShape:
    """What is known of a dataset without loading it; the arguments are as in `Dataset`, and counts of images."""

    image_shape: tuple[int, int, int]
    num_classes: int
    train_images: int
    test_images: int


def load_dataset(
    name: str,
    *,
    path: Path | None = None,
    data_dir: Path | None = None,
    image_size: int | None = None,
    limit: int | None = None,
    hold_out_test: bool = True,
    warn: Callable[[str], None] = lambda text: None,
) -> Dataset:
    """Load a dataset into memory.

    A TFDS set without a test split is tested on its validation split; a dataset with neither gets a fixed, stratified
    division into 80% and 20%, the same on every machine.

    Args:
        name: digits, folder, npz, or a dataset of TFDS.
        path: the directory of `folder`, the file of `npz`.
        data_dir: TFDS data directory; None for $TFDS_DATA_DIR or ~/tensorflow_datasets.
        image_size: bring the images to this side, in pixels: the middle square, scaled.
        limit: at most this many images of each split; which ones is fixed, the classes taking turns.
        hold_out_test: divide a dataset that has neither; False takes all its images for both training and test.
        warn: told what the user may not expect, such as grey images that are read in colour.

    Raises:
        DatasetError: the data is missing, damaged or not fit for classification.
    """
    train, test, class_names = _load_arrays(name, path, data_dir, image_size, warn)
    test_is_set_aside = test is None and hold_out_test
    if test is None:
        train, test = split_test(train, class_names) if hold_out_test else (train, train)
    if limit is not None:
        train, test = limit_split(train, limit), limit_split(test, limit)
    if image_size is not None:
        train, test = (Split(fit_images(split.images, image_size), split.labels) for split in (train, test))
    rows, cols, channels = train.images.shape[1:]
    return Dataset(
        name=name,
        train=train,
        test=test,
        class_names=class_names,
        image_shape=(rows, cols, channels),
        num_classes=len(class_names),
        fingerprint=compute_fingerprint((train, test)),
        test_is_set_aside=test_is_set_aside,
    )


def describe_dataset(
    name: str,
    *,
    path: Path | None = None,
    data_dir: Path | None = None,
    image_size: int | None = None,
    warn: Callable[[str], None] = lambda text: None,
) -> DatasetShape:
    """Shapes and counts, from headers and descriptions alone and without TensorFlow; arguments as `load_dataset`.

    A common TFDS set need not be prepared: the catalogue knows it.

    Raises:
        DatasetError: nothing is known about the dataset.
    """
    shape, num_classes, train, test = _describe(name, path, find_data_dir(data_dir), image_size, warn)
    if image_size is not None:
        shape = (image_size, image_size, shape[2])
    return DatasetShape(shape, num_classes, *(count_test_split(train) if test is None else (train, test)))


def parse_source(text: str) -> tuple[str, Path | None]:
    """(name, path) of what a user may write for a dataset: a name, a directory of images, or an .npz file."""
    path = Path(text)
    if text in OWN_DATASETS or text in CATALOGUE:
        return text, None
    if path.is_dir():
        return "folder", path
    return ("npz", path) if path.suffix == ".npz" else (text, None)


def check_prepared(name: str, *, path: Path | None = None, data_dir: Path | None = None) -> None:
    """Fail at once, without TensorFlow, if the data is not there; arguments as `load_dataset`.

    Raises:
        DatasetError: what is missing, where it was looked for, and the command that prepares it.
    """
    if name == "digits":
        return
    if name == "folder":
        folder.find_images(_own_path(name, path))
    elif name == "npz":
        npz.describe_npz(_own_path(name, path))
    else:
        find_prepared(name, find_data_dir(data_dir))


def stamp_files(name: str, path: Path) -> str:
    """Sixteen hexadecimal digits of the names, sizes and times of the files of `folder` or `npz`.

    Raises:
        DatasetError: there are no such files.
    """
    files = [path]
    if name == "folder":
        images = folder.find_images(path)
        files = [file for file, _ in images.train + (images.test or ())]
    digest = hashlib.sha256()
    try:
        for file in files:
            status = file.stat()
            about = (file.relative_to(path).as_posix(), status.st_size, status.st_mtime_ns)
            digest.update(repr(about).encode(errors="surrogateescape"))
    except OSError as error:
        raise DatasetError(f"{file} cannot be read: {error.strerror}") from error
    return digest.hexdigest()[:16]


def _load_arrays(
    name: str, path: Path | None, data_dir: Path | None, image_size: int | None, warn: Callable[[str], None]
) -> tuple[Split, Split | None, tuple[str, ...]]:
    """(training images, test images if there are any, class names)."""
    if name == "digits":
        return _load_digits(), None, tuple("0123456789")
    if name == "folder":
        return folder.load_folder(_own_path(name, path), image_size, warn)
    if name == "npz":
        return npz.load_npz(_own_path(name, path))
    prepared = find_prepared(name, find_data_dir(data_dir))
    train = load_prepared(prepared, "train", image_size)
    test = None if prepared.test_split is None else load_prepared(prepared, prepared.test_split, image_size)
    return train, test, prepared.class_names


def _describe(
    name: str, path: Path | None, data_dir: Path, image_size: int | None, warn: Callable[[str], None]
) -> tuple[tuple[int, int, int], int, int, int | None]:
    """(image shape, classes, training images, test images if there are any)."""
    if name == "digits":
        return (_DIGITS_SIDE, _DIGITS_SIDE, 1), 10, _DIGITS_IMAGES, None
    if name == "folder":
        shape, files = folder.describe_folder(_own_path(name, path), image_size, warn)
        return shape, len(files.class_names), len(files.train), None if files.test is None else len(files.test)
    if name == "npz":
        return npz.describe_npz(_own_path(name, path))
    if name in CATALOGUE and name not in list_prepared(data_dir):
        entry = CATALOGUE[name]
        return entry.image_shape, entry.num_classes, entry.train_images, entry.test_images
    prepared = find_prepared(name, data_dir)
    rows, cols, channels = prepared.image_shape
    if image_size is None and (rows is None or cols is None or channels is None):
        raise DatasetError(f"the images of '{name}' differ in size; set image_size to bring all to one")
    sizes = prepared.split_sizes
    test = None if prepared.test_split is None else sizes[prepared.test_split]
    return (rows or 0, cols or 0, channels or 3), len(prepared.class_names), sizes["train"], test


def _own_path(name: str, path: Path | None) -> Path:
    if path is None:
        raise DatasetError(f"the dataset '{name}' needs a path")
    return path


def _load_digits() -> Split:
    """scikit-learn's copy of the UCI optical digits, 0..16 to 0..255."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = np.rint(digits.images * (255 / _DIGITS_WHITE)).astype(np.uint8)[..., np.newaxis]
    return Split(images, digits.target.astype(np.int64))
