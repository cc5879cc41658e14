"""Transforms of whole images, to test what a model is invariant to. Needs only NumPy."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from tiedexp.errors import SpecError

Images = npt.NDArray[Any]

# Functions of (images, rows, cols, channels); rotations are anticlockwise, as in NumPy.
TRANSFORMS: dict[str, Callable[[Images], Images]] = {
    "identity": lambda images: images,
    "rot90": lambda images: np.rot90(images, 1, axes=(1, 2)),
    "rot180": lambda images: np.rot90(images, 2, axes=(1, 2)),
    "rot270": lambda images: np.rot90(images, 3, axes=(1, 2)),
    "flip_h": lambda images: images[:, :, ::-1],
    "flip_v": lambda images: images[:, ::-1],
    "transpose": lambda images: images.transpose(0, 2, 1, 3),
}
_TRANSLATE = re.compile(r"translate=(-?[0-9]{1,5})")
_CHANGE_SHAPE = ("rot90", "rot270", "transpose")


def apply_transform(images: Images, text: str) -> Images:
    """Transform images (n, rows, cols, channels).

    Args:
        images: an array of any type, which is not changed.
        text: a key of `TRANSFORMS`, or `translate=N`, which moves the images N pixels right and down (left and up if
            negative) and fills with zeros.

    Returns:
        contiguous images of the same shape.

    Raises:
        SpecError: the transform does not exist, or swaps rows and columns of images that are not square.
    """
    if match := _TRANSLATE.fullmatch(text):
        return _translate(images, int(match[1]))
    if text not in TRANSFORMS:
        known = f"{', '.join(TRANSFORMS)} and translate=N"
        raise SpecError(f"there is no transform '{text}'; the transforms are {known}")
    if text in _CHANGE_SHAPE and images.shape[1] != images.shape[2]:
        raise SpecError(f"'{text}' needs square images; these are {images.shape[1]}x{images.shape[2]}")
    return np.ascontiguousarray(TRANSFORMS[text](images))


def _translate(images: Images, pixels: int) -> Images:
    moved = np.zeros_like(images)
    rows, cols = (max(0, side - abs(pixels)) for side in images.shape[1:3])
    target, source = max(0, pixels), max(0, -pixels)
    moved[:, target : target + rows, target : target + cols] = images[:, source : source + rows, source : source + cols]
    return moved
