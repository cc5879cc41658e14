"""The comparison as text: for a terminal, as Markdown, LaTeX, CSV and JSON."""

from __future__ import annotations

import csv
import io
import json
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
# In the order in which they go where there is no room. The rest stay: the variant, its difference and the verdict.
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
_NARROW_LABEL = 16  # characters that a label needs; a longer one may be broken into lines


def fit_table(
    comparison: Comparison, columns: Sequence[Column], width: int, *, may_leave_out: bool
) -> tuple[Table, list[Column]]:
    """The table for a terminal of so many characters: in full, or briefly, or without some columns.

    Returns:
        the table, and the columns that are in it.
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
        table.width = needed  # beyond the window, for numbers are not broken
    return table, kept


def _measure(comparison: Comparison, columns: Sequence[Column], *, briefly: bool) -> int:
    """Characters of a line of `to_rich`, at least."""
    from rich.cells import cell_len

    widths = []
    for column in columns:
        texts = [column.brief(row) if briefly and column.brief else column.text(row) for row in comparison.rows]
        width = max(map(cell_len, texts))
        if briefly and column.key == "variant":
            width = min(width, _NARROW_LABEL)
        widths.append(max(width, *map(cell_len, _break_title(column.title, briefly=briefly).split("\n"))))
    gap = 2 if briefly else 3
    return sum(widths) + gap * (len(widths) - 1) + 2  # of which two are the margins


def to_rich(comparison: Comparison, columns: Sequence[Column], *, briefly: bool = False) -> Table:
    """For a terminal; briefly for a narrow one."""
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
    """A heading in lines: `MACs tied`, and `test/accuracy` but not `s/epoch`."""
    split, slash, metric = title.partition("/")
    if slash and metric != "epoch":
        return f"{'valid.' if briefly and split == 'validation' else split}\n{metric}"
    return title.replace(" ", "\n")


def to_markdown(comparison: Comparison, columns: Sequence[Column]) -> str:
    """A GitHub table, and the notes."""
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
    """A table for the package booktabs; the notes as comments."""
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
    """One line per row with every number in full; of the columns wanted, or of everything."""
    keys = None if columns is None else [column.key for column in columns]
    rows = [to_plain(row, comparison) for row in comparison.rows]
    fields = [field for field in rows[0] if keys is None or _belongs(field, keys)]
    file = io.StringIO()
    writer = csv.DictWriter(file, fields, extrasaction="ignore", lineterminator="\n")
    writer.writerow({field: _as_cell(field) for field in fields})
    writer.writerows({key: _as_cell(value) for key, value in row.items()} for row in rows)
    return file.getvalue().rstrip("\n")


def _as_cell(value: Any) -> Any:
    """What a spreadsheet shows and does not compute: text that would be a formula begins with an apostrophe."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def to_json(comparison: Comparison) -> str:
    """Everything."""
    content = {
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
    return json.dumps(content, indent=2, ensure_ascii=False)


def to_plain(row: Row, comparison: Comparison) -> dict[str, Any]:
    """A row as plain numbers and words; fields of a column begin with its key."""
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
