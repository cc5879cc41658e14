"""What must hold for every pattern: round trips, canonical form, the group of transforms, adjointness."""

from __future__ import annotations

import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st

from tiedexp.errors import PatternError
from tiedexp.patterns.grid import TRANSFORMS, Pattern

seeds = st.integers(0, 2**32 - 1)


@st.composite
def patterns(draw: st.DrawFn, max_side: int = 6) -> Pattern:
    """Any grid with signs and fixed zeros; with few groups, so that cells do share weights."""
    rows, cols = draw(st.integers(1, max_side)), draw(st.integers(1, max_side))
    highest = draw(st.integers(0, 7))
    index = draw(st.lists(st.integers(-1, highest), min_size=rows * cols, max_size=rows * cols))
    assume(max(index) >= 0)
    signs = draw(st.lists(st.sampled_from([1, -1]), min_size=rows * cols, max_size=rows * cols))
    groups = np.array(index).reshape(rows, cols)
    return Pattern(groups, np.where(groups < 0, 0, np.array(signs).reshape(rows, cols)))


def transform_kernel(name: str, kernel: np.ndarray) -> np.ndarray:
    """The transforms, cell by cell: the source of the value at (i, j) of the result."""
    rows, cols = kernel.shape
    sources = {
        "flip_h": lambda i, j: (i, cols - 1 - j),
        "flip_v": lambda i, j: (rows - 1 - i, j),
        "rot90": lambda i, j: (j, cols - 1 - i),
        "rot180": lambda i, j: (rows - 1 - i, cols - 1 - j),
        "rot270": lambda i, j: (rows - 1 - j, i),
        "transpose": lambda i, j: (j, i),
        "anti_transpose": lambda i, j: (rows - 1 - j, cols - 1 - i),
    }
    keeps_shape = name in ("flip_h", "flip_v", "rot180")
    height, width = (rows, cols) if keeps_shape else (cols, rows)
    return np.array([[kernel[sources[name](i, j)] for j in range(width)] for i in range(height)])


@given(patterns())
def test_prints_and_parses(pattern: Pattern) -> None:
    again = Pattern.parse(str(pattern))
    assert again == pattern
    assert str(again) == str(pattern)
    assert eval(repr(pattern), {"Pattern": Pattern}) == pattern
    assert again.digest == pattern.digest
    assert hash(again) == hash(pattern)


@given(patterns(), seeds)
def test_names_and_signs_of_groups_do_not_matter(pattern: Pattern, seed: int) -> None:
    rng = np.random.default_rng(seed)
    names = rng.permutation(1000)[: pattern.num_groups]
    flips = rng.choice([-1, 1], pattern.num_groups)
    renamed = Pattern(
        np.where(pattern.index < 0, -1 - rng.integers(5), names[pattern.index]), pattern.sign * flips[pattern.index]
    )
    assert renamed == pattern
    assert renamed.digest == pattern.digest
    assert hash(renamed) == hash(pattern)


@given(patterns(max_side=3), patterns(max_side=3))
def test_digests_are_equal_exactly_for_equal_patterns(one: Pattern, other: Pattern) -> None:
    # Two patterns are equal if they have the same set of kernels: the same column space of the matrix.
    together = None
    if one.shape == other.shape:
        together = np.linalg.matrix_rank(np.hstack([one.matrix, other.matrix]))
    same = together is not None and together == one.num_groups == other.num_groups
    assert (one == other) == same
    assert (one.digest == other.digest) == same


@given(patterns())
def test_canonical_form(pattern: Pattern) -> None:
    free = pattern.index.ravel()[pattern.index.ravel() >= 0]
    firsts = list(dict.fromkeys(free.tolist()))
    assert firsts == list(range(pattern.num_groups))
    assert (pattern.sign.ravel()[pattern.first_cells] == 1).all()
    assert pattern.index.ravel()[pattern.first_cells].tolist() == firsts
    assert ((pattern.sign == 0) == (pattern.index == -1)).all()
    assert pattern.group_sizes == tuple(int((free == group).sum()) for group in firsts)
    assert sum(pattern.group_sizes) == pattern.num_cells
    assert pattern.is_dense == (pattern.num_cells == pattern.shape[0] * pattern.shape[1])


