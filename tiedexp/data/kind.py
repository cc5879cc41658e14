"""The interface of a kind of dataset. The available kinds are listed in `tiedexp.data.sources.KINDS`."""

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
    """Where the images of a dataset come from.

    Args:
        name: the name of the kind, or of a TFDS dataset.
        path: the path of the user's own images.
        data_dir: TFDS data directory; None for $TFDS_DATA_DIR or ~/tensorflow_datasets.
    """

    name: str
    path: Path | None = None
    data_dir: Path | None = None

    @property
    def own_path(self) -> Path:
        """The path, for kinds that need one; DatasetError if there is none."""
        if self.path is None:
            raise DatasetError(f"the dataset '{self.name}' needs a path")
        return self.path


class Description(NamedTuple):
    """Facts known without reading the images; `test_images` is None if the dataset has no test images."""

    image_shape: tuple[int, int, int]
    num_classes: int
    train_images: int
    test_images: int | None


class Images(NamedTuple):
    """All images, with None if there are no test images, and one name per class."""

    train: Split
    test: Split | None
    class_names: tuple[str, ...]


class DatasetKind(ABC):
    """A kind of dataset.

    Only `load` may import TensorFlow, which only TFDS does. All methods raise DatasetError if the data is missing or
    damaged.
    """

    @property
    @abstractmethod
    def meaning(self) -> str:
        """A description in a few words."""

    @abstractmethod
    def describe(self, source: Source, image_size: int | None, warn: Warn) -> Description:
        """Shape and counts, from headers alone; if the images differ in size, the side is `image_size`."""

    @abstractmethod
    def load(self, source: Source, image_size: int | None, warn: Warn) -> Images:
        """The images; if they differ in size, they are resized to `image_size`."""

    @abstractmethod
    def check(self, source: Source) -> None:
        """Fail at once if the data is missing."""


class FileKind(DatasetKind):
    """A kind of dataset that reads the user's own files, whose path is in the spec."""

    @property
    @abstractmethod
    def example_path(self) -> str:
        """The path in a spec that `tiedexp init` writes."""

    @abstractmethod
    def is_at(self, path: Path) -> bool:
        """Whether the data at a path is of this kind."""

    @abstractmethod
    def list_files(self, path: Path) -> Sequence[Path]:
        """The files that contain the images."""
