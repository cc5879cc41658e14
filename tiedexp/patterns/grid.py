"""A tying pattern: a small grid that says which cells of a convolution kernel share one weight.

    Pattern.parse("AABCC/AABCC/DDEFF/GGHII/GGHII")

is a 5x5 kernel with nine free weights: equal letters are one trainable number, `-A` is its negative, `.` is a cell
fixed at zero. Everything else in tiedexp (layers, cost, initialization) follows from the two arrays of a `Pattern`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from string import ascii_letters, ascii_uppercase
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from tiedexp.errors import PatternError
from tiedexp.patterns import presets

MAX_SIDE = 127
_MAX_TEXT = 2**18  # characters

# Each maps a kernel as NumPy does: "flip_h" swaps left and right, "rot90" rotates anticlockwise.
TRANSFORMS: dict[str, Callable[[npt.NDArray[Any]], npt.NDArray[Any]]] = {
    "flip_h": np.fliplr,
    "flip_v": np.flipud,
    "rot90": np.rot90,
    "rot180": lambda grid: np.rot90(grid, 2),
    "rot270": lambda grid: np.rot90(grid, 3),
    "transpose": np.transpose,
    "anti_transpose": lambda grid: np.rot90(grid, 2).T,
}

_COMPACT_CELL = re.compile(r"\.|-?[A-Za-z][0-9]*")
_SPACED_CELL = re.compile(r"\.|-?[A-Za-z_][A-Za-z0-9_]*")
_LOWER_WORD = re.compile(r"[a-z][a-z0-9_]+")
_LETTERS = ascii_uppercase + ascii_letters[:26]


@dataclass(frozen=True, eq=False, repr=False)
class Pattern:
    """An immutable, hashable tying pattern: which cells of a kernel share one free weight.

    Cells that share a weight form a group. Groups are numbered in the order of their first cells (row by row), and the
    first cell of a group counts as positive, so patterns that differ only in the names of their groups are equal.

    Usually a pattern is made by `Pattern.parse`, `Pattern.preset` or `Pattern.tile`, not from arrays.

    Examples:
        >>> pattern = Pattern.parse("AABCC/AABCC/DDEFF/GGHII/GGHII")
        >>> pattern.shape, pattern.num_groups, pattern.group_sizes
        ((5, 5), 9, (4, 2, 4, 2, 1, 2, 4, 2, 4))
        >>> pattern == Pattern.preset("block", 5)
        True
        >>> Pattern.preset("d4", 3)
        Pattern.parse('ABA/BCB/ABA')
        >>> Pattern.parse("A-A").expand([2.0])
        array([[ 2., -2.]])

    Args:
        index: integer array (rows, cols), the group of each cell. A negative number is a cell fixed at zero.
        sign: integer array (rows, cols), the factor of the group's weight in each cell: +1 or -1, and 0 exactly at the
            cells fixed at zero. By default it is +1 in all other cells.

    Attributes:
        index: (rows, cols) read-only array, the number of each cell's group, -1 for a cell fixed at zero.
        sign: (rows, cols) read-only array of +1, -1, and 0 for a cell fixed at zero.

    Raises:
        PatternError: the arrays are empty, too large or of different shapes, or the pattern has no free weight.
    """

    index: npt.NDArray[np.int64]
    sign: npt.NDArray[np.int8]

    def __init__(self, index: npt.ArrayLike, sign: npt.ArrayLike | None = None):
        groups = np.asarray(index)
        if groups.ndim != 2 or groups.size == 0 or not np.issubdtype(groups.dtype, np.integer):
            raise PatternError(
                f"a pattern is a two-dimensional grid of whole numbers with at least one cell. "
                f"Received: shape {groups.shape} of {groups.dtype}"
            )
        if max(groups.shape) > MAX_SIDE:
            raise PatternError(f"a pattern has at most {MAX_SIDE} rows and columns. Received: shape {groups.shape}")
        free = groups >= 0
        factors = np.where(free, 1, 0) if sign is None else np.asarray(sign)
        if factors.shape != groups.shape or not np.array_equal(np.abs(factors), free):
            raise PatternError("`sign` must have the shape of `index`, 0 at its fixed zeros and +1 or -1 elsewhere")
        if not free.any():
            raise PatternError("the pattern has no free weight: every cell is fixed at zero")
        canonical_index, canonical_sign = _canonical(groups, factors)
        object.__setattr__(self, "index", canonical_index)
        object.__setattr__(self, "sign", canonical_sign)

    # Making patterns

    @classmethod
    def parse(cls, text: str) -> Pattern:
        """Read a grid from text, e.g. "AAB/CCB" or "left left b / c c b", which are both 2x3.

        Args:
            text: rows, separated by "/" or newlines. A cell is a letter, which digits can follow (`A1`), or a word if
                cells are separated by spaces. Equal cells share one weight; a leading `-` negates it, and `.` is a
                cell fixed at zero.

        Returns:
            The pattern.

        Raises:
            PatternError: a row or the grid is empty, rows differ in length, or a cell is malformed. The message says
                which row and cell.
        """
        if len(text) > _MAX_TEXT:
            raise PatternError(f"a grid has at most {_MAX_TEXT:,} characters. Received: {len(text):,}")
        lines = [line.strip() for line in re.split(r"[/\n]", text.strip())]
        if len(lines) > MAX_SIDE:
            raise PatternError(f"a pattern has at most {MAX_SIDE} rows and columns. Received: {len(lines):,} rows")
        spaced = any(len(line.split()) > 1 for line in lines)
        rows = [_parse_row(line, number, spaced) for number, line in enumerate(lines, start=1)]
        for number, row in enumerate(rows, start=1):
            if len(row) != len(rows[0]):
                raise PatternError(
                    f"row {number} ('{lines[number - 1]}') has {len(row)} cell{'s' * (len(row) != 1)}, but row 1 has "
                    f"{len(rows[0])}: all rows must have the same length"
                )
        names: dict[str, int] = {}
        index = [
            [-1 if cell == "." else names.setdefault(cell.lstrip("-"), len(names)) for cell in row] for row in rows
        ]
        sign = [[0 if cell == "." else -1 if cell[0] == "-" else 1 for cell in row] for row in rows]
        return cls(index, sign)

    @classmethod
    def preset(cls, name: str, size: int | Sequence[int], /, **options: Any) -> Pattern:
        """A named pattern at a size, e.g. `Pattern.preset("hashed", (3, 5), groups=4, seed=1)`.

        Args:
            name: a key of `tiedexp.patterns.presets.PRESETS`; `tiedexp pattern list` shows them all.
            size: the side of a square kernel, or its (rows, cols).
            **options: the preset's options; `tiedexp pattern show NAME` explains them. A pattern, such as `of` of
                `random_like`, can be any value that `Pattern.of` takes.

        Returns:
            The pattern.

        Raises:
            PatternError: the name or an option is unknown, or the preset makes no sense at this size.
        """
        rows, cols = _as_size(size)
        preset = presets.find_preset(name)
        preset.check_options(options)
        for key, option in preset.options.items():
            if option.kind is presets.PATTERN:
                options[key] = cls.of(options.get(key, option.default), (rows, cols))
        return cls(*preset.build(rows, cols, **options))

    @classmethod
    def tile(cls, shape: Sequence[int], repeats: Sequence[int]) -> Pattern:
        """A small kernel of free weights, repeated down and across: cells one tile apart are tied.

        Args:
            shape: (rows, cols) of the small kernel.
            repeats: how often it is repeated, (down, across).

        Returns:
            The pattern, of (rows * down, cols * across) cells.

        Raises:
            PatternError: a number is not whole, not positive, or too large.
        """
        rows, cols = _as_size(shape)
        return cls(np.tile(np.arange(rows * cols).reshape(rows, cols), _as_size(repeats)))

    @classmethod
    def of(cls, value: Pattern | str | Mapping[str, Any], size: int | Sequence[int] | None = None) -> Pattern:
        """The pattern that a user writes as a Pattern, a preset's name, `{"preset": name, ...}`, or a grid.

        Args:
            value: the pattern. Text that is the name of a preset means the preset; other text is a grid. A single word
                in lower case is taken as a misspelt name, not as a grid of one row, unless `size` is one row of as
                many cells. A word that resembles a preset's name always is.
            size: the size of the kernel. A preset needs it; a grid must have it.

        Returns:
            The pattern.

        Raises:
            PatternError: there is no such preset, the grid is malformed, or it has another size.
        """
        if isinstance(value, Mapping) or (isinstance(value, str) and value in presets.PRESETS):
            options: dict[str, Any] = dict(value) if isinstance(value, Mapping) else {"preset": value}
            name = options.pop("preset", None)
            if name is None:
                raise PatternError(f"a pattern given as a mapping needs the key 'preset'. Received: {value!r}")
            presets.find_preset(name)
            if size is None:
                raise PatternError(f"the preset '{name}' needs a kernel size, e.g. kernel_size=5")
            return cls.preset(name, size, **options)
        if not isinstance(value, Pattern | str):
            raise PatternError(f"a pattern is a Pattern, a preset's name, a mapping or a grid. Received: {value!r}")
        if isinstance(value, str) and value.isidentifier():
            _refuse_misspelt_name(value, None if size is None else _as_size(size))
        pattern = cls.parse(value) if isinstance(value, str) else value
        if size is not None and pattern.shape != _as_size(size):
            raise PatternError(
                f"the pattern is {pattern.shape[0]}x{pattern.shape[1]}, but the kernel size is "
                f"{'x'.join(map(str, _as_size(size)))}"
            )
        return pattern

    # What it is

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, cols) of the kernel."""
        rows, cols = self.index.shape
        return rows, cols

    @property
    def num_groups(self) -> int:
        """Number of groups: the free weights for each pair of input channel and filter."""
        return int(self.index.max()) + 1

    @property
    def num_cells(self) -> int:
        """Number of cells that are not fixed at zero."""
        return int(np.count_nonzero(self.sign))

    @cached_property
    def group_sizes(self) -> tuple[int, ...]:
        """Number of cells in each group."""
        return tuple(np.bincount(self.index[self.index >= 0], minlength=self.num_groups).tolist())

    @cached_property
    def matrix(self) -> npt.NDArray[np.float64]:
        """Array (cells, groups) of -1, 0 and 1 such that the flattened kernel is `matrix @ free weights`."""
        matrix = np.zeros((self.index.size, self.num_groups))
        cells = np.flatnonzero(self.index >= 0)
        matrix[cells, self.index.ravel()[cells]] = self.sign.ravel()[cells]
        matrix.setflags(write=False)
        return matrix

    @cached_property
    def first_cells(self) -> npt.NDArray[np.int64]:
        """Array (groups,) with the flat position of each group's first cell, which is always positive."""
        free = np.flatnonzero(self.index >= 0)
        first = free[np.unique(self.index.ravel()[free], return_index=True)[1]]
        first.setflags(write=False)
        return first

    @property
    def is_dense(self) -> bool:
        """Whether no cell is fixed at zero."""
        return self.num_cells == self.index.size

    @cached_property
    def digest(self) -> str:
        """Twelve hexadecimal digits that identify the pattern, whatever the names of its groups."""
        content = repr(self.shape).encode() + self.index.tobytes() + self.sign.tobytes()
        return sha256(content).hexdigest()[:12]

    @cached_property
    def symmetries(self) -> frozenset[str]:
        """The transforms under which every kernel of this pattern is symmetric, as keys of `TRANSFORMS`."""
        return self._invariances(1)

    @cached_property
    def antisymmetries(self) -> frozenset[str]:
        """The transforms under which every kernel of this pattern is antisymmetric, as keys of `TRANSFORMS`."""
        return self._invariances(-1)

    def _invariances(self, factor: int) -> frozenset[str]:
        def keeps(name: str) -> bool:
            index, sign = TRANSFORMS[name](self.index), TRANSFORMS[name](self.sign)
            return np.array_equal(index, self.index) and np.array_equal(sign, factor * self.sign)

        return frozenset(filter(keeps, TRANSFORMS))

    # What it does

    def transform(self, name: str) -> Pattern:
        """The pattern of the transformed kernels.

        Args:
            name: "flip_h", "flip_v", "rot90", "rot180", "rot270", "transpose" or "anti_transpose".

        Returns:
            The pattern.

        Raises:
            PatternError: there is no such transform.
        """
        if name not in TRANSFORMS:
            raise PatternError(f"unknown transform '{name}'; the transforms are {', '.join(TRANSFORMS)}")
        return Pattern(TRANSFORMS[name](self.index), TRANSFORMS[name](self.sign))

    def expand(self, free: npt.ArrayLike) -> npt.NDArray[np.floating[Any]]:
        """Expand free weights to kernels.

        Args:
            free: array (groups, ...).

        Returns:
            Array (rows, cols, ...).

        Raises:
            PatternError: the array has another number of groups.
        """
        weights = np.asarray(free)
        if weights.shape[:1] != (self.num_groups,):
            raise PatternError(
                f"the pattern has {self.num_groups} free weights. Received: an array of shape {weights.shape}"
            )
        sign = self.sign.reshape(self.shape + (1,) * (weights.ndim - 1))
        return cast("npt.NDArray[np.floating[Any]]", sign.astype(weights.dtype) * weights[self.index])

    def collapse(self, kernel: npt.ArrayLike) -> npt.NDArray[np.floating[Any]]:
        """Add up the cells of each group, with their signs: the transpose of `expand`.

        Args:
            kernel: array (rows, cols, ...).

        Returns:
            Array (groups, ...).

        Raises:
            PatternError: the array has other rows or columns.
        """
        cells = np.asarray(kernel)
        if cells.shape[:2] != self.shape:
            raise PatternError(
                f"the pattern is {self.shape[0]}x{self.shape[1]}. Received: a kernel of shape {cells.shape}"
            )
        return np.tensordot(self.matrix.T, cells.reshape(self.index.size, *cells.shape[2:]), axes=1)

    # How it looks

    def __str__(self) -> str:
        names = [_group_name(group) for group in range(self.num_groups)]
        separator = "" if self.num_groups <= len(_LETTERS) else " "
        rows = (
            separator.join(
                "." if sign == 0 else ("-" if sign < 0 else "") + names[group]
                for group, sign in zip(index_row, sign_row, strict=True)
            )
            for index_row, sign_row in zip(self.index.tolist(), self.sign.tolist(), strict=True)
        )
        return "/".join(rows)

    def __repr__(self) -> str:
        return f"Pattern.parse({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Pattern):
            return NotImplemented
        return np.array_equal(self.index, other.index) and np.array_equal(self.sign, other.sign)

    def __hash__(self) -> int:
        return hash((self.index.tobytes(), self.sign.tobytes(), self.shape))

    def __reduce__(self) -> tuple[type[Pattern], tuple[Any, Any]]:
        return Pattern, (self.index, self.sign)


