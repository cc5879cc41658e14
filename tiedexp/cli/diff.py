"""`tiedexp diff`: shows what differs between two runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tiedexp.cli.options import Json
from tiedexp.cli.printing import print_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tiedexp.cli.console import Console
    from tiedexp.compare.differing import DifferingValue


def diff(
    left: Annotated[Path, typer.Argument(metavar="LEFT", help="The directory of a run.")],
    right: Annotated[Path, typer.Argument(metavar="RIGHT", help="The directory of another run.")],
    json: Json = False,
) -> None:
    """Show what differs between two runs.

    Compares their specs, their manifests (versions, machine, data) and their metrics.
    """
    from tiedexp.compare.differing import diff_runs
    from tiedexp.runs.directory import RunDirectory

    found = diff_runs(RunDirectory.open(left), RunDirectory.open(right))
    if json:
        from dataclasses import asdict

        print_json({"left": str(left), "right": str(right), **asdict(found)})
        return
    from tiedexp.cli.console import Console

    console = Console(highlight=False)
    console.print(f"left   {left}\nright  {right}", markup=False, soft_wrap=True)
    _show(console, "spec", found.spec)
    _show(console, "manifest", found.manifest)
    _show(console, "metrics", found.metrics)
    if found.same_epochs == found.epochs:
        console.print(f"\nThe metrics of all {found.epochs} epochs that both have are equal to the bit.")
    else:
        console.print(
            f"\nOf the {found.epochs} epochs that both have, the first to differ is epoch {found.same_epochs + 1}."
        )


def _show(console: Console, title: str, differences: Sequence[DifferingValue]) -> None:
    from rich.table import Table
    from rich.text import Text

    console.print(f"\n[bold]{title}[/]" + ("" if differences else ": the same"))
    table = Table.grid(padding=(0, 2))
    for each in differences:
        values = [_show_value(value) for value in (each.left, each.right)]
        if all(isinstance(value, int | float) for value in (each.left, each.right)):
            values.append(f"{float(each.right or 0) - float(each.left or 0):+.6g}")
        table.add_row(*map(Text, [f"  {each.key}", *values]))
    if differences:
        console.print(table)


def _show_value(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return "-" if value is None else str(value)
