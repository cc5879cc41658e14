"""The user's own images, as arrays in one NumPy archive. Nothing in it is ever unpickled."""

from __future__ import annotations

import io
import math
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from lzma import LZMAError
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tiedexp.data.kind import Description, FileKind, Images, Source, Warn
from tiedexp.data.splits import Split
from tiedexp.errors import DatasetError

# Compressed images have a tenth of their original size, blank ones a thousandth.
_MAX_UNPACKED = 2**30
_MAX_EXPANSION = 200
_MAX_HEADER = 16 * 2**10

_HEADER_READERS: dict[tuple[int, int], Any] = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


class Npz(FileKind):
    """Arrays in one NumPy archive."""

    meaning = "a NumPy archive with the arrays x_train, y_train, x_test and y_test"
    example_path = "images.npz"

    def is_at(self, path: Path) -> bool:
        return path.suffix == ".npz"

    def describe(self, source: Source, image_size: int | None, warn: Warn) -> Description:
        return describe_npz(source.own_path)

    def load(self, source: Source, image_size: int | None, warn: Warn) -> Images:
        return load_npz(source.own_path)

    def check(self, source: Source) -> None:
        describe_npz(source.own_path)

    def list_files(self, path: Path) -> list[Path]:
        return [path]


def load_npz(path: Path) -> Images:
    """The arrays `x_train` and `y_train` and, if present, `x_test` and `y_test`.

    Images are (n, rows, cols) or (n, rows, cols, channels), as uint8 or as floats from 0 to 1; labels are whole numbers
    from 0, (n,) or (n, 1). An optional array of strings, `class_names`, names the classes.

    Raises:
        DatasetError: the file is not an archive, or arrays are missing, of the wrong type, or inconsistent.
    """
    arrays = _read_arrays(path, ("x_train", "y_train", "x_test", "y_test"))
    train = Split(_as_images(path, "x_train", arrays["x_train"]), _as_labels(path, "train", arrays))
    test = None
    if "x_test" in arrays:
        test = Split(_as_images(path, "x_test", arrays["x_test"]), _as_labels(path, "test", arrays))
        if test.images.shape[1:] != train.images.shape[1:]:
            raise DatasetError(
                f"{path}: x_train has images {train.images.shape[1:]}, but x_test has {test.images.shape[1:]}"
            )
    return Images(train, test, _read_class_names(path, arrays))


def describe_npz(path: Path) -> Description:
    """The content of an archive, without reading the images.

    Raises:
        DatasetError: see `load_npz`; errors in the images themselves are not found.
    """
    arrays = _read_arrays(path, ("y_train", "y_test"))
    labels = _as_labels(path, "train", arrays)
    shape = _as_image_shape(path, "x_train", _read_shape(path, "x_train"))
    test = len(_as_labels(path, "test", arrays)) if "y_test" in arrays else None
    return Description(shape, len(_read_class_names(path, arrays)), len(labels), test)


