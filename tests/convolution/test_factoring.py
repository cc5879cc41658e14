"""Factorings reproduce the kernel exactly, and find the known sums."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tiedexp.convolution.choosing import find_rotated_factoring
from tiedexp.convolution.factoring import Term, factor, factor_cells, use_weights_of
from tiedexp.errors import PatternError
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
    for factoring in filter(None, (factor(pattern), factor_cells(pattern))):
        np.testing.assert_allclose(factoring.expand(free), kernel, atol=1e-12)
    rotated = pattern.transform("rot180")
    for factoring in filter(None, (factor(rotated), factor_cells(rotated))):
        factoring = use_weights_of(pattern, rotated, factoring)
        np.testing.assert_allclose(factoring.expand(free), np.rot90(kernel, 2), atol=1e-12)
    for depthwise in (False, True):
        factoring = find_rotated_factoring(pattern, depthwise)
        np.testing.assert_allclose(factoring.expand(free), np.rot90(kernel, 2), atol=1e-12)


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


def test_one_tap_per_group_and_shared_sums() -> None:
    """d4 in 5x5: 24 additions cell by cell, 12 by folding columns first."""
    factoring = factor(Pattern.preset("d4", 5))
    assert factoring is not None
    assert len(factoring.taps) == 6
    assert sum(len(terms) - 1 for terms in factoring.sums) < 13


def test_groups_of_the_same_shape_share_a_sum() -> None:
    factoring = factor(Pattern.parse("AAB/CAB/C.B/C.."))  # A is a corner, B and C are columns of three
    assert factoring is not None
    assert len(factoring.sums) == 2
    assert len(factoring.taps) == 3


def test_cells_have_a_tap_each_but_fixed_zeros() -> None:
    cells = factor_cells(Pattern.parse("A-B./BAA"))
    assert [(tap.row, tap.col) for tap in cells.taps] == [(0, 0), (0, 1), (1, 0), (1, 1), (1, 2)]
    assert cells.mix.tolist() == [[1, 0], [0, 1], [0, -1], [1, 0], [1, 0]]


def test_nothing_to_gain() -> None:
    assert factor(Pattern.preset("full", 3)) is None
    assert find_rotated_factoring(Pattern.preset("full", 3)).sums == ()
    assert factor(Pattern.parse("AABCD/EFGHI")) is None  # nine taps of ten cells


def test_signs_are_those_of_the_terms() -> None:
    factoring = factor(Pattern.parse("A-AB/A-AB"))
    assert factoring is not None
    corners = (Term(-1, 0, 0, 1), Term(-1, 0, 1, -1), Term(-1, 1, 0, 1), Term(-1, 1, 1, -1))
    assert set(factoring.sums) == {corners, (Term(-1, 0, 0, 1), Term(-1, 1, 0, 1))}


def test_large_kernels_are_factored_in_time() -> None:
    # Nothing is timed here, but without the limits of the search this takes minutes.
    for name in ("row", "block", "rings"):
        check(Pattern.preset(name, 63))


def test_row_spans_by_hand() -> None:
    """Rows of the kernel at which the input, then each sum, is read."""
    block = factor(Pattern.preset("block", 5))
    assert block is not None
    assert [len(terms) for terms in block.sums] == [2, 2, 2]  # 2x1 cells, twice those side by side, 1x2 cells
    assert block.row_spans == ((0, 4), (0, 3), (0, 3), (2, 2))
    point = factor(Pattern.preset("point", 3))
    assert point is not None
    assert point.row_spans[0] == (0, 2)


@given(st.integers(0, 10**6))
def test_row_spans_hold_every_read(random_seed: int) -> None:
    """For the input, they are the rows of the kernel that are not empty."""
    rng = np.random.default_rng(random_seed)
    index = rng.integers(-1, 5, size=(5, 4))
    index[rng.integers(5), rng.integers(4)] = 0
    pattern = Pattern(index, np.where(index < 0, 0, 1))
    rows = np.nonzero((pattern.index >= 0).any(axis=1))[0]
    factoring = factor(pattern)
    if factoring is not None:
        assert factoring.row_spans[0] == (min(0, rows[0]), rows[-1])
