"""Pictures as PNG bytes: a pattern, the kernels of a tied convolution, a confusion matrix.

All are drawn with matplotlib's Agg canvas and no global state, on white, so that they read the same on a light and on
a dark page. Colours are safe for the colour-blind: Paul Tol's "light" scheme for groups (made to be written on in
black, https://personal.sron.nl/~pault/), red to blue for kernels, one hue for counts.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tiedexp.patterns.grid import Pattern
from tiedexp.text import shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_KERNELS = 64
MAX_WRITTEN_CLASSES = 20
MAX_LETTERED_SIDE = 15
_MAX_NAME = 18  # characters of a class's name

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
# Okabe & Ito's, for marks on white (https://jfly.uni-koeln.de/color/).
_LINE_COLOURS = ("#000000", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#999999")
_INK = "#222222"
_GREY = "#888888"
_GAP = 0xBB

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class _Page:
    """Where the parts of the picture of a convolution are: left, top, right and bottom of each, in pixels.

    Small, since TensorBoard shows pictures 325 pixels wide and the text should still be read.
    """

    size: tuple[int, int]
    grid: Box
    mosaics: tuple[Box, ...]
    scale: Box


_ONE = _Page((660, 360), (14, 62, 244, 342), ((266, 62, 566, 342),), (584, 62, 598, 342))
_TWO = _Page((816, 338), (14, 84, 204, 324), ((226, 84, 466, 324), (490, 84, 730, 324)), (746, 84, 760, 324))
_CAPTION: dict[str, Any] = {"fontsize": 9.5, "color": _INK}


def draw_pattern(pattern: Pattern) -> bytes:
    """The grid of a pattern: a colour and a letter for each group, minus signs, fixed zeros crossed out."""
    from matplotlib.figure import Figure

    rows, cols = pattern.shape
    scale, margin = min(0.5, 8 / max(rows, cols)), 0.1  # inches: a cell, the white around the grid
    width, height = cols * scale + 2 * margin, rows * scale + 2 * margin
    figure = Figure(figsize=(width, height), dpi=150)
    axes = figure.add_axes((margin / width, margin / height, cols * scale / width, rows * scale / height))
    _draw_grid(axes, pattern, fontsize=72 * scale * 0.42)
    return _to_png(figure)


def draw_kernels(pattern: Pattern, kernel: npt.NDArray[Any], title: str) -> bytes:
    """A tied convolution: its pattern on the left, some of its kernels on the right.

    Args:
        pattern: the pattern, (rows, cols).
        kernel: the expanded kernel, (rows, cols, in_channels, filters). At most 64 of its kernels are drawn, those of
            the first input channels and filters, each channel beginning a new row. One scale for all, symmetric about
            zero; weights that are not finite stay grey.
        title: stands above the picture.
    """
    mosaic, caption = _tile_kernels(kernel)
    return _draw_mosaics(_ONE, pattern, title, [mosaic], (caption,))


def draw_kernel_change(
    pattern: Pattern, before: npt.NDArray[Any], after: npt.NDArray[Any], title: str, names: tuple[str, str]
) -> bytes:
    """A tied convolution at two times: its pattern, then the same of its kernels twice, in one scale.

    Args:
        pattern: the pattern, (rows, cols).
        before: the expanded kernel, (rows, cols, in_channels, filters), drawn as `draw_kernels` does.
        after: the same later, of the same shape.
        title: stands above the picture.
        names: what stands above the kernels of each time.
    """
    mosaics = [_tile_kernels(kernel) for kernel in (before, after)]
    captions = tuple(f"{name}\n{caption}" for name, (_, caption) in zip(names, mosaics, strict=True))
    return _draw_mosaics(_TWO, pattern, title, [mosaic for mosaic, _ in mosaics], captions)


def _draw_mosaics(
    page: _Page, pattern: Pattern, title: str, mosaics: Sequence[npt.NDArray[np.float64]], captions: tuple[str, ...]
) -> bytes:
    """Kernels side by side, (rows, cols) of weights each, in one scale that is symmetric about zero."""
    from PIL import Image, ImageDraw, ImageFont

    limit = max(float(np.abs(mosaic[np.isfinite(mosaic)]).max(initial=0.0)) for mosaic in mosaics) or 1.0
    picture = Image.open(io.BytesIO(_draw_kernels_page(page, pattern, title, captions))).convert("RGB")
    for mosaic, (left, top, right, bottom) in zip(mosaics, page.mosaics, strict=True):
        tiles = Image.fromarray(_colour_weights(mosaic, limit))
        scale = min((right - left) / tiles.width, (bottom - top) / tiles.height)
        size = max(1, round(tiles.width * scale)), max(1, round(tiles.height * scale))
        picture.paste(tiles.resize(size, Image.Resampling.NEAREST if scale >= 1 else Image.Resampling.BOX), (left, top))
    pen = ImageDraw.Draw(picture)
    font = ImageFont.truetype(_font_file(), 12)
    _, top, right, bottom = page.scale
    for y, label in ((top, f"{limit:.2g}"), ((top + bottom) / 2, "0"), (bottom, f"{-limit:.2g}")):
        pen.line((right, y, right + 4, y), fill=_INK)
        pen.text((right + 8, y), label, anchor="lm", fill=_INK, font=font)
    buffer = io.BytesIO()
    picture.save(buffer, format="png")
    return buffer.getvalue()


def draw_confusion(matrix: npt.NDArray[Any], class_names: Sequence[str]) -> bytes:
    """A confusion matrix; the colour is the share of the true class, so that rare classes show too.

    Args:
        matrix: counts, (classes, classes): the true class down, the predicted one across. Up to 20 classes the
            counts are written into the cells.
        class_names: one name a class, in order.
    """
    from matplotlib.colors import PowerNorm
    from matplotlib.figure import Figure

    counts = np.asarray(matrix)
    classes = len(class_names)
    if counts.shape != (classes, classes):
        raise ValueError(f"a confusion matrix of {classes} classes is square. Received: shape {counts.shape}")
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)  # (true, predicted)
    side = float(np.clip(2.8 + 0.42 * classes, 4.2, 9.5))
    figure = Figure(figsize=(side + 0.9, side), dpi=100, layout="constrained")
    axes = figure.add_subplot()
    # The square root lets a few errors in a hundred show beside a diagonal near one.
    image = axes.imshow(shares, cmap="Blues", norm=PowerNorm(0.5, vmin=0, vmax=1), interpolation="nearest")
    ticks = range(0, classes, -(-classes // 50))
    names = [shorten(class_names[tick], _MAX_NAME) for tick in ticks]
    fontsize = 9 if classes <= MAX_WRITTEN_CLASSES else 6.5
    rotation = 0 if max(map(len, names), default=0) <= 2 and classes <= MAX_WRITTEN_CLASSES else 90
    axes.set_xticks(ticks, names, rotation=rotation, fontsize=fontsize, color=_INK, parse_math=False)
    axes.set_yticks(ticks, names, fontsize=fontsize, color=_INK, parse_math=False)
    axes.set_xlabel("predicted class", color=_INK)
    axes.set_ylabel("true class", color=_INK)
    if classes <= MAX_WRITTEN_CLASSES:
        for row, col in zip(*np.nonzero(counts), strict=True):
            colour = "white" if shares[row, col] > 0.35 else _INK
            text = str(int(counts[row, col]))
            axes.text(col, row, text, ha="center", va="center", color=colour, fontsize=9 if len(text) < 5 else 7)
    bar = figure.colorbar(image, ax=axes, shrink=0.8, ticks=[0, 0.01, 0.1, 0.25, 0.5, 1])
    bar.ax.set_yticklabels(["0", "1%", "10%", "25%", "50%", "100%"], fontsize=8, color=_INK)
    bar.set_label("share of the true class (square-root scale)", fontsize=8, color=_INK)
    return _to_png(figure)


@lru_cache(maxsize=256)
def _draw_kernels_page(page: _Page, pattern: Pattern, title: str, captions: tuple[str, ...]) -> bytes:
    """What is the same in every picture of a convolution, as PNG: all but the kernels and the ends of their scale.

    Kept because matplotlib takes some fifty milliseconds for it, and a run draws every convolution after every epoch.
    """
    from matplotlib.figure import Figure

    width, height = page.size
    figure = Figure(figsize=(width / 100, height / 100), dpi=100)
    figure.text(14 / width, 1 - 9 / height, title, va="top", fontsize=12, color=_INK, parse_math=False)
    grid = figure.add_axes(_to_axes(page, page.grid))
    grid.set_anchor("N")
    _draw_grid(grid, pattern, fontsize=min(16.0, 72.0 / max(pattern.shape)))
    grid.set_title(f"{_count(pattern.index.size, 'cell')}, {_count(pattern.num_groups, 'free weight')}", **_CAPTION)
    for (left, top, *_), caption in zip(page.mosaics, captions, strict=True):
        figure.text(left / width, 1 - (top - 7) / height, caption, **_CAPTION)
    bar = figure.add_axes(_to_axes(page, page.scale))
    bar.imshow(np.linspace(1, 0, 256)[:, None], cmap="RdBu_r", aspect="auto")
    bar.set_axis_off()
    return _to_png(figure)


def _to_axes(page: _Page, box: Box) -> tuple[float, float, float, float]:
    """A box of the page in pixels from its upper left corner, as matplotlib takes it."""
    left, top, right, bottom = box
    width, height = page.size
    return left / width, 1 - bottom / height, (right - left) / width, (bottom - top) / height


def _colour_weights(weights: npt.NDArray[np.float64], limit: float) -> npt.NDArray[np.uint8]:
    """(rows, cols, 3): blue at -limit over white to red at limit; grey what is not finite, the gaps too."""
    from matplotlib import colormaps

    finite = np.isfinite(weights)
    share = 0.5 + np.where(finite, weights, 0.0) / (2 * limit)
    colours = colormaps["RdBu_r"](share, bytes=True)[..., :3]
    return np.where(finite[..., None], colours, np.uint8(_GAP)).astype(np.uint8)


def _font_file() -> str:
    """The font of everything else here, which comes with matplotlib."""
    import matplotlib as mpl

    return str(Path(mpl.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"))


def _draw_grid(axes: Axes, pattern: Pattern, fontsize: float) -> None:
    """Fill axes with a pattern: cells in the colour of their group, dark lines where groups meet."""
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
    axes.add_collection(LineCollection(across + down + frame, colors=_INK, linewidths=width, clip_on=False))
    crosses = [((c - 0.5, r + 0.5), (c + 0.5, r - 0.5)) for r, c in np.argwhere(sign == 0)]
    axes.add_collection(LineCollection(crosses, colors=_GREY, linewidths=0.6))
    if max(rows, cols) > MAX_LETTERED_SIDE:
        return
    for row, line in enumerate(str(pattern).split("/")):
        for col, cell in enumerate(re.findall(r"\.|-?[A-Za-z]\d*", line)):
            if cell != ".":
                text = cell.replace("-", "\N{MINUS SIGN}")
                size = fontsize if len(text) <= 2 else fontsize * 0.75
                axes.text(col, row, text, ha="center", va="center_baseline", fontsize=size, color=_INK)


def _cell_colours(pattern: Pattern) -> npt.NDArray[np.float64]:
    """(rows, cols, 3): a colour a group, the negative cells darker; groups beyond nine repeat it, ever paler."""
    rounds, colours = np.divmod(np.arange(pattern.num_groups), len(_GROUP_COLOURS))
    paleness = 1 - 0.6 ** (rounds % 4)
    palette = _GROUP_COLOURS[colours] + (1 - _GROUP_COLOURS[colours]) * paleness[:, None]  # (groups, 3)
    cells = palette[pattern.index]
    cells = np.where(pattern.sign[..., None] < 0, 0.75 * cells, cells)
    return np.where(pattern.sign[..., None] == 0, 1.0, cells)


def _tile_kernels(kernel: npt.NDArray[Any]) -> tuple[npt.NDArray[np.float64], str]:
    """The first kernels side by side with gaps of NaN, eight across or four of a few, and what they are in words."""
    rows, cols, channels, filters = kernel.shape
    shown_channels = min(channels, 8 if filters >= 8 else MAX_KERNELS // max(filters, 1))
    shown_filters = min(filters, MAX_KERNELS // shown_channels)
    across = min(shown_filters, 8 if shown_channels > 1 or shown_filters > 16 else 4)
    lines = -(-shown_filters // across)  # of one channel
    tiles = np.full((shown_channels, lines * across, rows + 1, cols + 1), np.nan)
    shown = np.asarray(kernel[:, :, :shown_channels, :shown_filters], dtype=np.float64)
    tiles[:, :shown_filters, :rows, :cols] = shown.transpose(2, 3, 0, 1)
    tiles = tiles.reshape(shown_channels * lines, across, rows + 1, cols + 1).transpose(0, 2, 1, 3)
    mosaic = tiles.reshape(shown_channels * lines * (rows + 1), across * (cols + 1))[:-1, :-1]
    caption = f"{_portion(shown_channels, channels, 'input channel')} x {_portion(shown_filters, filters, 'filter')}"
    return mosaic, caption


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def _portion(shown: int, total: int, noun: str) -> str:
    return f"{shown} of {_count(total, noun)}" if shown < total else _count(total, noun)


def _to_png(figure: Figure) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # Class names may be in a script that the bundled font lacks; boxes in their place are all there is to have.
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        FigureCanvasAgg(figure)
        figure.savefig(buffer, format="png")
    return buffer.getvalue()


def draw_speed(points: Sequence[tuple[str, int, float, str]]) -> bytes:
    """Time against free weights, a panel for every shape, a colour for every method.

    Args:
        points: (method, free weights of a kernel, milliseconds, shape).
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    shapes = list(dict.fromkeys(shape for *_, shape in points))
    methods = list(dict.fromkeys(method for method, *_ in points))
    rows, cols = -(-len(shapes) // 2), min(len(shapes), 2)
    figure = Figure(figsize=(4.6 * cols, 3.6 * rows + 0.4), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(rows, cols, squeeze=False).ravel()
    for shape, axes in zip(shapes, panels, strict=False):
        for number, method in enumerate(methods):
            here = sorted((free, time) for name, free, time, place in points if (name, place) == (method, shape))
            free, times = zip(*here, strict=True) if here else ((), ())
            colour, marker = _LINE_COLOURS[number % len(_LINE_COLOURS)], "os^Dv<>P"[number % 8]
            axes.plot(free, times, marker, color=colour, label=method, markersize=5, alpha=0.85, linestyle="none")
        axes.set_title(shape, fontsize=10, color=_INK)
        axes.set_xlabel("free weights of a kernel", fontsize=9)
        axes.set_ylabel("step, milliseconds", fontsize=9)
        axes.set_ylim(bottom=0)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.grid(color="#dddddd", linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in panels[len(shapes) :]:
        axes.set_visible(False)
    _add_legend(figure, panels[0])
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=110)
    return file.getvalue()


def _add_legend(figure: Figure, axes: Axes) -> None:
    """A legend below all panels, in as many columns as the width of the figure holds."""
    handles, labels = axes.get_legend_handles_labels()
    for ncols in range(len(labels), 0, -1):
        legend = figure.legend(handles, labels, loc="outside lower center", ncols=ncols, fontsize=8, frameon=False)
        if legend.get_window_extent().width <= figure.bbox.width or ncols == 1:
            return
        legend.remove()
