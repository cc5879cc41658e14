"""How a tied convolution can be computed with fewer multiplications than its kernel has cells.

A convolution is linear in its kernel, and a tied kernel is a sum over its groups: free weight times the indicator of
the group's cells. Wherever an indicator is the same small figure at some offset, convolving with it is reading one
*sum image* at that offset, and the multiplications fall from cells to groups:

    AABCC/AABCC/DDEFF/GGHII/GGHII     images: the input, and its sums over 1x2, 2x1 and 2x2 boxes
                                      taps: 4 on the 2x2 sums, 2 on each of 1x2 and 2x1, 1 on the input: 9, not 25

A `Factoring` is such a set of images and taps, with the matrix that makes the weights of the taps from the free
weights. There are two ways to find one:

- *Boxes.* An image is the sum over a rectangle, perhaps with alternating signs, which pooling computes in one pass.
  Nested rectangles serve for groups that are none: `rings` in 5x5 are boxes of side 1, 3 and 5, whose weights are
  differences of the rings' weights, and a checkerboard is a plain and an alternating box. Found by linear algebra:
  the boxes whose indicators lie in the space the groups span. Folding rows alone, or columns alone, gives more taps
  on fewer images.
- *Sums.* An image for every group, the sum over its cells, whatever their shape. Sub-sums that several groups use (at
  any offset) are computed once, found as in multiple constant multiplication: the most frequent pair of terms
  becomes a term (Hartley 1996, doi:10.1109/82.539000).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from tiedexp.patterns.grid import Pattern

# A pair of terms is worth an image of its own from this many uses on: it costs three passes and saves one a use.
MIN_SHARED_USES = 4
# Beyond these the search takes too long for what it can find; larger patterns have box factorings or none.
MAX_PAIRS = 20_000
MAX_BOX_GROUPS = 512
# With more taps than this part of the cells, folding costs more than it saves.
MAX_TAPS = 0.8


@dataclass(frozen=True)
class Box:
    """The sum over a rectangle of the input, from the tap's cell to the right and downwards.

    Args:
        rows, cols: size of the rectangle in cells.
        alternate_rows, alternate_cols: whether the sign flips from row to row, from column to column; + at the tap.
    """

    rows: int
    cols: int
    alternate_rows: bool = False
    alternate_cols: bool = False

    @property
    def signs(self) -> npt.NDArray[np.int64]:
        """(rows, cols) of +1 and -1."""
        down = (-1) ** (np.arange(self.rows) * self.alternate_rows)
        across = (-1) ** (np.arange(self.cols) * self.alternate_cols)
        return np.outer(down, across)


@dataclass(frozen=True)
class Term:
    """One summand of a `Sum`: an image, read `row` down and `col` to the right (negative: up, left), times `sign`.

    `image` is the number of an earlier image, or -1 for the input.
    """

    image: int
    row: int
    col: int
    sign: int


@dataclass(frozen=True)
class Sum:
    """A signed sum of shifted images."""

    terms: tuple[Term, ...]


def as_terms(image: Box | Sum) -> tuple[Term, ...]:
    """An image as a sum; a box as one of shifted inputs."""
    if isinstance(image, Sum):
        return image.terms
    return tuple(Term(-1, row, col, int(sign)) for (row, col), sign in np.ndenumerate(image.signs))


@dataclass(frozen=True)
class Tap:
    """A weight of the factored convolution: it multiplies an image (-1: the input) read at a cell of the kernel."""

    image: int
    row: int
    col: int


@dataclass(frozen=True)
class Lattice:
    """Taps of one image on a regular grid of cells: what one dilated convolution computes.

    Args:
        image: number of the image, -1 for the input.
        row, col: the cell of the first tap.
        size: (rows, cols) of taps.
        steps: (down, across) cells from tap to tap.
        taps: number of each tap in the factoring, (rows, cols), -1 where there is none.
    """

    image: int
    row: int
    col: int
    size: tuple[int, int]
    steps: tuple[int, int]
    taps: tuple[tuple[int, ...], ...]

    def split(self) -> list[Lattice]:
        """The same taps, one by one."""
        return [
            Lattice(
                self.image, self.row + row * self.steps[0], self.col + col * self.steps[1], (1, 1), (1, 1), ((tap,),)
            )
            for row, taps in enumerate(self.taps)
            for col, tap in enumerate(taps)
            if tap >= 0
        ]


@dataclass(frozen=True, eq=False)
class Factoring:
    """Sum images and taps that together are a tied kernel.

    Args:
        name: "boxes", "row boxes" (columns stay as they are), "column boxes", "sums", or "cells" (nothing is summed).
        shape: (rows, cols) of the kernel.
        images: the sum images, in an order in which they can be computed.
        taps: what is multiplied.
        mix: (taps, groups), the taps' weights are `mix @ free`.
    """

    name: str
    shape: tuple[int, int]
    images: tuple[Box | Sum, ...]
    taps: tuple[Tap, ...]
    mix: npt.NDArray[np.float64]

    def footprints(self) -> list[npt.NDArray[np.float64]]:
        """Of each tap the cells it stands for: (rows, cols) of the kernel, signed."""
        figures: list[dict[tuple[int, int], int]] = []
        for image in self.images:
            figure: dict[tuple[int, int], int] = defaultdict(int)
            for term in as_terms(image):
                part = {(0, 0): 1} if term.image < 0 else figures[term.image]
                for (row, col), sign in part.items():
                    figure[row + term.row, col + term.col] += term.sign * sign
            figures.append(figure)
        footprints = []
        for tap in self.taps:
            footprint = np.zeros(self.shape)
            for (row, col), sign in ({(0, 0): 1} if tap.image < 0 else figures[tap.image]).items():
                footprint[tap.row + row, tap.col + col] += sign
            footprints.append(footprint)
        return footprints

    def expand(self, free: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """The kernel that the factoring computes with, (rows, cols, ...), of free weights (groups, ...)."""
        return np.tensordot(np.stack(self.footprints(), -1), np.tensordot(self.mix, np.asarray(free), 1), 1)

    @cached_property
    def row_spans(self) -> tuple[tuple[int, int], ...]:
        """Rows of the kernel, first and last, at which the input and each image are read; (0, 0) where none is."""
        rows: list[list[int]] = [[0], *([] for _ in self.images)]
        for tap in self.taps:
            rows[tap.image + 1].append(tap.row)
        for number in range(len(self.images), 0, -1):  # images read earlier ones
            for term in as_terms(self.images[number - 1]) if rows[number] else ():
                rows[term.image + 1] += [min(rows[number]) + term.row, max(rows[number]) + term.row]
        return tuple((min(places), max(places)) if places else (0, 0) for places in rows)

    @cached_property
    def lattices(self) -> tuple[Lattice, ...]:
        """The taps of each image as regular grids, so few that nearly every point of a grid is a tap."""
        numbers: dict[int, dict[tuple[int, int], int]] = defaultdict(dict)
        for number, tap in enumerate(self.taps):
            numbers[tap.image][tap.row, tap.col] = number
        return tuple(lattice for image, taps in numbers.items() for lattice in _lattices(image, taps))


def _lattices(image: int, taps: dict[tuple[int, int], int]) -> list[Lattice]:
    rows, cols = (sorted({cell[axis] for cell in taps}) for axis in (0, 1))
    row_step, col_step = (int(np.gcd.reduce(np.diff(places))) if len(places) > 1 else 1 for places in (rows, cols))
    size = (rows[-1] - rows[0]) // row_step + 1, (cols[-1] - cols[0]) // col_step + 1
    if size[0] * size[1] > 1.5 * len(taps):  # too many holes: one convolution a row of taps
        if len(rows) > 1:
            by_row: dict[int, dict[tuple[int, int], int]] = defaultdict(dict)
            for cell, number in taps.items():
                by_row[cell[0]][cell] = number
            return [lattice for part in by_row.values() for lattice in _lattices(image, part)]
        return [Lattice(image, *cell, (1, 1), (1, 1), ((number,),)) for cell, number in taps.items()]
    grid = tuple(
        tuple(taps.get((rows[0] + row * row_step, cols[0] + col * col_step), -1) for col in range(size[1]))
        for row in range(size[0])
    )
    return [Lattice(image, rows[0], cols[0], size, (row_step, col_step), grid)]


@lru_cache(maxsize=512)
def factor(pattern: Pattern) -> tuple[Factoring, ...]:
    """All factorings of a pattern that have clearly fewer taps than it has cells, those with the fewest taps first."""
    found: list[Factoring] = []
    for name, parts in _refinements(pattern):
        factoring = _factor_boxes(pattern, parts, name)
        if factoring and all(len(factoring.taps) != len(other.taps) for other in found):
            found.append(factoring)
    found.append(_factor_sums(pattern))
    return tuple(factoring for factoring in found if len(factoring.taps) <= MAX_TAPS * pattern.num_cells)


@lru_cache(maxsize=512)
def factor_rotated(pattern: Pattern) -> tuple[Factoring, ...]:
    """The factorings of the kernel turned by 180 degrees, of the same free weights.

    The gradient of a convolution with respect to its input is a convolution with that kernel.
    """
    rotated = pattern.transform("rot180")
    return tuple(_of_groups(pattern, rotated, factoring) for factoring in factor(rotated))


@lru_cache(maxsize=512)
def factor_cells(pattern: Pattern) -> Factoring:
    """The pattern as it is: no sums, and a tap for every cell that is not fixed at zero."""
    cells = np.flatnonzero(pattern.sign)
    taps = tuple(Tap(-1, *divmod(int(cell), pattern.shape[1])) for cell in cells)
    return Factoring("cells", pattern.shape, (), taps, np.asarray(pattern.matrix[cells], np.float64))


@lru_cache(maxsize=512)
def factor_rotated_cells(pattern: Pattern) -> Factoring:
    """The same of the kernel turned by 180 degrees."""
    rotated = pattern.transform("rot180")
    return _of_groups(pattern, rotated, factor_cells(rotated))


def _of_groups(pattern: Pattern, rotated: Pattern, factoring: Factoring) -> Factoring:
    """A factoring of the rotated pattern as one of the pattern's free weights."""
    source = pattern.index.size - 1 - rotated.first_cells  # the cell of the pattern where each rotated group begins
    return replace(factoring, mix=factoring.mix @ pattern.matrix[source])  # (taps, groups)


