"""The named families of patterns: what each ties, at any size for which that makes sense, and who proposed it.

A family is a function of (rows, cols) and its options that returns the group of each cell (rows, cols), -1 for a cell
fixed at zero, and the sign of each cell (or None where all are positive).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from hashlib import sha256
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from tiedexp.errors import PatternError

Grid = npt.NDArray[np.integer[Any]]
Cells = tuple[Grid, Grid | None]


class _HasCells(Protocol):
    """A pattern, seen from here: only its two arrays matter."""

    @property
    def index(self) -> Grid: ...
    @property
    def sign(self) -> Grid: ...


def full(rows: int, cols: int) -> Cells:
    return np.arange(rows * cols).reshape(rows, cols), None


def block(rows: int, cols: int, *, blocks: int | None = None) -> Cells:
    blocks = min(3, max(rows, cols)) if blocks is None else blocks
    if not 1 <= blocks <= max(rows, cols):
        raise PatternError(f"block: `blocks` goes from 1 to the longer side, {max(rows, cols)}. Received: {blocks}")
    return _product(_parts(rows, min(blocks, rows)), _parts(cols, min(blocks, cols))), None


def tile(rows: int, cols: int, *, tile: int | tuple[int, int] = 2) -> Cells:
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
    return np.minimum.reduce([np.rot90(cells, turns) for turns in range(4)]), None


def d4(rows: int, cols: int) -> Cells:
    _needs_square("d4", rows, cols)
    turned, _ = rot90(rows, cols)
    return np.minimum(turned, turned.T), None


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


def centre_surround(rows: int, cols: int, *, radius: int | None = None) -> Cells:
    radius = (max(rows, cols) - 1) // 4 if radius is None else radius
    surround = _chebyshev(rows, cols) > 2 * radius + 1
    if radius < 0 or not surround.any():
        raise PatternError(
            f"centre_surround: a centre of radius {radius} leaves no surround in a {rows}x{cols} kernel; "
            "a side of at least 3 and a smaller `radius` would"
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


def atrous(rows: int, cols: int, *, rate: int = 2) -> Cells:
    if rate < 1 or (rows - 1) % rate or (cols - 1) % rate:
        raise PatternError(
            f"atrous: with rate={rate} a side is a multiple of {max(rate, 1)}, plus 1 "
            f"({', '.join(str(n * max(rate, 1) + 1) for n in range(1, 4))}, ...). Received: {rows}x{cols}"
        )
    i, j = np.indices((rows, cols))
    return _free_where((i % rate == 0) & (j % rate == 0)), None


def causal(rows: int, cols: int, *, centre: bool = True) -> Cells:
    cells, _ = full(rows, cols)
    # Where "same" padding puts the output pixel: of the two middle lines of an even side, the first.
    middle = (rows - 1) // 2 * cols + (cols - 1) // 2
    return np.where(cells < middle + centre, cells, -1), None


def hashed(rows: int, cols: int, *, groups: int | None = None, seed: int = 0) -> Cells:
    groups = min(3, rows) * min(3, cols) if groups is None else groups
    if not 1 <= groups <= rows * cols:
        raise PatternError(f"hashed: `groups` goes from 1 to the {rows * cols} cells. Received: {groups}")
    order, hashes = _hash_order(rows * cols, seed)
    index = np.array([value % groups for value in hashes])
    index[order[:groups]] = np.arange(groups)  # so that no group is empty
    return index.reshape(rows, cols), None


def random_like(rows: int, cols: int, *, of: _HasCells, seed: int = 0) -> Cells:
    order, _ = _hash_order(rows * cols, seed)
    return of.index.ravel()[order].reshape(rows, cols), of.sign.ravel()[order].reshape(rows, cols)


@dataclass(frozen=True)
class Preset:
    """A named family: its function, what it means in a line, and where it comes from."""

    build: Callable[..., Cells]
    meaning: str
    source: str

    @property
    def options(self) -> tuple[str, ...]:
        """Names of the options beside the size."""
        parameters = inspect.signature(self.build).parameters.values()
        return tuple(parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY)

    def check_options(self, options: Mapping[str, Any]) -> None:
        """Raise PatternError for an option that the family does not take, or that is of the wrong type."""
        name = self.build.__name__
        for option, value in options.items():
            if option not in self.options:
                allowed = f"it takes {', '.join(self.options)}" if self.options else "it takes none"
                raise PatternError(f"the preset '{name}' has no option '{option}'; {allowed}")
            whole = _is_whole(value)
            pair = option == "tile" and isinstance(value, tuple | list) and all(map(_is_whole, value))
            if option == "centre" and not isinstance(value, bool):
                raise PatternError(f"the preset '{name}': `centre` is true or false. Received: {value!r}")
            if option not in ("centre", "of") and not whole and not (pair and len(value) == 2):
                wanted = "a whole number or two of them" if option == "tile" else "a whole number"
                raise PatternError(f"the preset '{name}': `{option}` is {wanted}. Received: {value!r}")


_MIRROR = "Dudar & Semenov 2018, arXiv 1805.09421; SymNet, Dzhezyan & Cecotti 2019, arXiv 1906.04252"
_POINT = "SymNet, Dzhezyan & Cecotti 2019, arXiv 1906.04252"
_INVARIANT = "kernels that equal their transform: Lo et al. 2018, arXiv 1806.03636"
_ROTATION = (
    f"{_INVARIANT}; escnn's kernels between scalar fields, Weiler & Cesa 2019, arXiv 1911.08251; after Cohen & Welling "
    "2016, arXiv 1602.07576 (there the feature maps carry the group)"
)
_RINGS = "GMR-Conv, Du et al. 2025, arXiv 2504.02819 (there round rings, smoothed by Gaussians)"
_OWN = "a control of this project"
_ODD_MIRROR = f"{_OWN}, a mirror's counterpart of SymNet's anti-point reflection (arXiv 1906.04252)"

PRESETS = {
    preset.build.__name__: preset
    for preset in (
        Preset(full, "every cell its own weight: the ordinary convolution", "the baseline"),
        Preset(
            block, "a coarse grid of blocks, as even as possible", "LargeKernel3D, Chen et al. 2023, arXiv 2206.10555"
        ),
        Preset(tile, "a small kernel repeated over the large one", "Conv2DTiledKernel, the question's second answer"),
        Preset(mirror_h, "left and right halves are mirror images", _MIRROR),
        Preset(mirror_v, "upper and lower halves are mirror images", _MIRROR),
        Preset(mirror_hv, "mirror images both ways", _MIRROR),
        Preset(point, "unchanged by a half turn", _POINT),
        Preset(transpose, "unchanged by swapping rows and columns", _INVARIANT),
        Preset(rot90, "unchanged by quarter turns", _ROTATION),
        Preset(d4, "unchanged by quarter turns and mirrors", _ROTATION),
        Preset(rings, "one weight a square ring (Chebyshev distance)", _RINGS),
        Preset(
            rings_circular,
            "one weight a round ring (rounded Euclidean radius), the corners beyond zero",
            _RINGS,
        ),
        Preset(row, "one weight a row", "the question's tiled kernel with a column tile"),
        Preset(column, "one weight a column", "the question's tiled kernel, Conv2DTiledKernel(10, [1, 5], [5, 1])"),
        Preset(toeplitz, "one weight a diagonal", _OWN),
        Preset(hankel, "one weight an antidiagonal", _OWN),
        Preset(circulant, "each row is the one above, moved on by one and wrapped", _OWN),
        Preset(centre_surround, "one weight inside, one around", _OWN),
        Preset(checkerboard, "two weights, alternating", _OWN),
        Preset(anti_point, "a half turn negates it; an odd centre is zero", _POINT),
        Preset(anti_h, "the right half is minus the mirrored left half", _ODD_MIRROR),
        Preset(anti_v, "the lower half is minus the mirrored upper half", _ODD_MIRROR),
        Preset(cross, "free on the middle row and column, zero elsewhere", _OWN),
        Preset(atrous, "free on every `rate`-th row and column, zero between", "Yu & Koltun 2016, arXiv 1511.07122"),
        Preset(
            causal,
            "free above and to the left (and at the centre), zero after it",
            "PixelCNN, van den Oord et al. 2016, arXiv 1601.06759",
        ),
        Preset(
            hashed,
            "cells dealt to `groups` weights by a hash of `seed`",
            "HashedNets, Chen et al. 2015, arXiv 1504.04788",
        ),
        Preset(random_like, "the group sizes of the pattern `of`, cells shuffled by `seed`", _OWN),
    )
}


def find_preset(name: str) -> Preset:
    """The family of that name; PatternError names close ones otherwise."""
    if isinstance(name, str) and name in PRESETS:
        return PRESETS[name]
    close = close_names(str(name))
    hint = f"did you mean {' or '.join(close)}?" if close else f"the presets are {', '.join(PRESETS)}"
    raise PatternError(f"unknown pattern '{name}'; {hint}")


@lru_cache(maxsize=256)  # a spec may have one wrong name thousands of times
def close_names(name: str) -> tuple[str, ...]:
    """The presets whose names are nearly `name`, nearest first; capitals do not matter."""
    return tuple(get_close_matches(name.lower(), PRESETS, n=3, cutoff=0.6))


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _product(down: Grid, across: Grid) -> Grid:
    """(rows,) and (cols,) groups of lines to (rows, cols) groups of cells."""
    return np.asarray(down[:, None] * (across.max() + 1) + across[None, :])


def _parts(side: int, count: int) -> Grid:
    """(side,) the part of each line when a side is cut into parts as even as possible; 5 into 3 is 2, 1, 2."""
    return (2 * np.arange(side) + 1) * count // (2 * side)


def _folded(side: int) -> Grid:
    """(side,) the distance to the nearer end: 0, 1, ..., 1, 0."""
    lines = np.arange(side)
    return np.minimum(lines, side - 1 - lines)


def _from_centre(rows: int, cols: int) -> tuple[Grid, Grid]:
    """Twice the distance of each row and column from the centre, so that even sides stay whole."""
    i, j = np.indices((rows, cols))
    return np.abs(2 * i - (rows - 1)), np.abs(2 * j - (cols - 1))


def _chebyshev(rows: int, cols: int) -> Grid:
    """Twice the Chebyshev distance of each cell from the centre, (rows, cols)."""
    return np.maximum(*_from_centre(rows, cols))


def _free_where(mask: npt.NDArray[np.bool_]) -> Grid:
    """Each cell of the mask its own weight, the others fixed at zero."""
    return np.where(mask, np.arange(mask.size).reshape(mask.shape), -1)


def _odd(name: str, cells: Grid, image: Grid) -> Cells:
    """Tie each cell to minus its image; a cell that is its own image is zero."""
    if np.array_equal(cells, image):
        raise PatternError(f"{name}: no free weight is left in a {cells.shape[0]}x{cells.shape[1]} kernel")
    return np.where(cells == image, -1, np.minimum(cells, image)), np.sign(image - cells)


def _hash_order(cells: int, seed: int) -> tuple[Grid, list[int]]:
    """A permutation of the cells and a number for each, by SHA-256: the same on every version of NumPy."""
    hashes = [int.from_bytes(sha256(f"{seed}:{cell}".encode()).digest()[:8], "big") for cell in range(cells)]
    return np.array(sorted(range(cells), key=hashes.__getitem__)), hashes


def _needs_square(name: str, rows: int, cols: int) -> None:
    if rows != cols:
        raise PatternError(f"{name}: the kernel must be square. Received: {rows}x{cols}")
