"""The columns of a comparison: which ones exist, which are shown, and the text of their cells."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tiedexp.compare.comparison import Comparison, Row, describe_verdict
from tiedexp.compare.statistics import Estimate
from tiedexp.compare.variants import WIDTH
from tiedexp.errors import SpecError


@dataclass(frozen=True)
class Column:
    """A column of the table.

    Args:
        key: its name for `--columns` and `--sort`.
        title: its heading.
        value: the number or word that a row is sorted by; None if it has none.
        text: the text of a row's cell.
        is_number: whether cells are aligned to the right.
        brief: the text of the cell in a narrow window; the same as `text` if None.
    """

    key: str
    title: str
    value: Callable[[Row], Any]
    text: Callable[[Row], str]
    is_number: bool = True
    brief: Callable[[Row], str] | None = None


def list_columns(comparison: Comparison) -> list[Column]:
    """All columns that a comparison can show, in order; the axes come last."""
    columns = [
        Column("variant", "variant", lambda row: row.label, lambda row: row.label, is_number=False),
        Column("seeds", "seeds", lambda row: row.metric.count, lambda row: str(row.metric.count)),
    ]
    if comparison.selection not in (None, comparison.metric):
        selection = _estimate_column("selection", str(comparison.selection), lambda row: row.selection)
        columns.append(replace(selection, brief=lambda row: f"{row.selection.mean:.4f}" if row.selection else ""))
    columns.append(_estimate_column("metric", comparison.metric, lambda row: row.metric))
    if comparison.baseline is not None:
        columns += [
            Column("difference", "difference", _difference, _show_difference),
            Column("p", "p (Holm)", lambda row: row.p, lambda row: _show_p(row.p)),
            Column(
                "verdict",
                "verdict",
                lambda row: describe_verdict(row, comparison),
                lambda row: describe_verdict(row, comparison),
                is_number=False,
                brief=lambda row: describe_verdict(row, comparison, briefly=True),
            ),
        ]
    columns += [
        Column("unique_weights", "weights", lambda row: row.unique_weights, lambda row: f"{row.unique_weights:,.0f}"),
        Column("macs_dense", "MACs dense", lambda row: row.macs_dense, lambda row: f"{row.macs_dense:,.0f}"),
        Column("macs_tied", "MACs tied", lambda row: row.macs_tied, lambda row: f"{row.macs_tied:,.0f}"),
        Column("epoch_seconds", "s/epoch", lambda row: row.epoch_seconds, lambda row: _show_seconds(row.epoch_seconds)),
        Column(
            "pareto",
            "Pareto",
            lambda row: row.dominated_by or "",
            _show_pareto,
            is_number=False,
            brief=lambda row: row.dominated_by or "*",
        ),
    ]
    return [*columns, *(_axis_column(axis) for axis in comparison.axes if axis not in {"seeds", "p", "metric"})]


def choose_columns(comparison: Comparison, wanted: Sequence[str]) -> list[Column]:
    """The columns with these names; by default those in which rows differ, without the axes, which are in the label.

    Raises:
        SpecError: there is no such column.
    """
    columns = {column.key: column for column in list_columns(comparison)}
    if wanted:
        return list(
            dict.fromkeys([columns["variant"], *(find_column(comparison, name, "--columns") for name in wanted)])
        )
    always = {"variant", "seeds", "selection", "metric", "difference", "p", "verdict", "pareto"}
    widths = [row.variant.settings.get(WIDTH) for row in comparison.rows]
    if any(f"w{width}" not in row.label.split() for row, width in zip(comparison.rows, widths, strict=True)):
        always.add(WIDTH)  # `match` changed it, and labels do not show that
    return [
        column
        for key, column in columns.items()
        if key in always or (key not in comparison.axes and len({column.value(row) for row in comparison.rows}) > 1)
    ]


def find_column(comparison: Comparison, name: str, option: str) -> Column:
    """The column with this key, or else the only one with this heading; SpecError names the option if there is none."""
    columns = {column.key: column for column in list_columns(comparison)}
    titled = [column for column in columns.values() if column.title == name]
    if name in columns:
        return columns[name]
    if len(titled) == 1:
        return titled[0]
    raise SpecError(f"{option} {name}: there is no such column; the columns are {', '.join(columns)}")


def sort_rows(comparison: Comparison, name: str) -> Comparison:
    """Sort by a column: metrics with the best first, other numbers in ascending order, words alphabetically.

    Raises:
        SpecError: there is no such column.
    """
    column = find_column(comparison, name, "--sort")
    best_first = column.key in ("selection", "metric", "difference") and not comparison.lower_is_better
    known = [row for row in comparison.rows if column.value(row) is not None]
    numbers = all(isinstance(column.value(row), int | float) for row in known)
    known.sort(key=column.value if numbers else lambda row: str(column.value(row)), reverse=best_first)
    unknown = [row for row in comparison.rows if column.value(row) is None]
    return replace(comparison, rows=(*known, *unknown), order=column.title)


def find_style(column: Column, row: Row) -> str:
    """The style of a cell: `green` or `red` for a resolved difference, `dim` for other verdicts, or none (empty)."""
    if column.key == "verdict" and row.is_resolved:
        return "green" if column.text(row) == "better" else "red"
    return "dim" if column.key in ("verdict", "pareto") and column.text(row) not in ("*", "baseline") else ""


def _estimate_column(key: str, title: str, get: Callable[[Row], Estimate | None]) -> Column:
    def value(row: Row) -> float | None:
        estimate = get(row)
        return None if estimate is None else estimate.mean

    return Column(key, title, value, lambda row: _show_estimate(get(row)))


def _axis_column(axis: str) -> Column:
    def text(row: Row) -> str:
        value = row.variant.settings.get(axis)
        return "" if value is None else str(value)

    return Column(axis, axis.rpartition(".")[2], lambda row: row.variant.settings.get(axis), text, is_number=False)


def _difference(row: Row) -> float | None:
    return None if row.difference is None else row.difference.estimate.mean


def _show_difference(row: Row) -> str:
    if row.difference is None:
        return ""
    estimate, mark = row.difference.estimate, "†" if row.has_other_budget else ""
    shown = f"{estimate.mean:+.4f}".replace("-", "−")
    return f"{shown}{_show_half_width(estimate)}{mark}"


def _show_estimate(estimate: Estimate | None) -> str:
    return "" if estimate is None else f"{estimate.mean:.4f}{_show_half_width(estimate)}"


def _show_half_width(estimate: Estimate) -> str:
    return "" if estimate.half_width is None else f" ±{estimate.half_width:.4f}"


def _show_p(p: float | None) -> str:
    if p is None:
        return ""
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def _show_seconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds:.3g}"


def _show_pareto(row: Row) -> str:
    return "*" if row.dominated_by is None else f"beaten by {row.dominated_by}"
