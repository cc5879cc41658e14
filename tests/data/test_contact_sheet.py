"""The contact sheet, as a picture."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from tiedexp.data.contact_sheet import MAX_CLASSES, SAMPLES, draw_contact_sheet
from tiedexp.data.splits import Split


def picture_of(split, names):
    png = draw_contact_sheet(split, names)
    assert png == draw_contact_sheet(split, names)
    image = Image.open(io.BytesIO(png))
    assert image.format == "PNG"
    return np.asarray(image.convert("RGB"))


def test_each_class_has_its_row_of_enlarged_images():
    """Red, then blue: where the colours are is where the classes are."""
    images = np.zeros((30, 8, 8, 3), np.uint8)
    images[:15, ..., 0] = 255
    images[15:, ..., 2] = 255
    picture = picture_of(Split(images, np.repeat([0, 1], 15)), ["red", "blue"])
    red = (picture == (255, 0, 0)).all(axis=2)
    blue = (picture == (0, 0, 255)).all(axis=2)
    assert red.sum() == blue.sum() == SAMPLES * 64 * 64
    assert np.flatnonzero(red.any(axis=1)).max() < np.flatnonzero(blue.any(axis=1)).min()


@pytest.mark.parametrize("shape", [(28, 28, 1), (8, 8, 1), (300, 200, 3), (5, 50, 4), (6, 6, 2), (1, 400, 1)])
def test_any_shape_and_few_images(shape):
    split = Split(np.zeros((3, *shape), np.uint8), np.array([0, 0, 2]))
    picture = picture_of(split, ["one", "none of it", "a name that is a good deal longer than its place"])
    assert picture.shape[1] < 2000


def test_many_classes():
    split = Split(np.zeros((100, 4, 4, 1), np.uint8), np.arange(100))
    assert picture_of(split, list(map(str, range(100)))).shape[0] < (MAX_CLASSES + 1) * 70
