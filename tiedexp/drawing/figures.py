"""What pictures share: colours, style, and how they become PNG or SVG.

All are drawn by matplotlib's Agg, without its global state. PNGs are on white, so that they look the same on a light
and on a dark page. An SVG is drawn in the colour of the text around it.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from PIL.Image import Image

INK = "#222222"
GREY = "#888888"
# Stands for the colour of the text on the page: in an SVG it becomes `currentColor`.
PAGE_INK = "#010203"
# Okabe & Ito's colours, which are safe for the colour-blind (https://jfly.uni-koeln.de/color/); the blue is lighter so
# that it shows on a dark page. Lines that are compared differ in marker and dash, too.
LINE_COLOURS = ("#1f87c9", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#999999")
_MARKERS = "osD^vPX"
_DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.5, 1)), (0, (5, 1, 1, 1)), (0, (8, 2)), (0, (3, 3)), (0, (1, 2)))
_STYLE: Any = {
    "svg.fonttype": "none",  # text stays text: it can be searched, and uses the font of the page
    "svg.hashsalt": "tiedexp",
    "font.size": 10,
    "font.family": "sans-serif",
    "text.parse_math": False,
    "text.color": PAGE_INK,
    "axes.edgecolor": PAGE_INK,
    "axes.labelcolor": PAGE_INK,
    "axes.titlecolor": PAGE_INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": PAGE_INK,
    "ytick.color": PAGE_INK,
    "axes.unicode_minus": True,
}


@contextmanager
def page_style() -> Iterator[None]:
    """The style in which figures for a page are drawn and saved."""
    import matplotlib as mpl

    with mpl.rc_context(_STYLE), _without_glyph_warnings():
        yield


@contextmanager
def _without_glyph_warnings() -> Iterator[None]:
    """Labels can be in a script that the bundled font lacks; boxes are drawn instead, and nothing can be done."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        yield


def new_axes(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure of this size in inches, and its only axes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=100, layout="constrained")
    axes = figure.add_subplot()
    axes.patch.set_alpha(0)
    axes.grid(color=GREY, alpha=0.25, linewidth=0.6)
    axes.set_axisbelow(True)
    return figure, axes


def line_style(number: int | None) -> dict[str, Any]:
    """The colour, marker and dash of a variant by its number; the baseline (None) has the colour of the page's text."""
    if number is None:
        return {"color": PAGE_INK, "marker": "o", "linestyle": "-"}
    number %= len(LINE_COLOURS)
    return {"color": LINE_COLOURS[number], "marker": _MARKERS[number], "linestyle": _DASHES[number]}


def to_svg(figure: Figure) -> str:
    """A figure as an SVG element for a page, without a background, in the colour of the page's text."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :].replace(PAGE_INK, "currentColor")
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    return re.sub(
        r'(<svg [^>]*?) width="[^"]*pt"', r"\1", re.sub(r'(<svg [^>]*?) height="[^"]*pt"', r"\1", svg, count=1)
    )


def to_png(picture: Figure | Image, dpi: float | None = None) -> bytes:
    """PNG bytes of a figure, on white, or of an image of Pillow.

    Args:
        picture: the picture.
        dpi: dots per inch, if not the figure's own.
    """
    from PIL.Image import Image

    buffer = io.BytesIO()
    if isinstance(picture, Image):
        picture.save(buffer, format="png")
    else:
        with _without_glyph_warnings():
            picture.savefig(buffer, format="png", dpi=dpi or "figure", facecolor="white")
    return buffer.getvalue()