def _refuse_misspelt_name(word: str, size: tuple[int, int] | None) -> None:
    """Raise PatternError if a word is more likely a misspelt preset than a grid of one row, such as ABA."""
    if presets.close_names(word):
        presets.find_preset(word)
    if _LOWER_WORD.fullmatch(word) and size != (1, len(_COMPACT_CELL.findall(word))):
        raise PatternError(
            f"unknown pattern '{word}'; the presets are {', '.join(presets.PRESETS)}. A grid of a single row is "
            f"written in capitals: {word.upper()}"
        )


def _parse_row(line: str, number: int, spaced: bool) -> list[str]:
    """The cells of one row of a grid's text."""
    if not line:
        raise PatternError(f"row {number} is empty; a row is a run of letters such as AAB")
    cells = line.split() if spaced else re.findall(rf"{_COMPACT_CELL.pattern}|.", line)
    form = _SPACED_CELL if spaced else _COMPACT_CELL
    for column, cell in enumerate(cells, start=1):
        if not form.fullmatch(cell):
            raise PatternError(
                f"row {number}, cell {column}: '{cell}' is not a cell; a cell is a letter or word, '-' and a letter or "
                "word for its negative, or '.' for a fixed zero"
            )
    if len(cells) > MAX_SIDE:
        raise PatternError(f"a pattern has at most {MAX_SIDE} rows and columns. Received: {len(cells):,} columns")
    return cells


