"""Transforms of images against loops over pixels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiedexp.data.transforms import TRANSFORMS, apply_transform
from tiedexp.errors import SpecError

# Where the pixel at (row, col) of an n x n image comes from.
SOURCES = {
    "identity": lambda row, col, n: (row, col),
    "rot90": lambda row, col, n: (col, n - 1 - row),
    "rot180": lambda row, col, n: (n - 1 - row, n - 1 - col),
    "rot270": lambda row, col, n: (n - 1 - col, row),
    "flip_h": lambda row, col, n: (row, n - 1 - col),
    "flip_v": lambda row, col, n: (n - 1 - row, col),
    "transpose": lambda row, col, n: (col, row),
}


@pytest.mark.parametrize("name", TRANSFORMS)
@given(side=st.integers(1, 6), seed=st.integers(0, 100))
def test_every_pixel_comes_from_where_it_should(name, side, seed):
    images = np.random.default_rng(seed).integers(0, 256, (3, side, side, 2)).astype(np.uint8)
    moved = apply_transform(images, name)
    assert moved.dtype == np.uint8
    for row in range(side):
        for col in range(side):
            np.testing.assert_array_equal(moved[:, row, col], images[(slice(None), *SOURCES[name](row, col, side))])


@given(rows=st.integers(1, 6), cols=st.integers(1, 6), pixels=st.integers(-8, 8))
def test_translation_moves_right_and_down_and_fills_with_zeros(rows, cols, pixels):
    images = np.arange(1, 2 * rows * cols + 1).reshape(2, rows, cols, 1)
    moved = apply_transform(images, f"translate={pixels}")
    for row in range(rows):
        for col in range(cols):
            r, c = row - pixels, col - pixels
            inside = 0 <= r < rows and 0 <= c < cols
            np.testing.assert_array_equal(moved[:, row, col], images[:, r, c] if inside else 0)


@pytest.mark.parametrize("text", ["", "flip", "translate", "translate=", "translate=1.5", "translate=x", "rot90 "])
def test_anything_else_is_refused_with_what_there_is(text):
    with pytest.raises(SpecError, match=r"the transforms are identity, rot90, .* and translate=N"):
        apply_transform(np.zeros((1, 2, 2, 1)), text)


@pytest.mark.parametrize("name", ["rot90", "rot270", "transpose"])
def test_images_that_are_not_square_keep_their_shape(name):
    with pytest.raises(SpecError, match=f"'{name}' needs square images; these are 2x3"):
        apply_transform(np.zeros((1, 2, 3, 1)), name)
