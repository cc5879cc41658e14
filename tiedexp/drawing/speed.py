"""A picture of the time that methods take, against the number of free weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tiedexp.drawing.figures import INK, to_png

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe & Ito's, which are safe for the colour-blind (https://jfly.uni-koeln.de/color/).
_COLOURS = ("#000000", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#999999")


def draw_speed(points: Sequence[tuple[str, int, float, str]]) -> bytes:
    """Draw time against free weights: one panel per shape, one colour per method.

    Args:
        points: (method, free weights of a kernel, milliseconds of a step, shape).
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    shapes = list(dict.fromkeys(shape for *_, shape in points))
    methods = list(dict.fromkeys(method for method, *_ in points))
    rows, cols = -(-len(shapes) // 2), min(len(shapes), 2)
    figure = Figure(figsize=(4.6 * cols, 3.6 * rows + 0.4), dpi=110, layout="constrained")
    panels = figure.subplots(rows, cols, squeeze=False).ravel()
    for shape, axes in zip(shapes, panels, strict=False):
        for number, method in enumerate(methods):
            here = sorted((free, time) for name, free, time, at in points if (name, at) == (method, shape))
            free, times = zip(*here, strict=True) if here else ((), ())
            colour, marker = _COLOURS[number % len(_COLOURS)], "os^Dv<>P"[number % 8]
            axes.plot(free, times, marker, color=colour, label=method, markersize=5, alpha=0.85, linestyle="none")
        axes.set_title(shape, fontsize=10, color=INK)
        axes.set_xlabel("free weights per kernel", fontsize=9)
        axes.set_ylabel("milliseconds per step", fontsize=9)
        axes.set_ylim(bottom=0)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.grid(color="#dddddd", linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in panels[len(shapes) :]:
        axes.set_visible(False)
    _add_legend(figure, panels[0])
    return to_png(figure)


def _add_legend(figure: Figure, axes: Axes) -> None:
    """A legend below all panels, in as many columns as fit."""
    handles, labels = axes.get_legend_handles_labels()
    for ncols in range(len(labels), 0, -1):
        legend = figure.legend(handles, labels, loc="outside lower center", ncols=ncols, fontsize=8, frameon=False)
        if legend.get_window_extent().width <= figure.bbox.width or ncols == 1:
            return
        legend.remove()
