"""Loads datasets by name, as uint8 arrays.

`KINDS` lists the kinds with a name: built-in images, and the user's own. Every other name is a dataset of TensorFlow
Datasets that has been prepared on this machine. Nothing here uses the network (`archives.prepare_dataset` does), and
only loading a TFDS dataset imports TensorFlow.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from tiedexp.data.catalogue import CATALOGUE
from tiedexp.data.digits import Digits
from tiedexp.data.folder import Folder
from tiedexp.data.images import fit_images
from tiedexp.data.kind import DatasetKind, FileKind, Source, Warn
from tiedexp.data.npz import Npz
from tiedexp.data.prepared import Tfds, find_data_dir, list_prepared
from tiedexp.data.splits import Split, compute_fingerprint, count_test_split, limit_split, split_test
from tiedexp.data.splits import split_validation as _split_validation
from tiedexp.errors import DatasetError

__all__ = [
    "KINDS",
    "Dataset",
    "DatasetShape",
    "Split",
    "check_prepared",
    "describe_dataset",
    "find_data_dir",
    "list_file_kinds",
    "list_prepared",
    "load_dataset",
    "parse_source",
    "stamp_files",
]

KINDS: dict[str, DatasetKind] = {"digits": Digits(), "folder": Folder(), "npz": Npz()}


def find_kind(name: str) -> DatasetKind:
    """The kind of the dataset with this name."""
    return KINDS.get(name) or Tfds(others=tuple(KINDS))


def list_file_kinds() -> dict[str, FileKind]:
    """The kinds that read the user's own files, by name."""
    return {name: kind for name, kind in KINDS.items() if isinstance(kind, FileKind)}


@dataclass(frozen=True)
class Dataset:
    """A dataset in memory.

    Args:
        name: the name by which it was loaded.
        train: the training split.
        test: the test split.
        class_names: one name per class, in order.
        image_shape: (rows, cols, channels).
        num_classes: number of classes.
        fingerprint: 16 hexadecimal digits of the SHA-256 of the arrays, which identify the data.
        test_is_set_aside: whether the test images were split off the training images, because there were none.
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
        """The training images, divided into those to train on and those for validation; see `splits.split_validation`.

        Raises:
            DatasetError: there are too few images, in total or of a class, to have every class in both parts.
        """
        return _split_validation(
            self.train, size, seed, self.class_names, self.test if self.test_is_set_aside else None
        )


@dataclass(frozen=True)
class DatasetShape:
    """Facts known about a dataset without loading it: image shape, see `Dataset`, and numbers of classes and images."""

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
    warn: Warn = lambda text: None,
) -> Dataset:
    """Load a dataset into memory.

    A TFDS dataset without a test split is tested on its validation split. A dataset with neither is divided into 80%
    training and 20% test images, stratified and the same on every machine.

    Args:
        name: a key of `KINDS`, or the name of a TFDS dataset.
        path: the path of the user's own images.
        data_dir: TFDS data directory; None for $TFDS_DATA_DIR or ~/tensorflow_datasets.
        image_size: crop the images to their central square and resize it to this side, in pixels.
        limit: use at most this many images of each split, always the same ones, with classes balanced.
        hold_out_test: whether to divide a dataset that has neither; False uses all images for both training and test.
        warn: is called with what the user may not expect, e.g. that grey images are read in colour.

    Raises:
        DatasetError: the data is missing, damaged or not suitable for classification.
    """
    train, test, class_names = find_kind(name).load(Source(name, path, data_dir), image_size, warn)
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
    warn: Warn = lambda text: None,
) -> DatasetShape:
    """Shapes and counts, from headers and descriptions alone and without TensorFlow; for arguments see `load_dataset`.

    Common TFDS datasets need not be prepared, because they are in the catalogue.

    Raises:
        DatasetError: nothing is known about the dataset.
    """
    shape, num_classes, train, test = find_kind(name).describe(Source(name, path, data_dir), image_size, warn)
    if image_size is not None:
        shape = (image_size, image_size, shape[2])
    return DatasetShape(shape, num_classes, *(count_test_split(train) if test is None else (train, test)))


def parse_source(text: str) -> tuple[str, Path | None]:
    """The (name, path) of a dataset given as a name, a directory of images, or an .npz file."""
    path = Path(text)
    if text in KINDS or text in CATALOGUE:
        return text, None
    return next(((name, path) for name, kind in list_file_kinds().items() if kind.is_at(path)), (text, None))


def check_prepared(name: str, *, path: Path | None = None, data_dir: Path | None = None) -> None:
    """Fail at once, without TensorFlow, if the data is missing; for arguments see `load_dataset`.

    Raises:
        DatasetError: says what is missing, where it was expected, and which command prepares it.
    """
    find_kind(name).check(Source(name, path, data_dir))


def stamp_files(name: str, path: Path) -> str:
    """16 hexadecimal digits that identify the names, sizes and times of the user's own files.

    Raises:
        DatasetError: the files cannot be found or read.
    """
    digest = hashlib.sha256()
    try:
        for file in list_file_kinds()[name].list_files(path):
            status = file.stat()
            about = (file.relative_to(path).as_posix(), status.st_size, status.st_mtime_ns)
            digest.update(repr(about).encode(errors="surrogateescape"))
    except OSError as error:
        raise DatasetError(f"{file} cannot be read: {error.strerror}") from error
    return digest.hexdigest()[:16]
