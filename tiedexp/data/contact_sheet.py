"""A picture of a dataset with one row of sample images per class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from tiedexp.data.splits import Split
from tiedexp.drawing.figures import to_png
from tiedexp.text import shorten

if TYPE_CHECKING:
    from PIL.Image import Image

SAMPLES = 12
MAX_CLASSES = 40

_TILE = 64  # pixels; small images are enlarged by whole factors, so that their pixels stay square
_GAP = 4
_MARGIN = 12
_FONT_SIZE = 14
_MAX_NAME = 24
_INK, _PAPER = "#222222", "#ffffff"


def draw_contact_sheet(split: Split, class_names: Sequence[str], seed: int = 0) -> bytes:
    """A PNG file with up to 12 images of each of up to 40 classes; names and image counts are on the left.

    Args:
        split: the images; if they do not have 1, 3 or 4 channels, the first channel is shown.
        class_names: one name per class.
        seed: determines which images are shown.
    """
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default(_FONT_SIZE)
    shown = range(min(len(class_names), MAX_CLASSES))
    captions = [
        f"{shorten(class_names[label], _MAX_NAME)}  {np.count_nonzero(split.labels == label)}" for label in shown
    ]
    left = _MARGIN + int(max(font.getlength(caption) for caption in captions)) + _MARGIN
    tile = _tile_size(split.images.shape[1:3])
    hidden = len(class_names) - len(shown)
    width = left + SAMPLES * (tile[1] + _GAP) + _MARGIN
    height = 2 * _MARGIN + len(shown) * (tile[0] + _GAP) + (2 * _FONT_SIZE if hidden else 0)
    sheet = Image.new("RGB", (width, height), _PAPER)
    draw = ImageDraw.Draw(sheet)
    for label, caption in zip(shown, captions, strict=True):
        top = _MARGIN + label * (tile[0] + _GAP)
        draw.text((_MARGIN, top + tile[0] // 2), caption, fill=_INK, font=font, anchor="lm")
        for column, index in enumerate(_sample(split.labels, label, seed)):
            sheet.paste(_enlarge(split.images[index], tile), (left + column * (tile[1] + _GAP), top))
    if hidden:
        text = f"and {hidden} more class{'es' * (hidden > 1)}"
        draw.text((_MARGIN, height - _MARGIN - _FONT_SIZE // 2), text, fill=_INK, font=font, anchor="lm")
    return to_png(sheet)


def _sample(labels: npt.NDArray[np.int64], label: int, seed: int) -> npt.NDArray[np.int64]:
    members = np.flatnonzero(labels == label)
    chosen = np.random.default_rng((seed, label)).permutation(len(members))[:SAMPLES]
    return members[np.sort(chosen)]


def _tile_size(shape: Sequence[int]) -> tuple[int, int]:
    """(rows, cols) of a tile: images are enlarged by a whole factor to at most 64 pixels, or shrunk to at most 128."""
    rows, cols = shape
    longest = max(rows, cols)
    if longest > 2 * _TILE:
        return max(1, rows * 2 * _TILE // longest), max(1, cols * 2 * _TILE // longest)
    factor = max(1, _TILE // longest)
    return rows * factor, cols * factor


def _enlarge(image: npt.NDArray[np.uint8], tile: tuple[int, int]) -> Image:
    from PIL import Image

    grey = image.shape[2] not in (3, 4)
    picture = Image.fromarray(np.ascontiguousarray(image[..., 0]) if grey else image).convert("RGB")
    shrinks = tile[0] < picture.height
    resampling = Image.Resampling.LANCZOS if shrinks else Image.Resampling.NEAREST
    return picture.resize((tile[1], tile[0]), resampling)
