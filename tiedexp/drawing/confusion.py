"""A picture of a confusion matrix."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tiedexp.drawing.figures import INK, to_png
from tiedexp.text import shorten

MAX_WRITTEN_CLASSES = 20
_MAX_NAME = 18  # characters of a class's name


def draw_confusion(matrix: npt.NDArray[Any], class_names: Sequence[str]) -> bytes:
    """Draw a confusion matrix. The colour is the share of the true class, so that rare classes are visible too.

    Args:
        matrix: counts, (classes, classes): (true class, predicted class). With at most 20 classes the counts are
            written into the cells.
        class_names: the name of each class.

    Raises:
        ValueError: the matrix has another shape.
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
    # On a scale of square roots, a few errors in a hundred are visible beside a diagonal near one.
    image = axes.imshow(shares, cmap="Blues", norm=PowerNorm(0.5, vmin=0, vmax=1), interpolation="nearest")
    ticks = range(0, classes, -(-classes // 50))
    names = [shorten(class_names[tick], _MAX_NAME) for tick in ticks]
    fontsize = 9 if classes <= MAX_WRITTEN_CLASSES else 6.5
    rotation = 0 if max(map(len, names), default=0) <= 2 and classes <= MAX_WRITTEN_CLASSES else 90
    axes.set_xticks(ticks, names, rotation=rotation, fontsize=fontsize, color=INK, parse_math=False)
    axes.set_yticks(ticks, names, fontsize=fontsize, color=INK, parse_math=False)
    axes.set_xlabel("predicted class", color=INK)
    axes.set_ylabel("true class", color=INK)
    if classes <= MAX_WRITTEN_CLASSES:
        for row, col in zip(*np.nonzero(counts), strict=True):
            colour = "white" if shares[row, col] > 0.35 else INK
            text = str(int(counts[row, col]))
            axes.text(col, row, text, ha="center", va="center", color=colour, fontsize=9 if len(text) < 5 else 7)
    bar = figure.colorbar(image, ax=axes, shrink=0.8, ticks=[0, 0.01, 0.1, 0.25, 0.5, 1])
    bar.ax.set_yticklabels(["0", "1%", "10%", "25%", "50%", "100%"], fontsize=8, color=INK)
    bar.set_label("share of the true class (square-root scale)", fontsize=8, color=INK)
    return to_png(figure)
