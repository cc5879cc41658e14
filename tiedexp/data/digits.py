"""The built-in dataset: the 8x8 digits that are part of scikit-learn."""

from __future__ import annotations

import numpy as np

from tiedexp.data.kind import DatasetKind, Description, Images, Source, Warn
from tiedexp.data.splits import Split

_IMAGES = 1797
_SIDE = 8
_WHITE = 16


class Digits(DatasetKind):
    """scikit-learn's copy of the UCI optical digits, scaled from 0..16 to 0..255."""

    meaning = "small handwritten digits, built in"

    def describe(self, source: Source, image_size: int | None, warn: Warn) -> Description:
        return Description((_SIDE, _SIDE, 1), 10, _IMAGES, None)

    def load(self, source: Source, image_size: int | None, warn: Warn) -> Images:
        from sklearn.datasets import load_digits

        digits = load_digits()
        images = np.rint(digits.images * (255 / _WHITE)).astype(np.uint8)[..., np.newaxis]
        return Images(Split(images, digits.target.astype(np.int64)), None, tuple("0123456789"))

    def check(self, source: Source) -> None:
        """The data is always present."""
