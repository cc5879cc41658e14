"""Factorings reproduce the kernel exactly, and find what is known to be there."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tiedexp.errors import PatternError
from tiedexp.patterns.factoring import (
    Box,
    Factoring,
    Sum,
    factor,
    factor_cells,
    factor_rotated,
    factor_rotated_cells,
)
from tiedexp.patterns.grid import Pattern
from tiedexp.patterns.presets import PRESETS

SIZES = st.tuples(st.integers(1, 6), st.integers(1, 6))


@st.composite
def grids(draw: st.DrawFn) -> Pattern:
    """Random grids with signs and zeros."""
    shape = draw(SIZES)
    index = draw(arrays.arrays(np.int64, shape, elements=st.integers(-1, 7)))
    if (index < 0).all():
        index[0, 0] = 0
    signs = draw(arrays.arrays(np.int64, shape, elements=st.sampled_from([-1, 1])))
    return Pattern(index, np.where(index >= 0, signs, 0))


def check(pattern: Pattern) -> None:
    free = np.random.default_rng(0).normal(size=(pattern.num_groups, 2, 3))
    kernel = pattern.expand(free)
    for factoring in (*factor(pattern), factor_cells(pattern)):
        np.testing.assert_allclose(factoring.expand(free), kernel, atol=1e-12)
    for factoring in (*factor_rotated(pattern), factor_rotated_cells(pattern)):
        np.testing.assert_allclose(factoring.expand(free), np.rot90(kernel, 2), atol=1e-12)


def by_name(pattern: Pattern) -> dict[str, Factoring]:
    return {factoring.name: factoring for factoring in factor(pattern)}


@settings(max_examples=200, deadline=None)
@given(grids())
def test_random_grids(pattern: Pattern) -> None:
    check(pattern)


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("size", [2, 3, 5, 7, (3, 6)])
def test_presets(name: str, size: int | tuple[int, int]) -> None:
    try:
        pattern = Pattern.preset(name, size)
    except PatternError:
        pytest.skip("the preset has no such size")
    check(pattern)


@pytest.mark.parametrize(
    ("pattern", "images", "num_taps"),
    [
        (Pattern.preset("block", 5), {Box(2, 2), Box(1, 2), Box(2, 1)}, 9),
        (Pattern.preset("rings", 5), {Box(5, 5), Box(3, 3)}, 3),
        (Pattern.preset("row", 5), {Box(1, 5)}, 5),
        (Pattern.preset("column", 7), {Box(7, 1)}, 7),
        (Pattern.preset("checkerboard", 5), {Box(5, 5), Box(5, 5, True, True)}, 2),
        (Pattern.preset("mirror_h", 5), {Box(1, 3), Box(1, 5)}, 15),
        (Pattern.preset("tile", 5), {Box(5, 5, a, b) for a in (False, True) for b in (False, True)}, 4),
    ],
)
def test_boxes_of_known_patterns(pattern: Pattern, images: set[Box], num_taps: int) -> None:
    boxes = by_name(pattern)["boxes"]
    assert set(boxes.images) == images
    assert len(boxes.taps) == num_taps == pattern.num_groups


def test_the_taps_of_a_box_form_one_lattice() -> None:
    lattices = by_name(Pattern.preset("block", 7))["boxes"].lattices
    assert sorted(lattice.size for lattice in lattices) == [(1, 1), (1, 2), (2, 1), (2, 2)]
    corners = next(lattice for lattice in lattices if lattice.size == (2, 2))
    assert (corners.row, corners.col, corners.steps) == (0, 0, (5, 5))


def test_folding_rows_alone() -> None:
    rows = by_name(Pattern.preset("block", 5))["row boxes"]
    assert rows.images == (Box(2, 1),)
    assert [(lattice.size, lattice.steps) for lattice in rows.lattices] == [((2, 5), (3, 1)), ((1, 5), (1, 1))]
    assert len(rows.taps) == 15


def test_sums_have_a_tap_a_group_and_share_what_they_can() -> None:
    """d4 in 5x5: 24 additions cell by cell, 12 by folding columns first."""
    sums = by_name(Pattern.preset("d4", 5))["sums"]
    assert len(sums.taps) == 6
    additions = sum(len(image.terms) - 1 for image in sums.images if isinstance(image, Sum))
    assert additions < 13


def test_groups_of_one_figure_share_an_image() -> None:
    sums = by_name(Pattern.parse("AAB/CAB/C.B/C.."))["sums"]  # A is a corner, B and C are columns of three
    assert len(sums.images) == 2
    assert len(sums.taps) == 3


def test_cells_have_a_tap_each_but_fixed_zeros() -> None:
    cells = factor_cells(Pattern.parse("A-B./BAA"))
    assert [(tap.row, tap.col) for tap in cells.taps] == [(0, 0), (0, 1), (1, 0), (1, 1), (1, 2)]
    assert cells.mix.tolist() == [[1, 0], [0, 1], [0, -1], [1, 0], [1, 0]]


def test_nothing_to_gain() -> None:
    assert factor(Pattern.preset("full", 3)) == ()
    assert factor(Pattern.parse("AABCD/EFGHI")) == ()  # nine taps of ten cells


def test_a_signed_group_may_be_an_alternating_box() -> None:
    (factoring,) = (f for f in factor(Pattern.parse("A-AB/A-AB")) if f.name == "boxes")
    assert set(factoring.images) == {Box(2, 2, False, True), Box(2, 1)}


def test_large_kernels_are_factored_in_time() -> None:
    # Not timed: without the limits of the search, this takes minutes.
    for name in ("row", "block", "rings"):
        check(Pattern.preset(name, 63))


def test_row_spans_by_hand() -> None:
    boxes = next(factoring for factoring in factor(Pattern.preset("block", 5)) if factoring.name == "boxes")
    assert [(box.rows, box.cols) for box in boxes.images] == [(2, 2), (2, 1), (1, 2)]  # type: ignore[union-attr]
    assert boxes.row_spans == ((0, 4), (0, 3), (0, 3), (2, 2))
    point = next(factoring for factoring in factor(Pattern.preset("point", 3)) if factoring.name == "sums")
    assert point.row_spans[0] == (0, 2)


@given(st.integers(0, 10**6))
def test_row_spans_hold_every_read(random_seed: int) -> None:
    """Of the input, they are the rows of the kernel that are not empty."""
    rng = np.random.default_rng(random_seed)
    index = rng.integers(-1, 5, size=(5, 4))
    index[rng.integers(5), rng.integers(4)] = 0
    pattern = Pattern(index, np.where(index < 0, 0, 1))
    rows = np.nonzero((pattern.index >= 0).any(axis=1))[0]
    for factoring in factor(pattern):
        first, last = factoring.row_spans[0]
        assert (first, last) == (min(0, rows[0]), rows[-1])
