"""The comparison as text: for a terminal, as Markdown, LaTeX, CSV and JSON."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tiedexp.compare.columns import Column, find_style, list_columns
from tiedexp.compare.comparison import Comparison, Row, describe_verdict
from tiedexp.compare.notes import list_notes
from tiedexp.compare.statistics import Estimate

if TYPE_CHECKING:
    from rich.table import Table

_LATEX = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "±": r"$\pm$",
        "−": r"$-$",
        "†": r"\textdagger{}",
        "<": r"$<$",
        ">": r"$>$",
        **{character: f"\\{character}" for character in "&%$#_{}"},
    }
)
_MARKDOWN = str.maketrans({character: f"\\{character}" for character in "\\`*_[]<>|#~"})
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
# In the order in which they are dropped in a narrow window. The variant, its difference and the verdict always stay.
_DISPENSABLE = (
    "macs_dense",
    "epoch_seconds",
    "macs_tied",
    "pareto",
    "p",
    "seeds",
    "unique_weights",
    "selection",
    "metric",
)
_NARROW_LABEL = 16  # characters; a longer label is broken into lines


def fit_table(
    comparison: Comparison, columns: Sequence[Column], width: int, *, may_leave_out: bool
) -> tuple[Table, list[Column]]:
    """Fit the table into a terminal: in full, briefly, or without some columns.

    Args:
        comparison: the comparison.
        columns: the columns to show.
        width: of the terminal, in characters.
        may_leave_out: whether columns can be dropped. If not, the table can be wider than the terminal.

    Returns:
        The table, and the columns that are in it.
    """
    kept = list(columns)
    if _measure(comparison, kept, briefly=False) <= width:
        return to_rich(comparison, kept), kept
    for key in _DISPENSABLE if may_leave_out else ():
        if _measure(comparison, kept, briefly=True) <= width:
            break
        kept = [column for column in kept if column.key != key or column.title == comparison.order]
    table = to_rich(comparison, kept, briefly=True)
    if (needed := _measure(comparison, kept, briefly=True)) > width:
        table.width = needed  # wider than the window, because numbers are never broken
    return table, kept


def _measure(comparison: Comparison, columns: Sequence[Column], *, briefly: bool) -> int:
    """The least width of the table of `to_rich`, in characters."""
    from rich.cells import cell_len

    widths = []
    for column in columns:
        texts = [column.brief(row) if briefly and column.brief else column.text(row) for row in comparison.rows]
        width = max(map(cell_len, texts))
        if briefly and column.key == "variant":
            width = min(width, _NARROW_LABEL)
        widths.append(max(width, *map(cell_len, _break_title(column.title, briefly=briefly).split("\n"))))
    gap = 2 if briefly else 3
    return sum(widths) + gap * (len(widths) - 1) + 2  # two for the margins


def to_rich(comparison: Comparison, columns: Sequence[Column], *, briefly: bool = False) -> Table:
    """A table for a terminal; a brief one for a narrow terminal."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=briefly)
    for column in columns:
        table.add_column(
            Text(_break_title(column.title, briefly=briefly)),
            justify="right" if column.is_number else "left",
            no_wrap=column.key != "variant",
            overflow="fold",
        )
    for row in comparison.rows:
        base = "bold" if row.label == comparison.baseline else ""
        texts = (column.brief(row) if briefly and column.brief else column.text(row) for column in columns)
        styles = (find_style(column, row) or base for column in columns)
        table.add_row(*(Text(text, style) for text, style in zip(texts, styles, strict=True)))
    return table


def _break_title(title: str, *, briefly: bool) -> str:
    """A heading broken into lines: at a blank (`MACs tied`), or after the split (`test/accuracy`)."""
    split, slash, metric = title.partition("/")
    if slash and metric != "epoch":
        return f"{'valid.' if briefly and split == 'validation' else split}\n{metric}"
    return title.replace(" ", "\n")


