"""The comparison as text: columns, and the formats in which they are written."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from tiedexp.compare.grouping import WIDTH
from tiedexp.compare.statistics import Estimate
from tiedexp.compare.table import Comparison, Row, describe_verdict
from tiedexp.errors import SpecError

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
_MARKDOWN = str.maketrans({character: f"\\{character}" for character in "\\`*_[]<>|#~"})


@dataclass(frozen=True)
class Column:
    """A column of the table.

    Args:
        key: what `--columns` and `--sort` call it.
        title: its heading.
        value: a number or word to sort by; None where a row has none.
        text: what a person reads.
        is_number: whether it is aligned to the right.
        brief: what a person reads in a narrow window; `text` if None.
    """

    key: str
    title: str
    value: Callable[[Row], Any]
    text: Callable[[Row], str]
    is_number: bool = True
    brief: Callable[[Row], str] | None = None


def list_columns(comparison: Comparison) -> list[Column]:
    """All columns that a comparison may show, in their order; the axes last."""
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
    """The columns of these names; without any, those in which rows differ, but for the axes, which the label has.

    Raises:
        SpecError: there is no such column.
    """
    columns = {column.key: column for column in list_columns(comparison)}
    if wanted:
        return list(
            dict.fromkeys([columns["variant"], *(find_column(comparison, name, "--columns") for name in wanted)])
        )
    always = {"variant", "seeds", "selection", "metric", "difference", "p", "verdict", "pareto"}
    widths = [row.group.settings.get(WIDTH) for row in comparison.rows]
    if any(f"w{width}" not in row.label.split() for row, width in zip(comparison.rows, widths, strict=True)):
        always.add(WIDTH)  # what `match` made of it is in no label
    return [
        column
        for key, column in columns.items()
        if key in always or (key not in comparison.axes and len({column.value(row) for row in comparison.rows}) > 1)
    ]


def find_column(comparison: Comparison, name: str, option: str) -> Column:
    """The column with this key, or with this heading if only one has it; SpecError that names the option if none."""
    columns = {column.key: column for column in list_columns(comparison)}
    titled = [column for column in columns.values() if column.title == name]
    if name in columns:
        return columns[name]
    if len(titled) == 1:
        return titled[0]
    raise SpecError(f"{option} {name}: there is no such column; the columns are {', '.join(columns)}")


def sort_rows(comparison: Comparison, name: str) -> Comparison:
    """Sort by a column: numbers of quality from the best, other numbers from the smallest, words by the alphabet.

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


def list_notes(comparison: Comparison, columns: Sequence[Column]) -> list[str]:
    """What a reader of these columns must know, one sentence or two each."""
    keys = {column.key for column in columns}
    notes = [note.text for note in comparison.notes if not note.columns or keys & set(note.columns)]
    return [f"Rows are sorted by {comparison.order}.", *notes]


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


# Formats


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
                "settings": dict(row.group.settings),
                "runs": [str(run.run.path) for run in row.group.runs.values()],
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
        **row.group.settings,
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


# Cells


def _estimate_column(key: str, title: str, get: Callable[[Row], Estimate | None]) -> Column:
    def value(row: Row) -> float | None:
        estimate = get(row)
        return None if estimate is None else estimate.mean

    return Column(key, title, value, lambda row: _show_estimate(get(row)))


def _axis_column(axis: str) -> Column:
    def text(row: Row) -> str:
        value = row.group.settings.get(axis)
        return "" if value is None else str(value)

    return Column(axis, axis.rpartition(".")[2], lambda row: row.group.settings.get(axis), text, is_number=False)


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


def find_style(column: Column, row: Row) -> str:
    """`green` and `red` for resolved differences, `dim` for other verdicts; empty for everything else."""
    if column.key == "verdict" and row.is_resolved:
        return "green" if column.text(row) == "better" else "red"
    return "dim" if column.key in ("verdict", "pareto") and column.text(row) not in ("*", "baseline") else ""


def _plain_estimate(key: str, estimate: Estimate | None) -> dict[str, float | None]:
    low, high = (estimate.interval if estimate is not None else None) or (None, None)
    return {key: None if estimate is None else estimate.mean, f"{key}_low": low, f"{key}_high": high}


def _belongs(field: str, keys: Sequence[str]) -> bool:
    return any(field == key or field.startswith(f"{key}_") for key in keys)
