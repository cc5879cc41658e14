"""`tiedexp compare`: compares the variants of an experiment, with error bars."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tiedexp.cli.options import Json
from tiedexp.cli.printing import print_json, warn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tiedexp.compare.columns import Column
    from tiedexp.compare.comparison import Comparison


def compare(
    paths: Annotated[list[Path], typer.Argument(metavar="RUNS", help="Runs, or directories of runs, e.g. a sweep.")],
    baseline: Annotated[
        str | None,
        typer.Option(
            metavar="KEY",
            help="The variant to compare with: its label, its name, or a value that only it has."
            " [default: the baseline of the sweep, or the only untied variant]",
        ),
    ] = None,
    metric: Annotated[
        str,
        typer.Option(
            help="The metric to report: test/ or validation/, then accuracy, loss, top5_accuracy or calibration_error."
        ),
    ] = "test/accuracy",
    by: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY",
            help="Make one row per value of this spec key, e.g. model.depth, and average over the other keys."
            " May be repeated. [default: all keys that differ]",
        ),
    ] = None,
    where: Annotated[
        str | None,
        typer.Option(
            metavar="EXPR",
            help="Take only runs for which this is true, e.g. 'model.depth >= 4 and not model.tying.pattern == block'.",
        ),
    ] = None,
    sort: Annotated[
        str | None, typer.Option(metavar="COL", help="Sort the rows by this column. [default: the validation metric]")
    ] = None,
    columns: Annotated[
        str | None,
        typer.Option(metavar="A,B", help="Show these columns. [default: those in which the rows differ]"),
    ] = None,
    md: Annotated[bool, typer.Option("--md", help="Print a Markdown table.")] = False,
    csv: Annotated[bool, typer.Option("--csv", help="Print comma-separated values with all digits.")] = False,
    latex: Annotated[bool, typer.Option("--latex", help="Print a LaTeX table (booktabs).")] = False,
    html: Annotated[
        Path | None,
        typer.Option(help="Write a self-contained HTML page with the table and the pictures to this file."),
    ] = None,
    plots: Annotated[Path | None, typer.Option(help="Write the pictures as PNG files into this directory.")] = None,
    json: Json = False,
) -> None:
    """Compare variants over their seeds.

    Shows means, paired differences from a baseline, costs, and which variant beats which. Each row is a variant, i.e.
    the runs that differ only in their seed. Rows are sorted by the validation metric, and the test metric is reported.
    The variants of a sweep have the labels of the sweep. Only run directories are read, and they can come from
    anywhere. Runs made by `tiedexp reproduce` are compared only if their directory (`reproduced`) is named.

    \b
    tiedexp compare runs/my-sweep                                 a sweep
    tiedexp compare runs/my-sweep --where 'model.depth < 8' --md  part of it, for a README
    tiedexp compare runs/my-sweep runs/another                    two sweeps in one table
    tiedexp compare runs --by model.tying.pattern                 all runs, by pattern
    """
    from tiedexp.compare.columns import choose_columns, sort_rows
    from tiedexp.compare.formats import to_csv, to_latex, to_markdown, to_plain_comparison
    from tiedexp.compare.reading import read_runs
    from tiedexp.compare.table import build_comparison
    from tiedexp.compare.where import parse_condition
    from tiedexp.errors import SpecError

    if md + csv + latex + json > 1:
        raise SpecError("--md, --csv, --json and --latex are different formats; use only one of them")
    found = read_runs(paths)
    runs = found.runs
    if where is not None:
        holds = parse_condition(where, {key for run in runs for key in run.facts})
        runs = tuple(run for run in runs if holds(run.facts))
        if not runs:
            raise SpecError(f"--where: none of the {len(found.runs)} runs matches: {where}")
    comparison = build_comparison(found, runs, metric=metric, baseline=baseline, by=by or ())
    wanted = [key.strip() for key in columns.split(",")] if columns else []
    if sort is not None:
        comparison = sort_rows(comparison, sort)
        if comparison.order in (metric, "difference") and comparison.selection not in (None, metric):
            warn(
                f"choosing by {metric} makes the best variant look better than it is; "
                f"choose by {comparison.selection} (--sort selection)"
            )
    shown = choose_columns(comparison, wanted)
    for sentence in found.left_out:
        warn(f"left out: {sentence}")
    if html is not None or plots is not None:
        _write_pictures(comparison, shown, paths, html, plots)
    if json:
        print_json(to_plain_comparison(comparison))
    elif csv:
        print(to_csv(comparison, shown if wanted else None))
    elif md:
        print(to_markdown(comparison, shown))
    elif latex:
        print(to_latex(comparison, shown))
    else:
        _show(comparison, shown, may_leave_out=not columns)


def _show(comparison: Comparison, columns: Sequence[Column], *, may_leave_out: bool) -> None:
    from tiedexp.cli.console import Console
    from tiedexp.compare.formats import fit_table
    from tiedexp.compare.notes import list_notes

    # Without a window, lines can be long.
    console = Console(highlight=False, width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else 240)
    table, kept = fit_table(comparison, columns, console.width, may_leave_out=may_leave_out)
    console.print(table, crop=False)
    notes = list_notes(comparison, kept)
    if left := [column.title for column in columns if column not in kept]:
        notes.append(
            f"Not shown in this narrow window: {', '.join(left)}. --columns chooses columns, and --html shows all."
        )
    for note in notes:
        console.print(note, markup=False, style="dim", soft_wrap=not console.is_terminal)


def _write_pictures(
    comparison: Comparison, columns: Sequence[Column], paths: Sequence[Path], html: Path | None, plots: Path | None
) -> None:
    from tiedexp.cli.pictures import check_picture, make_directory, write_picture
    from tiedexp.compare.gallery import draw_pictures
    from tiedexp.compare.page import build_page

    # Checked before the drawing, which takes seconds.
    if html is not None:
        check_picture(html, "page")
    if plots is not None:
        make_directory(plots)
    pictures = draw_pictures(comparison)
    if html is not None:
        title = f"tiedexp compare {' '.join(path.resolve().name for path in paths[:5])}"
        write_picture(html, build_page(comparison, columns, pictures, title).encode(errors="replace"), "page")
    if plots is not None:
        for picture in pictures:
            if picture.png:
                write_picture(plots / f"{picture.name}.png", picture.png)
