"""The pictures of a comparison: learning curves, trade-offs, differences, confusion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tiedexp.compare.comparison import Comparison, Row, describe_verdict
from tiedexp.compare.statistics import estimate_mean, find_dominating
from tiedexp.drawing.figures import GREY, INK, LINE_COLOURS, PAGE_INK, line_style, new_axes
from tiedexp.errors import RunError
from tiedexp.runs.directory import RunDirectory
from tiedexp.runs.records import Evaluation
from tiedexp.terminal import clean_text
from tiedexp.text import shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_CURVES = 7
MAX_DIFFERENCES = 40
MAX_LABELS = 24
MAX_CLASSES = 100
_MAX_WRITTEN = 20
_MAX_LABEL, _MAX_CLASS = 32, 18  # characters


def draw_curves(comparison: Comparison) -> Figure:
    """Draw the metric on validation (or training) images by epoch: means over seeds, and 95% intervals as bands.

    If there are many variants, only the baseline and the first six others of the table are drawn.

    Raises:
        RunError: a run's metrics.jsonl is not as tiedexp writes it.
    """
    from matplotlib.ticker import MaxNLocator

    rows = choose_rows(comparison, MAX_CURVES)
    split = "validation" if comparison.selection is not None else "train"
    metric = comparison.metric.rpartition("/")[2]
    metric = metric if metric in ("accuracy", "loss") else "accuracy"
    figure, axes = new_axes(8.4, 4.4)
    for number, row in rows:
        runs = [_read_curve(run.run, split, metric) for run in row.variant.runs.values()]
        epochs = range(1, max(map(len, runs), default=0) + 1)
        estimates = [estimate_mean([run[epoch - 1] for run in runs if len(run) >= epoch]) for epoch in epochs]
        means = [estimate.mean for estimate in estimates]
        style = line_style(number)
        axes.plot(epochs, means, label=_legend(row.label), linewidth=1.8, markersize=4.5, **style)
        low, high = zip(*(estimate.interval or (estimate.mean, estimate.mean) for estimate in estimates), strict=True)
        axes.fill_between(epochs, low, high, color=style["color"], alpha=0.13, linewidth=0)
        axes.set_xlim(left=1)
    _limit(axes, metric)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("epoch")
    axes.set_ylabel(f"{split} {metric}")
    figure.legend(loc="outside right upper", frameon=False, fontsize=9)
    return figure


def draw_trade_off(comparison: Comparison, cost: str, name: str) -> Figure | None:
    """Draw quality with its interval against a cost on a logarithmic scale, and the Pareto front as a line.

    Args:
        comparison: the comparison. Its selection metric is drawn, or the reported one without validation images.
        cost: an attribute of `Row`; rows in which it is None are left out.
        name: the label of the axis of the cost.

    Returns:
        The figure; None if no row has the cost.
    """
    rows = [row for row in comparison.rows if getattr(row, cost) is not None]
    if not rows:
        return None
    figure, axes = new_axes(8.4, 4.6)
    sign = -1.0 if comparison.lower_is_better else 1.0
    points = [(getattr(row, cost), _estimate(row).mean) for row in rows]
    dominating = find_dominating([(sign * quality, costs) for costs, quality in points])
    front = sorted(point for point, better in zip(points, dominating, strict=True) if better is None)
    axes.plot(*zip(*front, strict=True), color=GREY, linewidth=1.2, drawstyle="steps-post", zorder=1)
    for row, (x, y), better in zip(rows, points, dominating, strict=True):
        colour = PAGE_INK if row.label == comparison.baseline else LINE_COLOURS[0] if better is None else GREY
        half = _estimate(row).half_width
        face = colour if better is None else "none"
        axes.errorbar(
            x, y, yerr=None if half is None else [[half], [half]], color=colour, elinewidth=1, capsize=2,
            marker="s" if row.label == comparison.baseline else "o", markersize=6.5, markerfacecolor=face,
        )  # fmt: skip
    if min(x for x, _ in points) > 0:
        axes.set_xscale("log")
        _label_log_axis(axes, [x for x, _ in points])
    _limit(axes, comparison.metric.rpartition("/")[2])
    axes.set_xlabel(name)
    axes.set_ylabel((comparison.selection or comparison.metric).replace("/", " "))
    shown = [at for at, better in enumerate(dominating) if better is None or len(points) <= MAX_LABELS]
    _label_points(figure, axes, [points[at] for at in shown], [rows[at].label for at in shown])
    return figure


def draw_differences(comparison: Comparison) -> Figure | None:
    """Draw differences from the baseline as a forest plot, filled if resolved; None if there are no differences."""
    rows = [row for row in comparison.rows if row.difference is not None][:MAX_DIFFERENCES]
    if not rows:
        return None
    figure, axes = new_axes(8.4, 1.3 + 0.32 * len(rows))
    axes.axvline(0, color=PAGE_INK, linewidth=1)
    for at, row in enumerate(rows):
        assert row.difference is not None
        estimate = row.difference.estimate
        verdict = describe_verdict(row, comparison)
        colour = LINE_COLOURS[2] if verdict == "better" else LINE_COLOURS[1] if verdict == "worse" else GREY
        half = estimate.half_width
        axes.errorbar(
            estimate.mean, at, xerr=None if half is None else [[half], [half]], color=colour, marker="o",
            markersize=6.5, markerfacecolor=colour if row.is_resolved else "none", elinewidth=2, capsize=3,
        )  # fmt: skip
        axes.annotate(verdict, (1.01, at), xycoords=("axes fraction", "data"), va="center", fontsize=9)
    axes.set_yticks(range(len(rows)), [shorten(row.label, _MAX_LABEL) + "†" * row.has_other_budget for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlabel(f"{comparison.metric.replace('/', ' ')} minus that of {comparison.baseline}")
    return figure


def choose_confused(comparison: Comparison) -> tuple[Row, Row] | None:
    """The first variant of the table that is not the baseline, and the baseline; None if one is missing."""
    base = comparison.baseline_row
    other = next((row for row in comparison.rows if row is not base), None)
    return None if base is None or other is None else (other, base)


def draw_confusion_difference(comparison: Comparison) -> Figure | None:
    """How the errors of the first variant of the table differ from those of the baseline; see `choose_confused`.

    Drawn are the shares of each true class, mean over the runs, as differences in percentage points.

    Returns:
        The figure; None without a baseline, or if the two have different classes.

    Raises:
        RunError: a result.json is not as tiedexp writes it.
    """
    chosen = choose_confused(comparison)
    if chosen is None:
        return None
    other, base = chosen
    split = comparison.metric.partition("/")[0]
    shares = [_mean_shares(row, split) for row in (other, base)]
    if shares[0].shape != shares[1].shape:
        return None
    points = 100 * (shares[0] - shares[1])  # (true, predicted)
    names = _class_names(base, len(points))
    side = float(np.clip(2.4 + 0.42 * len(points), 4.0, 9.0))
    figure, axes = new_axes(side + 1.2, side)
    axes.grid(visible=False)
    limit = max(float(np.abs(points).max()), 0.1)
    image = axes.pcolormesh(points, cmap="RdBu_r", vmin=-limit, vmax=limit, rasterized=len(points) > _MAX_WRITTEN)
    axes.invert_yaxis()
    axes.set_aspect("equal")
    ticks = np.arange(0, len(points), -(-len(points) // 50))
    shown = [names[tick] for tick in ticks]
    axes.set_xticks(ticks + 0.5, shown, rotation=0 if max(map(len, shown)) <= 2 else 90, fontsize=9)
    axes.set_yticks(ticks + 0.5, shown, fontsize=9)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    if len(points) <= _MAX_WRITTEN:
        for row, column in zip(*np.nonzero(np.abs(points) >= 0.05), strict=True):
            colour = "#ffffff" if abs(points[row, column]) > 0.6 * limit else INK
            text = f"{points[row, column]:+.1f}".replace("-", "−")
            axes.text(column + 0.5, row + 0.5, text, ha="center", va="center", color=colour, fontsize=7.5)
    bar = figure.colorbar(image, ax=axes, shrink=0.8)
    bar.set_label("percentage points of the true class")
    return figure


def choose_rows(comparison: Comparison, count: int) -> list[tuple[int | None, Row]]:
    """The baseline (numbered None) and the first other rows (numbered from 0), at most `count` in all."""
    base = comparison.baseline_row
    others = [row for row in comparison.rows if row is not base]
    chosen = list(enumerate(others[: count - (base is not None)]))
    return [*([] if base is None else [(None, base)]), *chosen]


# Data


def _read_curve(run: RunDirectory, split: str, metric: str) -> list[float]:
    splits = (getattr(line, split) for line in run.read_metrics())
    return [getattr(measured, metric) for measured in splits if measured is not None]


def _mean_shares(row: Row, split: str) -> npt.NDArray[np.float64]:
    """(true, predicted): the share of the images of each true class, as the mean over the runs."""
    every = [_read_shares(run.run, split) for run in row.variant.runs.values()]
    same = [shares for shares in every if shares.shape == every[0].shape]
    return np.asarray(np.mean(same, axis=0))


def _read_shares(run: RunDirectory, split: str) -> npt.NDArray[np.float64]:
    evaluation: Evaluation | None = getattr(run.read_result(), split, None)
    rows = () if evaluation is None else evaluation.confusion
    if not rows or {len(row) for row in rows} != {len(rows)}:
        raise RunError(f"{run.path / 'result.json'} has no confusion matrix for {split}")
    if len(rows) > MAX_CLASSES:
        raise RunError(f"{run.path}: a confusion matrix of more than {MAX_CLASSES} classes is not drawn")
    counts = np.array(rows, dtype=np.float64)
    return np.asarray(counts / np.maximum(counts.sum(axis=1, keepdims=True), 1))


def _class_names(row: Row, count: int) -> list[str]:
    run = next(iter(row.variant.runs.values())).run
    names = [shorten(clean_text(name), _MAX_CLASS) for name in run.read_manifest().data.class_names]
    return names if len(names) == count else [str(number) for number in range(count)]


def _estimate(row: Row) -> Any:
    return row.selection or row.metric


# Axes


def _limit(axes: Axes, metric: str) -> None:
    """Limit the axis to what the metric can be: accuracies to 0 to 1, losses to 0 and above."""
    low, high = axes.get_ylim()
    if metric == "accuracy" or metric.startswith("top"):
        axes.set_ylim(max(low, 0.0), min(high, 1.005))
    else:
        axes.set_ylim(max(low, 0.0), high)


def _label_log_axis(axes: Axes, values: Sequence[float]) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

    is_wide = max(values) / min(values) > 30
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0,) if is_wide else (1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlim(min(values) / 1.3, max(values) * 1.45)


def _label_points(figure: Figure, axes: Axes, points: Sequence[tuple[float, float]], labels: Sequence[str]) -> None:
    """Write labels beside points, each at the first of eight positions where it covers nothing."""
    from matplotlib.transforms import Bbox

    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # otherwise saving would move the points and not the labels
    pixels = axes.transData.transform(points)
    taken = [Bbox.from_bounds(x - 5, y - 5, 10, 10) for x, y in pixels]
    offsets: list[tuple[float, float, str, str]] = [
        (7, 5, "left", "bottom"), (7, -5, "left", "top"), (-7, 5, "right", "bottom"), (-7, -5, "right", "top"),
        (7, 14, "left", "bottom"), (7, -14, "left", "top"), (-7, 14, "right", "bottom"), (-7, -14, "right", "top"),
    ]  # fmt: skip
    frame = axes.get_window_extent()
    for point, label in zip(points, labels, strict=True):
        for dx, dy, across, along in offsets:
            text = axes.annotate(
                shorten(label, _MAX_LABEL),
                point,
                (dx, dy),
                textcoords="offset points",
                ha=across,
                va=along,
                fontsize=8.5,
            )
            box = text.get_window_extent()
            if not any(box.overlaps(other) for other in taken) and frame.x0 <= box.x0 and box.x1 <= frame.x1 + 40:
                taken.append(box)
                break
            text.remove()


def _legend(label: str) -> str:
    """A label for a legend, from which matplotlib hides labels that start with an underscore."""
    return f"\N{ZERO WIDTH SPACE}{shorten(label, _MAX_LABEL)}" if label.startswith("_") else shorten(label, _MAX_LABEL)
