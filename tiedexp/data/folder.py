"""The user's own images, in one directory per class."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from tiedexp.data.images import EXTENSIONS, THREADS, load_image, read_image_header
from tiedexp.data.kind import Description, FileKind, Images, Source, Warn
from tiedexp.data.splits import Split
from tiedexp.errors import DatasetError


@dataclass(frozen=True)
class ImageFolder:
    """The files of a folder dataset, not yet decoded.

    Args:
        class_names: the names of the class directories, sorted.
        train: pairs of a file and the number of its class.
        test: the same for the test images; None if there is no test directory.
    """

    class_names: tuple[str, ...]
    train: tuple[tuple[Path, int], ...]
    test: tuple[tuple[Path, int], ...] | None

    @property
    def files(self) -> list[Path]:
        """All files."""
        return [path for path, _ in self.train + (self.test or ())]


class Folder(FileKind):
    """A directory that contains one directory of images per class."""

    meaning = "a directory with one directory of images per class"
    example_path = "images"

    def is_at(self, path: Path) -> bool:
        return path.is_dir()

    def describe(self, source: Source, image_size: int | None, warn: Warn) -> Description:
        shape, folder = describe_folder(source.own_path, image_size, warn)
        test = None if folder.test is None else len(folder.test)
        return Description(shape, len(folder.class_names), len(folder.train), test)

    def load(self, source: Source, image_size: int | None, warn: Warn) -> Images:
        shape, folder = describe_folder(source.own_path, image_size, warn)
        train = _load_split(folder.train, shape, image_size)
        test = None if folder.test is None else _load_split(folder.test, shape, image_size)
        return Images(train, test, folder.class_names)

    def check(self, source: Source) -> None:
        find_images(source.own_path)

    def list_files(self, path: Path) -> list[Path]:
        return find_images(path).files


def find_images(root: Path) -> ImageFolder:
    """The images in `root/train/CLASS/` and `root/test/CLASS/`, or in `root/CLASS/`, including subdirectories.

    Raises:
        DatasetError: the directory is missing, there are no classes, a class has no images, or a class is only in test.
    """
    if not root.is_dir():
        raise DatasetError(f"there is no directory {root}")
    divided = bool(_subdirectories(root / "train"))
    if not divided and (root / "test").is_dir():
        raise DatasetError(f"{root} has test/, but no train/ with class directories")
    train_root = root / "train" if divided else root
    names = tuple(path.name for path in _subdirectories(train_root))
    if not names:
        raise DatasetError(
            f"{root} has no class directories; expected train/CLASS/*.png and test/CLASS/*.png, or CLASS/*.png"
        )
    test_root = root / "test"
    if not divided or not test_root.is_dir():
        return ImageFolder(names, _list_images(train_root, names), None)
    test_names = [path.name for path in _subdirectories(test_root)]
    unknown = [name for name in test_names if name not in names]
    if unknown or not test_names:
        raise DatasetError(
            f"the class directories of {test_root} must be among those of {train_root}; "
            + (f"missing there: {', '.join(unknown)}" if unknown else "it has none")
        )
    test = [(path, names.index(name)) for name in test_names for path, _ in _list_images(test_root, (name,))]
    return ImageFolder(names, _list_images(train_root, names), tuple(test))


def describe_folder(root: Path, image_size: int | None, warn: Warn) -> tuple[tuple[int, int, int], ImageFolder]:
    """The (rows, cols, channels) of the images, and their files; reads all headers but decodes no image.

    If any image is in colour, all are read as RGB; otherwise they have one channel.

    Args:
        root: the directory.
        image_size: the side that images are resized to.
        warn: is called if only some of the images are grey.

    Raises:
        DatasetError: see `find_images`; or a file is unreadable, or sizes differ and there is no `image_size`.
    """
    folder = find_images(root)
    files = folder.files
    with ThreadPoolExecutor(THREADS) as pool:
        headers = list(pool.map(read_image_header, files))
    channels = _find_channels([channels for _, channels in headers], files, warn)
    if image_size is not None:
        return (image_size, image_size, channels), folder
    (rows, cols), _ = headers[0]
    for path, (size, _) in zip(files, headers, strict=True):
        if size != (rows, cols):
            raise DatasetError(
                f"the images differ in size: {files[0]} is {rows}x{cols}, {path} is {size[0]}x{size[1]}; "
                "set image_size to resize them all"
            )
    return (rows, cols, channels), folder


def _find_channels(channels: Sequence[int], files: Sequence[Path], warn: Warn) -> int:
    """3 if any image is in colour, else 1."""
    colour = [path for path, number in zip(files, channels, strict=True) if number > 1]
    if 0 < len(colour) < len(files):
        grey = len(files) - len(colour)
        rare = colour[0] if len(colour) <= grey else files[channels.index(1)]
        kind = "is in colour or has transparency" if rare is colour[0] else "is grey"
        warn(
            f"the images are mixed, with {grey:,} grey and {len(colour):,} in colour ({rare} {kind}): "
            "all are read in colour, with 3 channels"
        )
    return 3 if colour else 1


def _load_split(files: Sequence[tuple[Path, int]], shape: tuple[int, int, int], image_size: int | None) -> Split:
    images = np.empty((len(files), *shape), dtype=np.uint8)
    load = partial(load_image, channels=shape[2], image_size=image_size)
    with ThreadPoolExecutor(THREADS) as pool:
        for number, image in enumerate(pool.map(load, [path for path, _ in files])):
            images[number] = image
    return Split(images, np.array([label for _, label in files], dtype=np.int64))


def _subdirectories(directory: Path) -> list[Path]:
    if not directory.is_dir():
        return []
    return sorted(path for path in directory.iterdir() if path.is_dir() and not path.name.startswith("."))


def _list_images(root: Path, names: Sequence[str]) -> tuple[tuple[Path, int], ...]:
    """Files of the class directories with their class numbers, in an order that is the same on every machine."""
    files: list[tuple[Path, int]] = []
    for label, name in enumerate(names):
        found = sorted(
            path
            for path in (root / name).rglob("*")
            if path.suffix.lower() in EXTENSIONS and not path.name.startswith(".")
        )
        if not found:
            raise DatasetError(f"the class directory {root / name} has no images ({', '.join(EXTENSIONS)})")
        files += [(path, label) for path in found]
    return tuple(files)
