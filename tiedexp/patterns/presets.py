"""The presets: named patterns for any kernel size at which they make sense, and who proposed them.

A preset is a function of (rows, cols) and its options. It returns the group of each cell, an array (rows, cols) with -1
for a cell fixed at zero, and the sign of each cell (or None if all are positive). Its keyword-only parameters are its
options; each is declared there, as `Annotated[int, Option("what it means")]`. The checks, the spec, its JSON schema and
the command line read this declaration. To add a preset, write a function and add a row to `PRESETS`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property, lru_cache
from hashlib import sha256
from typing import Annotated, Any, Protocol, get_type_hints

import numpy as np
import numpy.typing as npt

from tiedexp.errors import PatternError

Grid = npt.NDArray[np.integer[Any]]
Cells = tuple[Grid, Grid | None]


class _HasCells(Protocol):
    """The part of a `Pattern` that is needed here."""

    @property
    def index(self) -> Grid: ...
    @property
    def sign(self) -> Grid: ...


@dataclass(frozen=True)
class Kind:
    """The values that an option takes.

    Args:
        wanted: what they are, for messages.
        accepts: whether a value is one of them.
        parse: from the text of a command line; other text is returned unchanged.
    """

    wanted: str
    accepts: Callable[[Any], bool]
    parse: Callable[[str], Any]


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_size(value: Any) -> bool:
    return _is_whole(value) or (isinstance(value, tuple | list) and len(value) == 2 and all(map(_is_whole, value)))


def _parse_whole(text: str) -> int | str:
    return int(text) if text.isdecimal() else text


def _parse_size(text: str) -> int | tuple[int, int] | str:
    rows, x, cols = text.lower().partition("x")
    return (int(rows), int(cols)) if x and rows.isdecimal() and cols.isdecimal() else _parse_whole(text)


def _parse_truth(text: str) -> bool | str:
    return text == "true" if text in ("true", "false") else text


WHOLE = Kind("a whole number", _is_whole, _parse_whole)
TRUTH = Kind("true or false", lambda value: isinstance(value, bool), _parse_truth)
SIZE = Kind("a whole number or two of them", _is_size, _parse_size)
PATTERN = Kind("a pattern", lambda value: True, str)  # any value of `Pattern.of`, which checks it


@dataclass(frozen=True)
class Option:
    """An option of a preset.

    Args:
        meaning: what it means, in a few words.
        kind: the values that it takes.
        at_least: the smallest value of a WHOLE option, if that does not depend on the kernel size.
        default: the value of a PATTERN option that is left out; other defaults are in the signature.
    """

    meaning: str
    kind: Kind = WHOLE
    at_least: int | None = None
    default: str = "full"


Seed = Annotated[int, Option("which of the random patterns", at_least=0)]


def full(rows: int, cols: int) -> Cells:
    return np.arange(rows * cols).reshape(rows, cols), None


def block(
    rows: int, cols: int, *, blocks: Annotated[int | None, Option("blocks along each side", at_least=1)] = None
) -> Cells:
    blocks = min(3, max(rows, cols)) if blocks is None else blocks
    if not 1 <= blocks <= max(rows, cols):
        raise PatternError(f"block: `blocks` must be from 1 to {max(rows, cols)}, the longer side. Received: {blocks}")
    return _product(_parts(rows, min(blocks, rows)), _parts(cols, min(blocks, cols))), None


def tile(
    rows: int,
    cols: int,
    *,
    tile: Annotated[int | tuple[int, int], Option("side, or [rows, cols], of the small kernel", SIZE)] = 2,
) -> Cells:
    height, width = (tile, tile) if isinstance(tile, int) else tuple(tile)
    if not (1 <= height <= max(rows, 2) and 1 <= width <= max(cols, 2)):
        raise PatternError(f"tile: `tile` must fit into the {rows}x{cols} kernel. Received: {tile}")
    return _product(np.arange(rows) % height, np.arange(cols) % width), None


def mirror_h(rows: int, cols: int) -> Cells:
    return _product(np.arange(rows), _folded(cols)), None


def mirror_v(rows: int, cols: int) -> Cells:
    return _product(_folded(rows), np.arange(cols)), None


def mirror_hv(rows: int, cols: int) -> Cells:
    return _product(_folded(rows), _folded(cols)), None


def point(rows: int, cols: int) -> Cells:
    return _folded(rows * cols).reshape(rows, cols), None


def transpose(rows: int, cols: int) -> Cells:
    _needs_square("transpose", rows, cols)
    i, j = np.indices((rows, cols))
    return np.minimum(i, j) * cols + np.maximum(i, j), None


def rot90(rows: int, cols: int) -> Cells:
    _needs_square("rot90", rows, cols)
    cells, _ = full(rows, cols)
    return np.minimum.reduce([np.rot90(cells, quarters) for quarters in range(4)]), None


def d4(rows: int, cols: int) -> Cells:
    _needs_square("d4", rows, cols)
    rotated, _ = rot90(rows, cols)
    return np.minimum(rotated, rotated.T), None


def rings(rows: int, cols: int) -> Cells:
    return _chebyshev(rows, cols), None


def rings_circular(rows: int, cols: int) -> Cells:
    down, across = _from_centre(rows, cols)
    radius = np.floor(np.hypot(down, across) / 2 + 0.5).astype(np.int64)
    return np.where(radius <= max(rows, cols) // 2, radius, -1), None


def row(rows: int, cols: int) -> Cells:
    return np.indices((rows, cols))[0], None


def column(rows: int, cols: int) -> Cells:
    return np.indices((rows, cols))[1], None


def toeplitz(rows: int, cols: int) -> Cells:
    i, j = np.indices((rows, cols))
    return j - i + rows - 1, None


def hankel(rows: int, cols: int) -> Cells:
    i, j = np.indices((rows, cols))
    return i + j, None


def circulant(rows: int, cols: int) -> Cells:
    i, j = np.indices((rows, cols))
    return (j - i) % cols, None


def centre_surround(
    rows: int,
    cols: int,
    *,
    radius: Annotated[int | None, Option("radius of the centre, in cells", at_least=0)] = None,
) -> Cells:
    radius = (max(rows, cols) - 1) // 4 if radius is None else radius
    surround = _chebyshev(rows, cols) > 2 * radius + 1
    if radius < 0 or not surround.any():
        raise PatternError(
            f"centre_surround: a centre of radius {radius} leaves no surround in a {rows}x{cols} kernel; "
            "use a side of at least 3 and a smaller `radius`"
        )
    return surround.astype(np.int64), None


def checkerboard(rows: int, cols: int) -> Cells:
    i, j = np.indices((rows, cols))
    return (i + j) % 2, None


def anti_point(rows: int, cols: int) -> Cells:
    cells, _ = full(rows, cols)
    return _odd("anti_point", cells, np.rot90(cells, 2))


def anti_h(rows: int, cols: int) -> Cells:
    cells, _ = full(rows, cols)
    return _odd("anti_h", cells, np.fliplr(cells))


def anti_v(rows: int, cols: int) -> Cells:
    cells, _ = full(rows, cols)
    return _odd("anti_v", cells, np.flipud(cells))


def cross(rows: int, cols: int) -> Cells:
    down, across = _from_centre(rows, cols)
    # In a kernel of even side the two middle lines (half a cell off the centre) make the bar.
    return _free_where((down <= 1) | (across <= 1)), None


def atrous(
    rows: int, cols: int, *, rate: Annotated[int, Option("distance between free cells", at_least=1)] = 2
) -> Cells:
    if rate < 1 or (rows - 1) % rate or (cols - 1) % rate:
        raise PatternError(
            f"atrous: with rate={rate}, each side must be a multiple of {max(rate, 1)} plus 1 "
            f"({', '.join(str(n * max(rate, 1) + 1) for n in range(1, 4))}, ...). Received: {rows}x{cols}"
        )
    i, j = np.indices((rows, cols))
    return _free_where((i % rate == 0) & (j % rate == 0)), None


def causal(
    rows: int, cols: int, *, centre: Annotated[bool, Option("whether the middle cell is free", TRUTH)] = True
) -> Cells:
    cells, _ = full(rows, cols)
    # The cell at the output pixel with "same" padding: of the two middle lines of an even side, the first.
    middle = (rows - 1) // 2 * cols + (cols - 1) // 2
    return np.where(cells < middle + centre, cells, -1), None


def hashed(
    rows: int,
    cols: int,
    *,
    groups: Annotated[int | None, Option("number of free weights", at_least=1)] = None,
    seed: Seed = 0,
) -> Cells:
    groups = min(3, rows) * min(3, cols) if groups is None else groups
    if not 1 <= groups <= rows * cols:
        raise PatternError(f"hashed: `groups` must be from 1 to {rows * cols}, the number of cells. Received: {groups}")
    order, hashes = _hash_order(rows * cols, seed)
    index = np.array([value % groups for value in hashes])
    index[order[:groups]] = np.arange(groups)  # so that no group is empty
    return index.reshape(rows, cols), None


def random_like(
    rows: int,
    cols: int,
    *,
    of: Annotated[_HasCells, Option("the pattern whose group sizes to use", PATTERN, default="block")],
    seed: Seed = 0,
) -> Cells:
    order, _ = _hash_order(rows * cols, seed)
    return of.index.ravel()[order].reshape(rows, cols), of.sign.ravel()[order].reshape(rows, cols)


@dataclass(frozen=True)
class Preset:
    """A named pattern of any size.

    Args:
        build: the function that makes the pattern; its name is the name of the preset.
        meaning: what is tied, in one line.
        source: who proposed it.
    """

    build: Callable[..., Cells]
    meaning: str
    source: str

    def __post_init__(self) -> None:
        _ = self.options  # fails at once for an option that is not declared

    @property
    def name(self) -> str:
        """The name of the preset."""
        return self.build.__name__

    @cached_property
    def options(self) -> dict[str, Option]:
        """The options besides the size, by name."""
        hints = get_type_hints(self.build, include_extras=True)
        options = {}
        for name, parameter in inspect.signature(self.build).parameters.items():
            if parameter.kind is parameter.KEYWORD_ONLY:
                declared = [part for part in getattr(hints[name], "__metadata__", ()) if isinstance(part, Option)]
                if len(declared) != 1:
                    raise TypeError(f"{self.name}: declare the option `{name}` as Annotated[..., Option(...)]")
                options[name] = declared[0]
        return options

    def check_options(self, options: Mapping[str, Any]) -> None:
        """Check the names and kinds of options.

        Raises:
            PatternError: the preset does not have an option, or its value is of the wrong kind.
        """
        for name, value in options.items():
            if name not in self.options:
                allowed = f"it takes {', '.join(self.options)}" if self.options else "it takes none"
                raise PatternError(f"the preset '{self.name}' has no option '{name}'; {allowed}")
            kind = self.options[name].kind
            if not kind.accepts(value):
                raise PatternError(f"the preset '{self.name}': `{name}` must be {kind.wanted}. Received: {value!r}")

    def parse_option(self, name: str, text: str) -> Any:
        """The value of an option from the text of a command line; `check_options` refuses a value that is not one."""
        return self.options[name].kind.parse(text) if name in self.options else text


_MIRROR = "Dudar & Semenov 2018, arXiv 1805.09421; SymNet, Dzhezyan & Cecotti 2019, arXiv 1906.04252"
_POINT = "SymNet, Dzhezyan & Cecotti 2019, arXiv 1906.04252"
_INVARIANT = "kernels that equal their transform: Lo et al. 2018, arXiv 1806.03636"
_ROTATION = (
    f"{_INVARIANT}; escnn's kernels between scalar fields, Weiler & Cesa 2019, arXiv 1911.08251; after Cohen & Welling "
    "2016, arXiv 1602.07576 (there the feature maps carry the group)"
)
_RINGS = "GMR-Conv, Du et al. 2025, arXiv 2504.02819 (there round rings, smoothed by Gaussians)"
_TILED = "the hand-written Keras layer Conv2DTiledKernel"
_OWN = "a control, proposed by this project"
_ODD_MIRROR = f"{_OWN}: the mirror counterpart of SymNet's anti-point reflection (arXiv 1906.04252)"

PRESETS = {
    preset.name: preset
    for preset in (
        Preset(full, "a weight for every cell: the ordinary convolution", "the baseline"),
        Preset(
            block, "a coarse grid of blocks of nearly equal size", "LargeKernel3D, Chen et al. 2023, arXiv 2206.10555"
        ),
        Preset(tile, "a small kernel repeated over the large one", _TILED),
        Preset(mirror_h, "left and right halves are mirror images", _MIRROR),
        Preset(mirror_v, "upper and lower halves are mirror images", _MIRROR),
        Preset(mirror_hv, "symmetric under both mirrors", _MIRROR),
        Preset(point, "symmetric under rotation by 180 degrees", _POINT),
        Preset(transpose, "symmetric under swapping rows and columns", _INVARIANT),
        Preset(rot90, "symmetric under rotation by 90 degrees", _ROTATION),
        Preset(d4, "symmetric under rotation by 90 degrees and under mirrors", _ROTATION),
        Preset(rings, "one weight per square ring (Chebyshev distance)", _RINGS),
        Preset(
            rings_circular,
            "one weight per round ring (rounded Euclidean radius); corners outside the rings are zero",
            _RINGS,
        ),
        Preset(row, "one weight per row", f"{_TILED} with a tile of one column"),
        Preset(column, "one weight per column", f"{_TILED} with a tile of one row"),
        Preset(toeplitz, "one weight per diagonal", _OWN),
        Preset(hankel, "one weight per antidiagonal", _OWN),
        Preset(circulant, "each row is the row above, shifted by one with wrap-around", _OWN),
        Preset(centre_surround, "one weight for the centre, one for the cells around it", _OWN),
        Preset(checkerboard, "two weights, alternating", _OWN),
        Preset(anti_point, "antisymmetric under rotation by 180 degrees", _POINT),
        Preset(anti_h, "antisymmetric under the left-right mirror", _ODD_MIRROR),
        Preset(anti_v, "antisymmetric under the up-down mirror", _ODD_MIRROR),
        Preset(cross, "free on the middle row and column, zero elsewhere", _OWN),
        Preset(atrous, "free on every `rate`-th row and column, zero elsewhere", "Yu & Koltun 2016, arXiv 1511.07122"),
        Preset(
            causal,
            "free before the centre in reading order (and at the centre), zero after it",
            "PixelCNN, van den Oord et al. 2016, arXiv 1601.06759",
        ),
        Preset(
            hashed,
            "cells assigned to `groups` weights by a hash of `seed`",
            "HashedNets, Chen et al. 2015, arXiv 1504.04788",
        ),
        Preset(random_like, "the group sizes of the pattern `of`, with the cells shuffled by `seed`", _OWN),
    )
}


def collect_options() -> dict[str, tuple[Option, list[str]]]:
    """Every option by its name, with the names of the presets that take it.

    Raises:
        TypeError: two presets declare the same option differently.
    """
    options: dict[str, tuple[Option, list[str]]] = {}
    for preset in PRESETS.values():
        for name, option in preset.options.items():
            declared, takers = options.setdefault(name, (option, []))
            if declared != option:
                raise TypeError(f"{', '.join(takers)} and {preset.name} declare the option `{name}` differently")
            takers.append(preset.name)
    return options


def name_pattern_options() -> list[str]:
    """The names of the options that are patterns themselves."""
    return [name for name, (option, _) in collect_options().items() if option.kind is PATTERN]


def find_preset(name: str) -> Preset:
    """The preset with this name.

    Raises:
        PatternError: no preset has this name; the message suggests similar ones.
    """
    if isinstance(name, str) and name in PRESETS:
        return PRESETS[name]
    close = close_names(str(name))
    hint = f"did you mean {' or '.join(close)}?" if close else f"the presets are {', '.join(PRESETS)}"
    raise PatternError(f"unknown pattern '{name}'; {hint}")


@lru_cache(maxsize=256)  # a spec may have the same wrong name thousands of times
def close_names(name: str) -> tuple[str, ...]:
    """The names of presets that are similar to `name`, the most similar first; case does not matter."""
    return tuple(get_close_matches(name.lower(), PRESETS, n=3, cutoff=0.6))


def _product(down: Grid, across: Grid) -> Grid:
    """The group of each cell, (rows, cols), from those of its row, (rows,), and its column, (cols,)."""
    return np.asarray(down[:, None] * (across.max() + 1) + across[None, :])


def _parts(side: int, count: int) -> Grid:
    """(side,) the part of each line, for a side cut into parts of nearly equal size; 5 into 3 is 2, 1, 2."""
    return (2 * np.arange(side) + 1) * count // (2 * side)


def _folded(side: int) -> Grid:
    """(side,) the distance to the nearer end: 0, 1, ..., 1, 0."""
    lines = np.arange(side)
    return np.minimum(lines, side - 1 - lines)


def _from_centre(rows: int, cols: int) -> tuple[Grid, Grid]:
    """Twice the distance of each row and column from the centre, which is whole even if a side is even."""
    i, j = np.indices((rows, cols))
    return np.abs(2 * i - (rows - 1)), np.abs(2 * j - (cols - 1))


def _chebyshev(rows: int, cols: int) -> Grid:
    """Twice the Chebyshev distance of each cell from the centre, (rows, cols)."""
    return np.maximum(*_from_centre(rows, cols))


def _free_where(mask: npt.NDArray[np.bool_]) -> Grid:
    """A weight for each cell of the mask; the others are fixed at zero."""
    return np.where(mask, np.arange(mask.size).reshape(mask.shape), -1)


def _odd(name: str, cells: Grid, partners: Grid) -> Cells:
    """Tie each cell to minus its partner; a cell that is its own partner is zero."""
    if np.array_equal(cells, partners):
        raise PatternError(f"{name}: no free weight is left in a {cells.shape[0]}x{cells.shape[1]} kernel")
    return np.where(cells == partners, -1, np.minimum(cells, partners)), np.sign(partners - cells)


def _hash_order(cells: int, seed: int) -> tuple[Grid, list[int]]:
    """A permutation of the cells and a number for each, by SHA-256: the same on every version of NumPy."""
    hashes = [int.from_bytes(sha256(f"{seed}:{cell}".encode()).digest()[:8], "big") for cell in range(cells)]
    return np.array(sorted(range(cells), key=hashes.__getitem__)), hashes


def _needs_square(name: str, rows: int, cols: int) -> None:
    if rows != cols:
        raise PatternError(f"{name}: the kernel must be square. Received: {rows}x{cols}")
