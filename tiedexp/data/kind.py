"""What a kind of dataset has to be able to do. The kinds there are stand in `tiedexp.data.sources.KINDS`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from tiedexp.data.splits import Split
from tiedexp.errors import DatasetError

Warn = Callable[[str], None]


@dataclass(frozen=True)
class Source:
    """Which images.

    Args:
        name: that of the kind, or of a dataset of TFDS.
        path: where a user's own images are.
        data_dir: TFDS data directory; None for $TFDS_DATA_DIR or ~/tensorflow_datasets.
    """

    name: str
    path: Path | None = None
    data_dir: Path | None = None

    @property
    def own_path(self) -> Path:
        """The path, for the kinds that need one; DatasetError if there is none."""
        if self.path is None:
            raise DatasetError(f"the dataset '{self.name}' needs a path")
        return self.path


class Description(NamedTuple):
    """What is known without reading the images; `test_images` is None where no image is meant for the test."""

    image_shape: tuple[int, int, int]
    num_classes: int
    train_images: int
    test_images: int | None


class Images(NamedTuple):
    """All images, those for the test being None where there are none, and one name per class."""

    train: Split
    test: Split | None
    class_names: tuple[str, ...]


class DatasetKind(ABC):
    """A kind of dataset.

    Only `load` may need TensorFlow, and only that of TFDS does. All methods raise DatasetError where the data is
    missing or damaged.
    """

    @property
    @abstractmethod
    def meaning(self) -> str:
        """What it is, in a few words."""

    @abstractmethod
    def describe(self, source: Source, image_size: int | None, warn: Warn) -> Description:
        """Shape and counts, from headers alone; images that differ in size have the side `image_size`."""

    @abstractmethod
    def load(self, source: Source, image_size: int | None, warn: Warn) -> Images:
        """The images; those that differ in size are brought to the side `image_size`."""

    @abstractmethod
    def check(self, source: Source) -> None:
        """Fail at once if the data is not there."""


class FileKind(DatasetKind):
    """A kind of dataset whose images are a user's own files: a spec gives their path."""

    @property
    @abstractmethod
    def example_path(self) -> str:
        """The path in a spec to start from."""

    @abstractmethod
    def is_at(self, path: Path) -> bool:
        """Whether what a user names by its path alone is of this kind."""

    @abstractmethod
    def list_files(self, path: Path) -> Sequence[Path]:
        """The files that the images are in."""