def _read_arrays(path: Path, names: tuple[str, ...]) -> dict[str, npt.NDArray[Any]]:
    """The arrays that are present, including `class_names`; images and labels must be present together."""
    with _readable(path), path.open("rb") as file:  # np.load would leave its own file open if it fails
        archive = np.load(file, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise DatasetError(f"{path} is one array, not an .npz archive; write it with np.savez")
        _check_names(path, archive.files)
        present = [name for name in (*names, "class_names") if name in archive.files]
        assert archive.zip is not None  # it is not closed
        _check_sizes(path, archive.zip, present)
        return {name: archive[name] for name in present}


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turn what NumPy and zipfile raise for truncated, invalid or encrypted files into a DatasetError."""
    try:
        yield
    except FileNotFoundError:
        raise DatasetError(f"there is no file {path}") from None
    except (OSError, ValueError, EOFError, RuntimeError, KeyError, zipfile.BadZipFile, zlib.error, LZMAError) as error:
        raise DatasetError(f"{path} is not a readable .npz archive of plain arrays: {error}") from error


def _check_names(path: Path, names: list[str]) -> None:
    required = ["x_train", "y_train"]
    if "x_test" in names or "y_test" in names:
        required += ["x_test", "y_test"]
    missing = [name for name in required if name not in names]
    if missing:
        raise DatasetError(f"{path} has no array {', '.join(missing)}; it has {', '.join(names) or 'none'}")


def _check_sizes(path: Path, archive: zipfile.ZipFile, names: list[str]) -> None:
    """Refuse arrays whose headers claim a wrong size, and few bytes that unpack to very many."""
    total = packed = 0
    for name in names:
        shape, dtype, header = _read_header(path, archive, name)
        member = archive.getinfo(_member_name(archive, name))
        size = math.prod(shape) * dtype.itemsize
        if not dtype.hasobject and header + size != member.file_size:
            raise DatasetError(
                f"{path}: {name}, an array {shape} of {dtype}, should have {size} bytes, but the file has "
                f"{member.file_size - header} for it"
            )
        total, packed = total + size, packed + member.compress_size
    if total > max(_MAX_UNPACKED, _MAX_EXPANSION * packed):
        raise DatasetError(
            f"{path} has {packed} bytes that unpack to {total}, more than {_MAX_EXPANSION} times as many; images "
            "do not compress so well, but if these are images, write them with np.savez, which does not compress"
        )


def _read_shape(path: Path, name: str) -> tuple[int, ...]:
    with _readable(path), zipfile.ZipFile(path) as archive:
        return _read_header(path, archive, name)[0]


def _read_header(path: Path, archive: zipfile.ZipFile, name: str) -> tuple[tuple[int, ...], np.dtype[Any], int]:
    """The shape, type and header length of an array."""
    with archive.open(_member_name(archive, name)) as member:
        begin = io.BytesIO(member.read(_MAX_HEADER))
        version = np.lib.format.read_magic(begin)
        if version not in _HEADER_READERS:
            raise DatasetError(f"{path}: {name} is in version {version} of the .npy format; write it with np.savez")
        try:
            with warnings.catch_warnings(action="ignore", category=UserWarning):  # for arrays written by Python 2
                shape, _, dtype = _HEADER_READERS[version](begin)
        except (tokenize.TokenError, TypeError, MemoryError, RecursionError) as error:  # from Python's parser
            raise ValueError(f"the header of {name} is damaged: {error or 'nested too deep'}") from error
        if not all(type(side) is int and side >= 0 for side in shape):
            raise ValueError(f"the header of {name} is damaged: its shape is {shape}")
        return shape, dtype, begin.tell()


def _member_name(archive: zipfile.ZipFile, name: str) -> str:
    """The file name of an array, which can lack the ending `.npy`."""
    return name if name in archive.namelist() else f"{name}.npy"


def _as_image_shape(path: Path, name: str, shape: tuple[int, ...]) -> tuple[int, int, int]:
    if len(shape) not in (3, 4) or 0 in shape:
        raise DatasetError(
            f"{path}: {name} must have the shape (images, rows, cols) or (images, rows, cols, channels), without "
            f"zeros; it is {shape}"
        )
    if len(shape) == 4 and _seems_channels_first(shape[1:]):
        raise DatasetError(
            f"{path}: {name} is {shape}, which means images of {shape[1]}x{shape[2]} with {shape[3]} channels, because "
            f"channels come last; if there are {shape[1]} channels, use np.moveaxis({name}, 1, -1)"
        )
    return shape[1], shape[2], shape[3] if len(shape) == 4 else 1


def _seems_channels_first(shape: tuple[int, ...]) -> bool:
    """Whether a shape is probably (channels, rows, cols), as in PyTorch, and not (rows, cols, channels).

    One row with many channels can be a signal over time, unless its length equals the number of channels.
    """
    first, second, third = shape
    return min(second, third) > 4 and (first in (3, 4) or (first == 1 and second == third))


def _as_images(path: Path, name: str, array: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    shape = _as_image_shape(path, name, array.shape)
    if np.issubdtype(array.dtype, np.floating):
        low, high = float(array.min()), float(array.max())
        if not 0.0 <= low <= high <= 1.0:
            raise DatasetError(f"{path}: floats in {name} must be from 0 to 1; they are from {low} to {high}")
        array = np.rint(array * 255).astype(np.uint8)
    if array.dtype != np.uint8:
        raise DatasetError(
            f"{path}: {name} must be uint8, or floats from 0 to 1; it is {array.dtype} (convert with .astype('uint8'))"
        )
    return array.reshape(len(array), *shape)


def _as_labels(path: Path, split: str, arrays: dict[str, npt.NDArray[Any]]) -> npt.NDArray[np.int64]:
    name = f"y_{split}"
    labels = arrays[name]
    labels = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer) or not labels.size:
        raise DatasetError(
            f"{path}: {name} must contain class numbers, which are integers, with the shape (images,); "
            f"it is {arrays[name].dtype} {arrays[name].shape}"
        )
    images = arrays.get(f"x_{split}")
    if images is not None and len(images) != len(labels):
        raise DatasetError(f"{path}: x_{split} has {len(images)} images, but {name} has {len(labels)} labels")
    if labels.min() < 0:
        raise DatasetError(f"{path}: class numbers in {name} must start from 0; the lowest is {labels.min()}")
    return labels.astype(np.int64)


def _read_class_names(path: Path, arrays: dict[str, npt.NDArray[Any]]) -> tuple[str, ...]:
    """The class names; without them, the class numbers up to the highest in the training labels."""
    present = np.unique(arrays["y_train"])
    trained = int(present.max()) + 1
    if "class_names" in arrays:
        names = tuple(str(name) for name in arrays["class_names"].ravel())
        if len(names) < trained:
            raise DatasetError(f"{path}: class_names has {len(names)} names, but y_train contains class {trained - 1}")
        trained = len(names)
    else:
        if len(present) < trained:
            absent = next(number for number, label in enumerate(present) if number != label)
            raise DatasetError(f"{path}: y_train contains classes up to {trained - 1}, but no image of class {absent}")
        names = tuple(map(str, range(trained)))
    if "y_test" in arrays and int(arrays["y_test"].max()) >= trained:
        raise DatasetError(
            f"{path}: y_test contains class {int(arrays['y_test'].max())}, but the highest class is {trained - 1}"
        )
    return names