def _refinements(pattern: Pattern) -> list[tuple[str, npt.NDArray[Any]]]:
    """The groups themselves, then split so that no group spans two columns, or two rows."""
    rows, cols = np.indices(pattern.shape)
    refined = [("boxes", pattern.index)]
    for name, axis in (("row boxes", cols), ("column boxes", rows)):  # which of the two directions is summed over
        refined.append((name, np.where(pattern.index >= 0, pattern.index * pattern.index.size + axis, -1)))
    return refined


def _factor_boxes(pattern: Pattern, index: npt.NDArray[Any], name: str) -> Factoring | None:
    """The factoring into boxes of a pattern whose groups were split as `index` says; None if boxes do not span it."""
    split = Pattern(index, pattern.sign)
    if split.num_groups > MAX_BOX_GROUPS:
        return None
    # (split groups, groups): the weight of a split group is that of its group, with the sign of its first cell
    cells = split.first_cells
    origin = pattern.matrix[cells]

    by_image: dict[Box, list[tuple[Tap, npt.NDArray[Any]]]] = defaultdict(list)
    for group in range(split.num_groups):
        rows, cols = np.nonzero(split.index == group)
        top, left = int(rows.min()), int(cols.min())
        size = int(rows.max()) - top + 1, int(cols.max()) - left + 1
        for alternate in ((False, False), (False, True), (True, False), (True, True)):
            box = Box(*size, alternate[0] and size[0] > 1, alternate[1] and size[1] > 1)
            coordinates = _coordinates(split, box, top, left)
            if coordinates is not None:
                by_image[box].append((Tap(0, top, left), coordinates))

    images: list[Box] = []
    taps: list[Tap] = []
    basis = np.zeros((0, split.num_groups))
    # Plain boxes before alternating ones, images with many taps before those with few.
    order = sorted(by_image, key=lambda box: (box.alternate_rows + box.alternate_cols, -len(by_image[box])))
    for box in order:
        used = False
        for tap, coordinates in by_image[box]:
            larger = np.vstack([basis, coordinates])
            if np.linalg.matrix_rank(larger) > len(basis):
                basis = larger
                is_input = box.rows == box.cols == 1
                if not is_input and not used:
                    images.append(box)
                taps.append(Tap(-1 if is_input else len(images) - 1, tap.row, tap.col))
                used = True
    if len(basis) < split.num_groups:
        return None
    # kernel = sum of taps' weights x boxes, boxes = basis @ groups: the taps' weights are basis^-T @ groups' weights
    mix: npt.NDArray[np.float64] = np.linalg.solve(basis.T, origin).astype(np.float64)
    if np.allclose(mix * 4, np.round(mix * 4)):  # halves and quarters, exactly
        mix = np.asarray(np.round(mix * 4) / 4, np.float64)
    return Factoring(name, pattern.shape, tuple(images), tuple(taps), mix)


