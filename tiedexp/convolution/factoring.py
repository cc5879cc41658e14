"""How a tied convolution can be computed with fewer multiplications than its kernel has cells.

A convolution is linear in its kernel, and a tied kernel is a sum over its tied groups: free weight times the indicator
of the group's cells. So each group needs one multiplication, by the sum of the input over its cells. Groups of the same
shape at different offsets share one *sum*, read at those offsets:

    AABCC/AABCC/DDEFF/GGHII/GGHII     sums: of the input over 1x2, 2x1 and 2x2 cells
                                      taps: 4 on the 2x2 sum, 2 on each of 1x2 and 2x1, 1 on the input: 9, not 25

A `Factoring` is such a set of sums and taps, with the matrix that makes the weights of the taps from the free weights.
Parts of sums that several groups use (at any offset) are computed once. They are found as in multiple constant
multiplication: the most frequent pair of terms becomes a term (Hartley 1996, doi:10.1109/82.539000).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numpy as np
import numpy.typing as npt

from tiedexp.patterns.grid import Pattern

INPUT = -1  # the source of a term or tap that reads the input itself
# A pair of terms becomes a sum of its own if it is used this often: it costs three passes and saves one per use.
MIN_SHARED_USES = 4
# With more pairs of terms, the search takes too long for what it can find.
MAX_PAIRS = 20_000
# With more taps than this share of the cells, the sums cost more than they save.
MAX_TAPS = 0.8


@dataclass(frozen=True)
class Term:
    """One term of a sum: a source, read `row` down and `col` to the right (negative: up, left), times `sign`.

    `source` is the number of an earlier sum, or `INPUT`.
    """

    source: int
    row: int
    col: int
    sign: int


Sum = tuple[Term, ...]


@dataclass(frozen=True)
class Tap:
    """A weight of the factored convolution: it multiplies a sum, or the input, read at a cell of the kernel."""

    source: int
    row: int
    col: int


@dataclass(frozen=True, eq=False)
class Factoring:
    """Sums and taps that together make up a tied kernel.

    Args:
        shape: (rows, cols) of the kernel.
        sums: in an order in which they can be computed.
        taps: what is multiplied.
        mix: (taps, tied_groups); the taps' weights are `mix @ free`.
    """

    shape: tuple[int, int]
    sums: tuple[Sum, ...]
    taps: tuple[Tap, ...]
    mix: npt.NDArray[np.float64]

    def footprints(self) -> list[npt.NDArray[np.float64]]:
        """The cells that each tap stands for: one array (rows, cols) of the kernel per tap, signed."""
        figures: list[dict[tuple[int, int], int]] = []
        for terms in self.sums:
            figure: dict[tuple[int, int], int] = defaultdict(int)
            for term in terms:
                part = {(0, 0): 1} if term.source == INPUT else figures[term.source]
                for (row, col), sign in part.items():
                    figure[row + term.row, col + term.col] += term.sign * sign
            figures.append(figure)
        footprints = []
        for tap in self.taps:
            footprint = np.zeros(self.shape)
            for (row, col), sign in ({(0, 0): 1} if tap.source == INPUT else figures[tap.source]).items():
                footprint[tap.row + row, tap.col + col] += sign
            footprints.append(footprint)
        return footprints

    def expand(self, free: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Free weights (tied_groups, ...) to the kernel that the factoring stands for, (rows, cols, ...)."""
        return np.tensordot(np.stack(self.footprints(), -1), np.tensordot(self.mix, np.asarray(free), 1), 1)

    @cached_property
    def row_spans(self) -> tuple[tuple[int, int], ...]:
        """First and last row of the kernel at which the input and each sum are read; (0, 0) for one never read."""
        rows: list[list[int]] = [[0], *([] for _ in self.sums)]
        for tap in self.taps:
            rows[tap.source + 1].append(tap.row)
        for number in range(len(self.sums), 0, -1):  # a sum reads earlier ones
            for term in self.sums[number - 1] if rows[number] else ():
                rows[term.source + 1] += [min(rows[number]) + term.row, max(rows[number]) + term.row]
        return tuple((min(read), max(read)) if read else (0, 0) for read in rows)


