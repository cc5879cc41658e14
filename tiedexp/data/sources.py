"""Datasets by name, as uint8 arrays.

`KINDS` has the kinds that have a name: embedded images, and a user's own. Every other name is a dataset of TensorFlow
Datasets that was prepared on this machine. Nothing here touches the network (`archives.prepare_dataset` does), and only
`load_dataset` of a TFDS name imports TensorFlow.
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
    """The kind of a dataset."""
    return KINDS.get(name) or Tfds(others=tuple(KINDS))


def list_file_kinds() -> dict[str, FileKind]:
    """The kinds whose images are a user's own files, by name."""
    return {name: kind for name, kind in KINDS.items() if isinstance(kind, FileKind)}


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
    warn: Warn = lambda text: None,
) -> Dataset:
    """Load a dataset into memory.

    A TFDS set without a test split is tested on its validation split; a dataset with neither gets a fixed, stratified
    division into 80% and 20%, the same on every machine.

    Args:
        name: one of `KINDS`, or a dataset of TFDS.
        path: of a user's own images.
        data_dir: TFDS data directory; None for $TFDS_DATA_DIR or ~/tensorflow_datasets.
        image_size: bring the images to this side, in pixels: the middle square, scaled.
        limit: at most this many images of each split; which ones is fixed, the classes taking turns.
        hold_out_test: divide a dataset that has neither; False takes all its images for both training and test.
        warn: told what the user may not expect, such as grey images that are read in colour.

    Raises:
        DatasetError: the data is missing, damaged or not fit for classification.
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
    """Shapes and counts, from headers and descriptions alone and without TensorFlow; arguments as `load_dataset`.

    A common TFDS set need not be prepared: the catalogue knows it.

    Raises:
        DatasetError: nothing is known about the dataset.
    """
    shape, num_classes, train, test = find_kind(name).describe(Source(name, path, data_dir), image_size, warn)
    if image_size is not None:
        shape = (image_size, image_size, shape[2])
    return DatasetShape(shape, num_classes, *(count_test_split(train) if test is None else (train, test)))


def parse_source(text: str) -> tuple[str, Path | None]:
    """(name, path) of what a user may write for a dataset: a name, a directory of images, or an .npz file."""
    path = Path(text)
    if text in KINDS or text in CATALOGUE:
        return text, None
    return next(((name, path) for name, kind in list_file_kinds().items() if kind.is_at(path)), (text, None))


def check_prepared(name: str, *, path: Path | None = None, data_dir: Path | None = None) -> None:
    """Fail at once, without TensorFlow, if the data is not there; arguments as `load_dataset`.

    Raises:
        DatasetError: what is missing, where it was looked for, and the command that prepares it.
    """
    find_kind(name).check(Source(name, path, data_dir))


def stamp_files(name: str, path: Path) -> str:
    """Sixteen hexadecimal digits of the names, sizes and times of a user's own files.

    Raises:
        DatasetError: there are no such files.
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
