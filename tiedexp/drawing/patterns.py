"""A picture of a pattern: its grid."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from tiedexp.drawing.figures import GREY, INK, to_png
from tiedexp.patterns.grid import Pattern

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_LETTERED_SIDE = 15

# Paul Tol's light scheme, which is safe for the colour-blind and made to be written on in black
# (https://personal.sron.nl/~pault/).
_GROUP_COLOURS = (
    np.array(
        [
            (0x77, 0xAA, 0xDD),  # light blue
            (0xEE, 0xDD, 0x88),  # light yellow
            (0xFF, 0xAA, 0xBB),  # pink
            (0x44, 0xBB, 0x99),  # mint
            (0xEE, 0x88, 0x66),  # orange
            (0x99, 0xDD, 0xFF),  # light cyan
            (0xBB, 0xCC, 0x33),  # pear
            (0xDD, 0xDD, 0xDD),  # pale grey
            (0xAA, 0xAA, 0x00),  # olive
        ]
    )
    / 255
)


def draw_pattern(pattern: Pattern) -> bytes:
    """Draw a pattern: a colour and a letter for each group, minus signs for negative cells, crosses for fixed zeros."""
    from matplotlib.figure import Figure

    rows, cols = pattern.shape
    scale, margin = min(0.5, 8 / max(rows, cols)), 0.1  # inches: the side of a cell, the margin
    width, height = cols * scale + 2 * margin, rows * scale + 2 * margin
    figure = Figure(figsize=(width, height), dpi=150)
    axes = figure.add_axes((margin / width, margin / height, cols * scale / width, rows * scale / height))
    draw_grid(axes, pattern, fontsize=72 * scale * 0.42)
    return to_png(figure)


def draw_grid(axes: Axes, pattern: Pattern, fontsize: float) -> None:
    """Draw a pattern into axes: cells in the colour of their group, and dark lines between groups."""
    from matplotlib.collections import LineCollection

    rows, cols = pattern.shape
    axes.imshow(_cell_colours(pattern), interpolation="nearest")
    axes.set_xlim(-0.5, cols - 0.5)
    axes.set_ylim(rows - 0.5, -0.5)
    axes.set_axis_off()
    index, sign = pattern.index, pattern.sign
    across = [((c + 0.5, r - 0.5), (c + 0.5, r + 0.5)) for r, c in np.argwhere(index[:, 1:] != index[:, :-1])]
    down = [((c - 0.5, r + 0.5), (c + 0.5, r + 0.5)) for r, c in np.argwhere(index[1:] != index[:-1])]
    frame = [
        ((-0.5, -0.5), (cols - 0.5, -0.5)),
        ((-0.5, rows - 0.5), (cols - 0.5, rows - 0.5)),
        ((-0.5, -0.5), (-0.5, rows - 0.5)),
        ((cols - 0.5, -0.5), (cols - 0.5, rows - 0.5)),
    ]
    width = 1.5 if max(rows, cols) <= MAX_LETTERED_SIDE else 0.6
    axes.add_collection(LineCollection(across + down + frame, colors=INK, linewidths=width, clip_on=False))
    crosses = [((c - 0.5, r + 0.5), (c + 0.5, r - 0.5)) for r, c in np.argwhere(sign == 0)]
    axes.add_collection(LineCollection(crosses, colors=GREY, linewidths=0.6))
    if max(rows, cols) > MAX_LETTERED_SIDE:
        return
    for row, line in enumerate(str(pattern).split("/")):
        for col, cell in enumerate(re.findall(r"\.|-?[A-Za-z]\d*", line)):
            if cell != ".":
                text = cell.replace("-", "\N{MINUS SIGN}")
                size = fontsize if len(text) <= 2 else fontsize * 0.75
                axes.text(col, row, text, ha="center", va="center_baseline", fontsize=size, color=INK)


def _cell_colours(pattern: Pattern) -> npt.NDArray[np.float64]:
    """(rows, cols, 3): one colour per group, darker in negative cells; beyond nine groups, paler ones of the same."""
    rounds, colours = np.divmod(np.arange(pattern.num_groups), len(_GROUP_COLOURS))
    paleness = 1 - 0.6 ** (rounds % 4)
    palette = _GROUP_COLOURS[colours] + (1 - _GROUP_COLOURS[colours]) * paleness[:, None]  # (groups, 3)
    cells = palette[pattern.index]
    cells = np.where(pattern.sign[..., None] < 0, 0.75 * cells, cells)
    return np.where(pattern.sign[..., None] == 0, 1.0, cells)
