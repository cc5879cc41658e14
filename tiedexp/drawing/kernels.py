"""Pictures of a tied convolution: its pattern, and its kernels in one scale of colours from blue to red."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tiedexp.drawing.figures import INK, to_png
from tiedexp.drawing.patterns import draw_grid
from tiedexp.patterns.grid import Pattern

MAX_KERNELS = 64
_GAP = 0xBB

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class _Page:
    """Where the parts of the picture are: the left, top, right and bottom of each, in pixels.

    It is small because TensorBoard shows pictures 325 pixels wide, and the text must stay readable.
    """

    size: tuple[int, int]
    grid: Box
    mosaics: tuple[Box, ...]
    scale: Box


_ONE = _Page((660, 360), (14, 62, 244, 342), ((266, 62, 566, 342),), (584, 62, 598, 342))
_TWO = _Page((816, 338), (14, 84, 204, 324), ((226, 84, 466, 324), (490, 84, 730, 324)), (746, 84, 760, 324))
_CAPTION: dict[str, Any] = {"fontsize": 9.5, "color": INK}


def draw_kernels(pattern: Pattern, kernel: npt.NDArray[Any], title: str) -> bytes:
    """Draw a tied convolution: its pattern on the left, and some of its kernels on the right.

    Args:
        pattern: the pattern, (rows, cols).
        kernel: the expanded kernel, (rows, cols, in_channels, filters). At most 64 of its kernels are drawn, those of
            the first input channels and filters; each channel starts a new row. All have one scale, symmetric about
            zero; NaN and infinity are grey.
        title: the text above the picture.
    """
    mosaic, caption = _tile_kernels(kernel)
    return _draw_mosaics(_ONE, pattern, title, [mosaic], (caption,))


def draw_kernel_change(
    pattern: Pattern, before: npt.NDArray[Any], after: npt.NDArray[Any], title: str, names: tuple[str, str]
) -> bytes:
    """Draw a tied convolution at two times: its pattern, then the same kernels before and after, in one scale.

    Args:
        pattern: the pattern, (rows, cols).
        before: the expanded kernel, (rows, cols, in_channels, filters); see `draw_kernels`.
        after: the expanded kernel later, of the same shape.
        title: the text above the picture.
        names: the texts above the kernels before and after.
    """
    mosaics = [_tile_kernels(kernel) for kernel in (before, after)]
    captions = tuple(f"{name}\n{caption}" for name, (_, caption) in zip(names, mosaics, strict=True))
    return _draw_mosaics(_TWO, pattern, title, [mosaic for mosaic, _ in mosaics], captions)


def _draw_mosaics(
    page: _Page, pattern: Pattern, title: str, mosaics: Sequence[npt.NDArray[np.float64]], captions: tuple[str, ...]
) -> bytes:
    """Draw mosaics of weights, (rows, cols) each, side by side in one scale that is symmetric about zero."""
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
        pen.line((right, y, right + 4, y), fill=INK)
        pen.text((right + 8, y), label, anchor="lm", fill=INK, font=font)
    return to_png(picture)


@lru_cache(maxsize=256)
def _draw_kernels_page(page: _Page, pattern: Pattern, title: str, captions: tuple[str, ...]) -> bytes:
    """A PNG of all that stays the same in the pictures of a convolution: not the kernels, nor the numbers of the scale.

    It is cached because matplotlib takes about 50 ms for it, and a run draws every convolution after every epoch.
    """
    from matplotlib.figure import Figure

    width, height = page.size
    figure = Figure(figsize=(width / 100, height / 100), dpi=100)
    figure.text(14 / width, 1 - 9 / height, title, va="top", fontsize=12, color=INK, parse_math=False)
    grid = figure.add_axes(_to_axes(page, page.grid))
    grid.set_anchor("N")
    draw_grid(grid, pattern, fontsize=min(16.0, 72.0 / max(pattern.shape)))
    grid.set_title(f"{_count(pattern.index.size, 'cell')}, {_count(pattern.num_groups, 'free weight')}", **_CAPTION)
    for (left, top, *_), caption in zip(page.mosaics, captions, strict=True):
        figure.text(left / width, 1 - (top - 7) / height, caption, **_CAPTION)
    bar = figure.add_axes(_to_axes(page, page.scale))
    bar.imshow(np.linspace(1, 0, 256)[:, None], cmap="RdBu_r", aspect="auto")
    bar.set_axis_off()
    return to_png(figure)


def _to_axes(page: _Page, box: Box) -> tuple[float, float, float, float]:
    """A box in pixels from the upper left corner, as (left, bottom, width, height) in fractions of the page."""
    left, top, right, bottom = box
    width, height = page.size
    return left / width, 1 - bottom / height, (right - left) / width, (bottom - top) / height


def _colour_weights(weights: npt.NDArray[np.float64], limit: float) -> npt.NDArray[np.uint8]:
    """(rows, cols, 3): from blue at -limit to white at 0 and red at limit; NaN (also in gaps) and infinity are grey."""
    from matplotlib import colormaps

    finite = np.isfinite(weights)
    share = 0.5 + np.where(finite, weights, 0.0) / (2 * limit)
    colours = colormaps["RdBu_r"](share, bytes=True)[..., :3]
    return np.where(finite[..., None], colours, np.uint8(_GAP)).astype(np.uint8)


def _font_file() -> str:
    """The font that matplotlib draws with, which comes with it."""
    import matplotlib as mpl

    return str(Path(mpl.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"))


def _tile_kernels(kernel: npt.NDArray[Any]) -> tuple[npt.NDArray[np.float64], str]:
    """The first kernels side by side, eight in a row (four if there are few) with gaps of NaN, and a caption."""
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