@lru_cache(maxsize=512)
def factor_cells(pattern: Pattern) -> Factoring:
    """The pattern as it is: no sums, and one tap for every cell that is not fixed at zero."""
    cells = np.flatnonzero(pattern.sign)
    taps = tuple(Tap(INPUT, *divmod(int(cell), pattern.shape[1])) for cell in cells)
    return Factoring(pattern.shape, (), taps, np.asarray(pattern.matrix[cells], np.float64))


@lru_cache(maxsize=512)
def factor(pattern: Pattern) -> Factoring | None:
    """A factoring into sums with one tap per group; None if the pattern has hardly fewer groups than cells."""
    if pattern.num_groups > MAX_TAPS * pattern.num_cells:
        return None
    groups: list[list[Term]] = [[] for _ in range(pattern.num_groups)]
    for (row, col), group in np.ndenumerate(pattern.index):
        if group >= 0:
            groups[group].append(Term(INPUT, row, col, int(pattern.sign[row, col])))
    sums: list[Sum] = []
    if sum(len(terms) ** 2 for terms in groups) <= MAX_PAIRS:
        while (pair := _most_frequent_pair(groups)) is not None:
            _replace_pair(groups, pair, len(sums))
            sums.append(pair)
    taps = []
    numbers: dict[Sum, int] = {}
    for terms in groups:
        first, *_ = ordered = sorted(terms, key=_position)
        if len(terms) == 1:
            taps.append(Tap(first.source, first.row, first.col))
            continue
        # Written relative to its first term, so that groups of the same shape share it.
        moved = tuple(Term(t.source, t.row - first.row, t.col - first.col, t.sign * first.sign) for t in ordered)
        if moved not in numbers:
            numbers[moved] = len(sums)
            sums.append(moved)
        taps.append(Tap(numbers[moved], first.row, first.col))
    # The first cell of a group is positive, but its first term, if that is a sum, may be read with a minus.
    factoring = Factoring(pattern.shape, tuple(sums), tuple(taps), np.eye(pattern.num_groups))
    footprints = np.stack([footprint.ravel() for footprint in factoring.footprints()])  # (tied_groups, cells)
    return replace(factoring, mix=np.diag(np.sign(np.sum(footprints * pattern.matrix.T, axis=1))))


def use_weights_of(pattern: Pattern, rotated: Pattern, factoring: Factoring) -> Factoring:
    """The factoring of `rotated`, which is `pattern` rotated by 180 degrees, with the free weights of `pattern`."""
    source = pattern.index.size - 1 - rotated.first_cells  # the cell of `pattern` that is each rotated group's first
    return replace(factoring, mix=factoring.mix @ pattern.matrix[source])  # (taps, tied_groups)


Pair = tuple[Term, Term]


def _position(term: Term) -> tuple[int, int, int]:
    return term.row, term.col, term.source


def _as_pair(a: Term, b: Term) -> tuple[Pair, Term]:
    """Two terms as a pair at the origin, and the first of them: the pair is read where that is, with its sign."""
    a, b = sorted((a, b), key=_position)
    pair = Term(a.source, 0, 0, 1), Term(b.source, b.row - a.row, b.col - a.col, a.sign * b.sign)
    return pair, a


def _most_frequent_pair(groups: list[list[Term]]) -> Pair | None:
    """The pair that the groups have most often; None if no pair is worth a sum."""
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


def _replace_pair(groups: list[list[Term]], pair: Pair, number: int) -> None:
    """Wherever a group has the pair, read the sum with this number instead of the two terms."""
    for terms in groups:
        while (found := _find_pair(terms, pair)) is not None:
            a, b, first = found
            terms.remove(a)
            terms.remove(b)
            terms.append(replace(first, source=number))


def _find_pair(terms: list[Term], pair: Pair) -> tuple[Term, Term, Term] | None:
    """Two terms that are the pair, and the first of them by position."""
    for number, a in enumerate(terms):
        for b in terms[:number]:
            found, first = _as_pair(a, b)
            if found == pair:
                return a, b, first
    return None
