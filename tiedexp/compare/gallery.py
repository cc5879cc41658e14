"""The pictures of a comparison, each with its title and caption."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from tiedexp.compare import plots
from tiedexp.compare.comparison import Comparison, Row
from tiedexp.compare.kernels import draw_first_kernels
from tiedexp.compare.reading import ComparedRun
from tiedexp.drawing.figures import page_style, to_png, to_svg
from tiedexp.errors import RunError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_KERNELS = 8


@dataclass(frozen=True)
class Picture:
    """A picture with its texts.

    Args:
        name: the name of its file, without the suffix.
        title: the text above it.
        caption: the text below it.
        svg: an SVG element for a page; empty if there is only a PNG.
        png: a PNG on white; empty if it could not be drawn, in which case the caption says why.
    """

    name: str
    title: str
    caption: str
    svg: str
    png: bytes


def draw_pictures(comparison: Comparison) -> list[Picture]:
    """All pictures of a comparison; one that cannot be drawn says why."""
    quality = (comparison.selection or comparison.metric).replace("/", " ")
    front = "The line is the Pareto front of the means; filled points lie on it. Bars are 95% intervals over seeds."
    with page_style():
        figures = [
            _draw(
                "curves",
                "Learning curves",
                f"Lines are means over seeds, and bands their 95% intervals. At most {plots.MAX_CURVES} variants are "
                "shown.",
                partial(plots.draw_curves, comparison),
            ),
            _draw(
                "weights",
                f"{quality.capitalize()} against weights",
                front,
                partial(plots.draw_trade_off, comparison, "unique_weights", "unique weights"),
            ),
            _draw(
                "time",
                f"{quality.capitalize()} against time",
                f"{front} Times exclude the first epoch of each process, in which the model is compiled. They depend "
                "on the machines, and on what else ran there.",
                partial(plots.draw_trade_off, comparison, "epoch_seconds", "seconds per epoch"),
            ),
            _draw(
                "differences",
                f"Differences from {comparison.baseline}",
                "Differences are paired by seed, with 95% intervals; filled points are resolved (p is below 5% after "
                "Holm's correction). † marks another budget than the baseline's.",
                partial(plots.draw_differences, comparison),
            ),
            _draw_confusion(comparison),
        ]
    return [*(picture for picture in figures if picture is not None), *_draw_kernels(comparison)]


def _draw(name: str, title: str, caption: str, draw: Callable[[], Figure | None]) -> Picture | None:
    try:
        figure = draw()
    except RunError as error:
        return Picture(name, title, f"Not drawn: {error}", "", b"")
    return None if figure is None else Picture(name, title, caption, to_svg(figure), to_png(figure, dpi=130))


def _draw_confusion(comparison: Comparison) -> Picture | None:
    compared = plots.choose_confused(comparison)
    if compared is None:
        return None
    label, baseline = (row.label for row in compared)
    return _draw(
        "confusion",
        f"Confusion: {label} minus {baseline}",
        f"Red is predicted more often by {label} than by {baseline}, and blue less often. Means over seeds.",
        partial(plots.draw_confusion_difference, comparison),
    )


def _draw_kernels(comparison: Comparison) -> Iterator[Picture]:
    rows = [row for _, row in plots.choose_rows(comparison, MAX_KERNELS)]
    for number, (row, run) in enumerate(zip(rows, _choose_runs(rows), strict=True), 1):
        name, title = f"kernels-{number}", f"{row.label}, seed {run.seed}"
        try:
            png, caption = draw_first_kernels(run.run, title)
        except RunError as error:
            png, caption = b"", f"Not drawn: {error}"
        yield Picture(name, title, caption, "", png)


def _choose_runs(rows: Sequence[Row]) -> list[ComparedRun]:
    """One run of each row: that of the first seed that all rows have, or else the first of the row."""
    runs = [row.variant.runs for row in rows]
    common = next((pair for pair in runs[0] if all(pair in each for each in runs)), None) if runs else None
    return [each[common] if common is not None else next(iter(each.values())) for each in runs]