def _canonical(
    groups: npt.NDArray[Any], factors: npt.NDArray[Any]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int8]]:
    """Number the groups by their first cell, and make that cell positive."""
    numbers: dict[int, int] = {}
    first_signs: dict[int, int] = {}
    index = np.full(groups.shape, -1, dtype=np.int64)
    sign = np.zeros(groups.shape, dtype=np.int8)
    for cell in zip(*np.nonzero(factors), strict=True):
        group = int(groups[cell])
        index[cell] = numbers.setdefault(group, len(numbers))
        sign[cell] = factors[cell] * first_signs.setdefault(group, int(factors[cell]))
    index.setflags(write=False)
    sign.setflags(write=False)
    return index, sign


def _group_name(group: int) -> str:
    """A..Z, a..z, then A1..z1, A2..."""
    round_, letter = divmod(group, len(_LETTERS))
    return _LETTERS[letter] + (str(round_) if round_ else "")


def _as_size(size: int | Sequence[int]) -> tuple[int, int]:
    sides = tuple(size) if isinstance(size, Sequence | np.ndarray) else (size, size)
    whole = all(isinstance(side, int | np.integer) and not isinstance(side, bool) for side in sides)
    if len(sides) != 2 or not whole or not all(1 <= side <= MAX_SIDE for side in sides):
        raise PatternError(f"a size is a whole number from 1 to {MAX_SIDE}, or two of them. Received: {size!r}")
    return int(sides[0]), int(sides[1])