def _coordinates(pattern: Pattern, box: Box, top: int, left: int) -> npt.NDArray[Any] | None:
    """The box at a cell as a combination of the groups' (signed) indicators, or None."""
    figure = np.zeros(pattern.shape)
    figure[top : top + box.rows, left : left + box.cols] = box.signs
    coordinates = pattern.matrix.T @ figure.ravel() / np.array(pattern.group_sizes)
    return coordinates if np.allclose(pattern.matrix @ coordinates, figure.ravel()) else None


def _factor_sums(pattern: Pattern) -> Factoring:
    """One image a group, common sub-sums shared."""
    groups: list[list[Term]] = [[] for _ in range(pattern.num_groups)]
    for (row, col), group in np.ndenumerate(pattern.index):
        if group >= 0:
            groups[group].append(Term(-1, row, col, int(pattern.sign[row, col])))
    images: list[Box | Sum] = []
    if sum(len(terms) ** 2 for terms in groups) <= MAX_PAIRS:
        while (pair := _most_frequent_pair(groups)) is not None:
            _replace_pair(groups, pair, len(images))
            images.append(Sum(pair))
    taps = []
    numbers: dict[Sum, int] = {}
    for terms in groups:
        # As an image at its first term, so that groups of one figure share it.
        first = min(terms, key=lambda term: (term.row, term.col, term.image))
        if len(terms) == 1:
            taps.append(Tap(first.image, first.row, first.col))
            continue
        ordered = sorted(terms, key=lambda term: (term.row, term.col, term.image))
        image = Sum(tuple(Term(t.image, t.row - first.row, t.col - first.col, t.sign * first.sign) for t in ordered))
        if image not in numbers:
            numbers[image] = len(images)
            images.append(image)
        taps.append(Tap(numbers[image], first.row, first.col))
    # The first cell of a group is positive, but the first term, an image, may be read with a minus.
    factoring = Factoring("sums", pattern.shape, tuple(images), tuple(taps), np.eye(pattern.num_groups))
    figures = np.stack([figure.ravel() for figure in factoring.footprints()])  # (groups, cells)
    return replace(factoring, mix=np.diag(np.sign(np.sum(figures * pattern.matrix.T, axis=1))))


