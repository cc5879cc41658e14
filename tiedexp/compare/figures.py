"""Figures as SVG that takes its ink from the page around it, or as PNG on white.

Colours are Okabe & Ito's, safe for the colour-blind (https://jfly.uni-koeln.de/color/), the blue lighter so that it
shows on a dark page; what is compared differs in marker and dash too.
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

# Black stands for the page's own ink: in an SVG it becomes `currentColor`.
INK = "#010203"
GREY = "#888888"
COLOURS = ("#1f87c9", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#999999")
MARKERS = "osD^vPX"
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.5, 1)), (0, (5, 1, 1, 1)), (0, (8, 2)), (0, (3, 3)), (0, (1, 2)))
_STYLE: Any = {
    "svg.fonttype": "none",  # text stays text: it can be searched, and has the page's font
    "svg.hashsalt": "tiedexp",
    "font.size": 10,
    "font.family": "sans-serif",
    "text.parse_math": False,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.unicode_minus": True,
}


@contextmanager
def drawing_style() -> Iterator[None]:
    """What all figures are drawn and saved in."""
    import matplotlib as mpl

    with mpl.rc_context(_STYLE), warnings.catch_warnings():
        # Labels may be in a script that the bundled font lacks; boxes in their place are all there is to have.
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        yield


def new_axes(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure of so many inches, and its one pair of axes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.patch.set_alpha(0)
    axes.grid(color=GREY, alpha=0.25, linewidth=0.6)
    axes.set_axisbelow(True)
    return figure, axes


def style_of(place: int | None) -> dict[str, Any]:
    """Colour, marker and dash of a variant: None is the baseline, in the page's ink."""
    if place is None:
        return {"color": INK, "marker": "o", "linestyle": "-"}
    number = place % len(COLOURS)
    return {"color": COLOURS[number], "marker": MARKERS[number], "linestyle": DASHES[number]}


def to_svg(figure: Figure) -> str:
    """An SVG element to stand in a page, without a background, in the page's ink."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :].replace(INK, "currentColor")
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    return re.sub(
        r'(<svg [^>]*?) width="[^"]*pt"', r"\1", re.sub(r'(<svg [^>]*?) height="[^"]*pt"', r"\1", svg, count=1)
    )


def to_png(figure: Figure) -> bytes:
    """The same on white."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130, facecolor="white")
    return buffer.getvalue()