@given(patterns(), seeds)
def test_matrix_expands(pattern: Pattern, seed: int) -> None:
    free = np.random.default_rng(seed).normal(size=(pattern.num_groups, 2, 3))
    kernel = pattern.expand(free)
    assert kernel.shape == (*pattern.shape, 2, 3)
    np.testing.assert_array_equal((pattern.matrix @ free.reshape(-1, 6)).reshape(kernel.shape), kernel)


@given(patterns(), seeds)
def test_collapse_is_the_adjoint_of_expand(pattern: Pattern, seed: int) -> None:
    rng = np.random.default_rng(seed)
    free = rng.normal(size=(pattern.num_groups, 2))
    kernel = rng.normal(size=(*pattern.shape, 2))
    np.testing.assert_allclose(
        (pattern.expand(free) * kernel).sum(), (free * pattern.collapse(kernel)).sum(), atol=1e-12
    )
    sizes = np.array(pattern.group_sizes)[:, None]
    np.testing.assert_allclose(pattern.collapse(pattern.expand(free)), sizes * free, atol=1e-12)


@given(patterns())
def test_transforms_form_the_dihedral_group(pattern: Pattern) -> None:
    def apply(*names: str) -> Pattern:
        result = pattern
        for name in names:
            result = result.transform(name)
        return result

    assert apply("rot90", "rot90", "rot90", "rot90") == pattern
    assert apply("rot90", "rot90") == apply("rot180")
    assert apply("rot90", "rot90", "rot90") == apply("rot270")
    for name in ("flip_h", "flip_v", "rot180", "transpose", "anti_transpose"):
        assert apply(name, name) == pattern
    assert apply("flip_h", "flip_v") == apply("rot180") == apply("flip_v", "flip_h")
    assert apply("rot90", "flip_v") == apply("transpose") == apply("flip_h", "rot90")
    assert apply("rot180", "transpose") == apply("anti_transpose") == apply("transpose", "rot180")


@given(patterns(), st.sampled_from(sorted(TRANSFORMS)), seeds)
def test_transform_moves_the_kernels(pattern: Pattern, name: str, seed: int) -> None:
    # Every transformed kernel belongs to the transformed pattern: projecting onto it changes nothing.
    kernel = transform_kernel(name, pattern.expand(np.random.default_rng(seed).normal(size=pattern.num_groups)))
    moved = pattern.transform(name)
    projected = moved.expand(moved.collapse(kernel) / np.array(moved.group_sizes))
    np.testing.assert_allclose(projected, kernel, atol=1e-12)
    assert moved.num_groups == pattern.num_groups


@st.composite
def symmetric_patterns(draw: st.DrawFn) -> Pattern:
    """Random grids made symmetric or antisymmetric under a random transform, so that symmetries are frequent."""
    side = draw(st.integers(1, 5))
    name = draw(st.sampled_from(sorted(TRANSFORMS)))
    factor = draw(st.sampled_from([1, -1]))
    cells = np.arange(side * side).reshape(side, side)
    parents, signs = cells.copy(), np.ones_like(cells)
    if name in ("rot90", "rot270"):
        factor = 1
    for _ in range(4):  # enough for the longest orbit
        image, image_signs = transform_kernel(name, parents), factor * transform_kernel(name, signs)
        signs = np.where(image < parents, image_signs, signs)
        parents = np.minimum(parents, image)
    fixed = (transform_kernel(name, cells) == cells) & (factor == -1)
    parents = np.where(fixed, -1, parents)
    assume((parents >= 0).any())
    return Pattern(parents, np.where(parents < 0, 0, signs))


@given(st.one_of(patterns(), symmetric_patterns()), seeds)
def test_symmetries_agree_with_random_kernels(pattern: Pattern, seed: int) -> None:
    kernel = pattern.expand(np.random.default_rng(seed).normal(size=pattern.num_groups))
    images = {name: transform_kernel(name, kernel) for name in TRANSFORMS}
    assert pattern.symmetries == {name for name, image in images.items() if np.array_equal(image, kernel)}
    assert pattern.antisymmetries == {name for name, image in images.items() if np.array_equal(image, -kernel)}


@given(st.text(alphabet="ABab1-._/ \n", max_size=30))
def test_any_text_parses_or_is_refused(text: str) -> None:
    try:
        pattern = Pattern.parse(text)
    except PatternError:
        return
    assert Pattern.parse(str(pattern)) == pattern