def to_markdown(comparison: Comparison, columns: Sequence[Column]) -> str:
    """A table in GitHub's Markdown, followed by the notes."""
    head = [
        "| " + " | ".join(column.title.translate(_MARKDOWN) for column in columns) + " |",
        "|" + "|".join("---:" if column.is_number else "---" for column in columns) + "|",
    ]
    body = [
        "| " + " | ".join(column.text(row).translate(_MARKDOWN) for column in columns) + " |" for row in comparison.rows
    ]
    return "\n".join(
        [*head, *body, "", *(f"- {note.translate(_MARKDOWN)}" for note in list_notes(comparison, columns))]
    )


def to_latex(comparison: Comparison, columns: Sequence[Column]) -> str:
    """A LaTeX table for the package booktabs, with the notes as comments."""
    notes = [f"% {note}" for note in list_notes(comparison, columns)]
    layout = "".join("r" if column.is_number else "l" for column in columns)
    lines = [
        " & ".join(texts) + r" \\"
        for texts in (
            [column.title.translate(_LATEX) for column in columns],
            *([column.text(row).translate(_LATEX) for column in columns] for row in comparison.rows),
        )
    ]
    begin = [rf"\begin{{tabular}}{{{layout}}}", r"\toprule", lines[0], r"\midrule"]
    return "\n".join([*notes, *begin, *lines[1:], r"\bottomrule", r"\end{tabular}"])


def to_csv(comparison: Comparison, columns: Sequence[Column] | None) -> str:
    """Comma-separated values with every number in full, of these columns, or of everything if None."""
    keys = None if columns is None else [column.key for column in columns]
    rows = [to_plain(row, comparison) for row in comparison.rows]
    fields = [field for field in rows[0] if keys is None or _belongs(field, keys)]
    file = io.StringIO()
    writer = csv.DictWriter(file, fields, extrasaction="ignore", lineterminator="\n")
    writer.writerow({field: _as_cell(field) for field in fields})
    writer.writerows({key: _as_cell(value) for key, value in row.items()} for row in rows)
    return file.getvalue().rstrip("\n")


def _as_cell(value: Any) -> Any:
    """A value that a spreadsheet shows but does not compute: text that looks like a formula gets an apostrophe."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def to_plain_comparison(comparison: Comparison) -> dict[str, Any]:
    """Everything in the comparison, as plain numbers and words."""
    return {
        "metric": comparison.metric,
        "selection": comparison.selection,
        "baseline": comparison.baseline,
        "axes": comparison.axes,
        "rows": [
            {
                **to_plain(row, comparison),
                "equal_budgets": row.equal_budgets,
                "settings": dict(row.variant.settings),
                "runs": [str(run.run.path) for run in row.variant.runs.values()],
            }
            for row in comparison.rows
        ],
        "notes": list_notes(comparison, list_columns(comparison)),
    }


def to_plain(row: Row, comparison: Comparison) -> dict[str, Any]:
    """A row as plain numbers and words; the names of a column's fields start with its key."""
    difference = row.difference
    return {
        "variant": row.label,
        **row.variant.settings,
        "seeds": row.metric.count,
        **_plain_estimate("selection", row.selection),
        **_plain_estimate("metric", row.metric),
        **_plain_estimate("difference", None if difference is None else difference.estimate),
        "pairs": None if difference is None else difference.estimate.count,
        "p": row.p,
        "p_uncorrected": None if difference is None else difference.p,
        "pairs_needed": row.needed,
        "verdict": describe_verdict(row, comparison),
        "unique_weights": row.unique_weights,
        "macs_dense": row.macs_dense,
        "macs_tied": row.macs_tied,
        "epoch_seconds": row.epoch_seconds,
        "other_budget": None if row.equal_budgets is None else row.has_other_budget,
        "pareto": row.dominated_by is None,
        "pareto_dominated_by": row.dominated_by,
    }


def _plain_estimate(key: str, estimate: Estimate | None) -> dict[str, float | None]:
    low, high = (estimate.interval if estimate is not None else None) or (None, None)
    return {key: None if estimate is None else estimate.mean, f"{key}_low": low, f"{key}_high": high}


def _belongs(field: str, keys: Sequence[str]) -> bool:
    return any(field == key or field.startswith(f"{key}_") for key in keys)