Pair = tuple[Term, Term]


def _as_pair(a: Term, b: Term) -> tuple[Pair, Term]:
    """Two terms as a pair at the origin, and the term that reads it where they are."""
    a, b = sorted((a, b), key=lambda term: (term.row, term.col, term.image))
    pair = Term(a.image, 0, 0, 1), Term(b.image, b.row - a.row, b.col - a.col, a.sign * b.sign)
    return pair, Term(-2, a.row, a.col, a.sign)


def _most_frequent_pair(groups: list[list[Term]]) -> Pair | None:
    counts: Counter[Pair] = Counter()
    for terms in groups:
        seen: dict[Pair, set[Term]] = defaultdict(set)
        for number, a in enumerate(terms):
            for b in terms[:number]:
                pair, _ = _as_pair(a, b)
                if not {a, b} & seen[pair]:  # a term belongs to one pair only
                    seen[pair] |= {a, b}
                    counts[pair] += 1
    if not counts:
        return None
    pair, uses = max(counts.items(), key=lambda item: (item[1], repr(item[0])))
    return pair if uses >= MIN_SHARED_USES else None


def _replace_pair(groups: list[list[Term]], pair: Pair, image: int) -> None:
    for terms in groups:
        replaced = True
        while replaced:
            replaced = False
            for number, a in enumerate(terms):
                for b in terms[:number]:
                    found, reader = _as_pair(a, b)
                    if found == pair:
                        terms.remove(a)
                        terms.remove(b)
                        terms.append(Term(image, reader.row, reader.col, reader.sign))
                        replaced = True
                        break
                if replaced:
                    break
