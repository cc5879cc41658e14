"""How a tied convolution can be computed with fewer multiplications than its kernel has cells.

A convolution is linear in its kernel, and a tied kernel is a sum over its groups: free weight times the indicator of
the group's cells. So each group needs one multiplication, by the sum of the input over its cells. Groups of the same
shape at different offsets share one *sum image*, read at those offsets:

    AABCC/AABCC/DDEFF/GGHII/GGHII     images: the input, and its sums over 1x2, 2x1 and 2x2 cells
                                      taps: 4 on the 2x2 sums, 2 on each of 1x2 and 2x1, 1 on the input: 9, not 25

A `Factoring` is such a set of images and taps, with the matrix that makes the weights of the taps from the free
weights. Sub-sums that several groups use (at any offset) are computed once, found as in multiple constant
multiplication: the most frequent pair of terms becomes a term (Hartley 1996, doi:10.1109/82.539000).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numpy as np
import numpy.typing as npt

from tiedexp.patterns.grid import Pattern

# A pair of terms is worth an image of its own from this many uses on: it costs three passes and saves one per use.
MIN_SHARED_USES = 4
# With more pairs of terms the search takes too long for what it can find.
MAX_PAIRS = 20_000
# With more taps than this part of the cells, the sums cost more than they save.
MAX_TAPS = 0.8


@dataclass(frozen=True)
class Term:
    """One summand of an image: an image, read `row` down and `col` to the right (negative: up, left), times `sign`.

    `image` is the number of an earlier image, or -1 for the input.
    """

    image: int
    row: int
    col: int
    sign: int


Image = tuple[Term, ...]  # a signed sum of shifted images


@dataclass(frozen=True)
class Tap:
    """A weight of the factored convolution: it multiplies an image (-1: the input) read at a cell of the kernel."""

    image: int
    row: int
    col: int


@dataclass(frozen=True, eq=False)
class Factoring:
    """Sum images and taps that together are a tied kernel.

    Args:
        shape: (rows, cols) of the kernel.
        images: the sum images, in an order in which they can be computed.
        taps: what is multiplied.
        mix: (taps, groups), the taps' weights are `mix @ free`.
    """

    shape: tuple[int, int]
    images: tuple[Image, ...]
    taps: tuple[Tap, ...]
    mix: npt.NDArray[np.float64]

    def footprints(self) -> list[npt.NDArray[np.float64]]:
        """Of each tap the cells it stands for: (rows, cols) of the kernel, signed."""
        figures: list[dict[tuple[int, int], int]] = []
        for image in self.images:
            figure: dict[tuple[int, int], int] = defaultdict(int)
            for term in image:
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
        """Free weights (groups, ...) to the kernel that the factoring computes with, (rows, cols, ...)."""
        return np.tensordot(np.stack(self.footprints(), -1), np.tensordot(self.mix, np.asarray(free), 1), 1)

    @cached_property
    def row_spans(self) -> tuple[tuple[int, int], ...]:
        """Rows of the kernel, first and last, at which the input and each image are read; (0, 0) where none is."""
        rows: list[list[int]] = [[0], *([] for _ in self.images)]
        for tap in self.taps:
            rows[tap.image + 1].append(tap.row)
        for number in range(len(self.images), 0, -1):  # images read earlier ones
            for term in self.images[number - 1] if rows[number] else ():
                rows[term.image + 1] += [min(rows[number]) + term.row, max(rows[number]) + term.row]
        return tuple((min(places), max(places)) if places else (0, 0) for places in rows)


@lru_cache(maxsize=512)
def factor(pattern: Pattern) -> Factoring | None:
    """A factoring of a pattern into sums; None if it has hardly fewer taps than the pattern has cells."""
    sums = _factor_sums(pattern)
    return sums if len(sums.taps) <= MAX_TAPS * pattern.num_cells else None


@lru_cache(maxsize=512)
def factor_cells(pattern: Pattern) -> Factoring:
    """The pattern as it is: no sums, and a tap for every cell that is not fixed at zero."""
    cells = np.flatnonzero(pattern.sign)
    taps = tuple(Tap(-1, *divmod(int(cell), pattern.shape[1])) for cell in cells)
    return Factoring(pattern.shape, (), taps, np.asarray(pattern.matrix[cells], np.float64))


@lru_cache(maxsize=512)
def factor_rotated(pattern: Pattern) -> Factoring | None:
    """A factoring of the kernel rotated by 180 degrees, of the same free weights.

    The gradient of a convolution with respect to its input is a convolution with that kernel.
    """
    rotated = pattern.transform("rot180")
    factoring = factor(rotated)
    return None if factoring is None else _of_groups(pattern, rotated, factoring)


@lru_cache(maxsize=512)
def factor_rotated_cells(pattern: Pattern) -> Factoring:
    """The cells of the kernel rotated by 180 degrees."""
    rotated = pattern.transform("rot180")
    return _of_groups(pattern, rotated, factor_cells(rotated))


def _of_groups(pattern: Pattern, rotated: Pattern, factoring: Factoring) -> Factoring:
    """A factoring of the rotated pattern as one of the pattern's free weights."""
    source = pattern.index.size - 1 - rotated.first_cells  # the cell of the pattern where each rotated group begins
    return replace(factoring, mix=factoring.mix @ pattern.matrix[source])  # (taps, groups)


def _factor_sums(pattern: Pattern) -> Factoring:
    """One image per group, common sub-sums shared."""
    groups: list[list[Term]] = [[] for _ in range(pattern.num_groups)]
    for (row, col), group in np.ndenumerate(pattern.index):
        if group >= 0:
            groups[group].append(Term(-1, row, col, int(pattern.sign[row, col])))
    images: list[Image] = []
    if sum(len(terms) ** 2 for terms in groups) <= MAX_PAIRS:
        while (pair := _most_frequent_pair(groups)) is not None:
            _replace_pair(groups, pair, len(images))
            images.append(pair)
    taps = []
    numbers: dict[Image, int] = {}
    for terms in groups:
        # As an image at its first term, so that groups of the same shape share it.
        first = min(terms, key=lambda term: (term.row, term.col, term.image))
        if len(terms) == 1:
            taps.append(Tap(first.image, first.row, first.col))
            continue
        ordered = sorted(terms, key=lambda term: (term.row, term.col, term.image))
        image = tuple(Term(t.image, t.row - first.row, t.col - first.col, t.sign * first.sign) for t in ordered)
        if image not in numbers:
            numbers[image] = len(images)
            images.append(image)
        taps.append(Tap(numbers[image], first.row, first.col))
    # The first cell of a group is positive, but the first term, an image, may be read with a minus.
    factoring = Factoring(pattern.shape, tuple(images), tuple(taps), np.eye(pattern.num_groups))
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
