"""The pictures of a comparison, each with its title and caption."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

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
    """A picture and what it shows.

    Args:
        name: of its file, without the ending.
        title: above it.
        caption: below it.
        svg: to stand in a page; empty of one that is a PNG only.
        png: on white; empty if it could not be drawn, and the caption says why.
    """

    name: str
    title: str
    caption: str
    svg: str
    png: bytes


def draw_pictures(comparison: Comparison) -> list[Picture]:
    """All pictures; of one that cannot be drawn, why."""
    by = (comparison.selection or comparison.metric).replace("/", " ")
    front = "The line is the Pareto front of the means; filled points lie on it. Bars are 95% intervals over seeds."
    confused: dict[str, str] = {}

    def confusion() -> Figure | None:
        drawn = plots.draw_confusion_difference(comparison)
        if drawn is None:
            return None
        confused["label"] = drawn[1]
        return drawn[0]

    with page_style():
        wanted: list[tuple[str, str, Any, str]] = [
            (
                "curves",
                "Learning curves",
                partial(plots.draw_curves, comparison),
                f"Means over seeds, and their 95% intervals as bands; at most {plots.MAX_CURVES} variants.",
            ),
            (
                "weights",
                f"{by} against weights",
                partial(plots.draw_trade_off, comparison, "unique_weights", "unique weights"),
                front,
            ),
            (
                "time",
                f"{by} against time",
                partial(plots.draw_trade_off, comparison, "epoch_seconds", "seconds per epoch"),
                f"{front} Times leave out the first epoch of each process, in which the model is compiled. They "
                "depend on the machines that trained the runs, and on what else these were doing.",
            ),
            (
                "differences",
                f"Differences to {comparison.baseline}",
                partial(plots.draw_differences, comparison),
                "Paired by seed, with 95% intervals; filled where the difference is resolved (p below 5% after Holm). "
                "† other budget than the baseline.",
            ),
            ("confusion", "Confusion", confusion, ""),
        ]
        pictures = [picture for each in wanted if (picture := _draw(*each)) is not None]
    if confused:
        caption = (
            f"Where the errors of {confused['label']} differ from those of {comparison.baseline}: red is more often, "
            "blue less often. Means over seeds."
        )
        pictures = [
            Picture(each.name, f"{each.title}: {confused['label']} less {comparison.baseline}", caption, each.svg,
                    each.png) if each.name == "confusion" and each.png else each
            for each in pictures
        ]  # fmt: skip
    return [*pictures, *_draw_kernels(comparison)]


def _draw(name: str, title: str, draw: Any, caption: str) -> Picture | None:
    try:
        figure = draw()
    except RunError as error:
        return Picture(name, title, f"Not drawn: {error}", "", b"")
    return None if figure is None else Picture(name, title, caption, to_svg(figure), to_png(figure, dpi=130))


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
    """A run of each row: of the first seed that all of them have, or else the first of the row."""
    runs = [row.variant.runs for row in rows]
    common = next((pair for pair in runs[0] if all(pair in each for each in runs)), None) if runs else None
    return [each[common] if common is not None else next(iter(each.values())) for each in runs]
