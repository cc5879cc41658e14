"""Splits of a dataset, and their division: stratified, exact and reproducible."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import numpy as np
import numpy.typing as npt

from tiedexp.errors import DatasetError

TEST_SHARE = 0.2  # of the images of a dataset without test images
_FIXED_SEED = 0  # for the divisions that must never change: the test split and `limit`


@dataclass(frozen=True)
class Split:
    """Images and their labels.

    Args:
        images: uint8, (images, rows, cols, channels).
        labels: int64, (images,), the class number of each image.
    """

    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]

    def __post_init__(self) -> None:
        if self.images.dtype != np.uint8 or self.images.ndim != 4 or self.labels.shape != self.images.shape[:1]:
            raise ValueError(
                f"a split is uint8 images (n, rows, cols, channels) and n labels. Received: {self.images.dtype} "
                f"{self.images.shape} and labels {self.labels.shape}"
            )

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: npt.NDArray[Any]) -> Split:
        """The images with these indices, in this order."""
        return Split(self.images[indices], self.labels[indices])


def split_validation(
    train: Split, size: int | float, seed: int, class_names: Sequence[str] = (), set_aside: Split | None = None
) -> tuple[Split, Split]:
    """Hold images out of a training split, with classes in proportion.

    Args:
        train: the split to divide.
        size: a number of images (int) or a fraction below 1 (float), rounded to whole images; 0 holds none out.
        seed: the same seed holds out the same images.
        class_names: for messages; if left out, messages use class numbers.
        set_aside: the images that `split_test` has already split off, for messages.

    Returns:
        the remaining training images, and exactly `size` validation images.

    Raises:
        DatasetError: there are too few images, in total or of a class, to have every class in both parts.
    """
    if size == 0:
        return train, train.take(np.arange(0))
    return split_stratified(train, size, seed, "validation", class_names, set_aside)


def split_stratified(
    split: Split,
    size: int | float,
    seed: int,
    what: str,
    class_names: Sequence[str] = (),
    set_aside: Split | None = None,
) -> tuple[Split, Split]:
    """The rest, and `size` images (or that fraction), with classes in proportion, both in their original order.

    Raises:
        DatasetError: there are too few images. The message calls the images that are held out `what`; for the other
            arguments see `split_validation`.
    """
    from sklearn.model_selection import train_test_split

    images = len(split)
    held = size if isinstance(size, int) else round(size * images)
    labels, counts = np.unique(split.labels, return_counts=True)
    if not 0 < held < images:
        raise DatasetError(f"{held} {what} images cannot be held out of {images}; both parts need at least one image")
    if counts.min() < 2:
        label = int(labels[counts.argmin()])
        taken = 0 if set_aside is None else np.count_nonzero(set_aside.labels == label)
        name = f"'{class_names[label]}'" if class_names else str(label)
        one = f"1 image left after {taken} of its {taken + 1} were set aside for the test" if taken else "1 image"
        raise DatasetError(
            f"class {name} has {one}, so it cannot be in both training and {what}; "
            f"every class needs at least {3 if taken else 2}"
        )
    if min(held, images - held) < len(labels):
        raise DatasetError(
            f"with {held} {what} images out of {images}, not all {len(labels)} classes can be in both parts; "
            f"the {what} size must be from {len(labels)} to {images - len(labels)}"
        )
    rest, chosen = train_test_split(np.arange(images), test_size=held, random_state=seed, stratify=split.labels)
    return split.take(np.sort(rest)), split.take(np.sort(chosen))


def split_test(images: Split, class_names: Sequence[str] = ()) -> tuple[Split, Split]:
    """The fixed, stratified division into 80% training and 20% test images, for a dataset that comes without one."""
    return split_stratified(images, TEST_SHARE, _FIXED_SEED, "test", class_names)


def count_test_split(images: int) -> tuple[int, int]:
    """The numbers of (training, test) images that `split_test` makes of this many images."""
    test = round(TEST_SHARE * images)
    return images - test, test


def limit_split(split: Split, limit: int) -> Split:
    """At most `limit` images, with classes balanced as far as possible, in their original order.

    The choice is always the same: the images are permuted with a fixed seed, then taken from each class in turn.
    """
    if len(split) <= limit:
        return split
    permutation = np.random.default_rng(_FIXED_SEED).permutation(len(split))
    turn = np.empty(len(split), dtype=np.int64)  # how many images of its class come before each image
    for label in np.unique(split.labels):
        members = permutation[split.labels[permutation] == label]
        turn[members] = np.arange(len(members))
    chosen = permutation[np.argsort(turn[permutation], kind="stable")][:limit]
    return split.take(np.sort(chosen))


def compute_fingerprint(splits: Sequence[Split]) -> str:
    """16 hexadecimal digits of the SHA-256 of shapes and contents."""
    digest = sha256()
    for split in splits:
        for array in (split.images, split.labels):
            digest.update(repr((array.shape, array.dtype.str)).encode())
            digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()[:16]
