"""`tiedexp pattern`: lists the presets, and draws any pattern."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tiedexp.cli.options import GridCommand, Json
from tiedexp.cli.printing import print_json

if TYPE_CHECKING:
    from rich.text import Text

    from tiedexp.patterns.grid import Pattern

app = typer.Typer(help="List the presets and show patterns.", no_args_is_help=True, rich_markup_mode=None)

# The colours of Okabe and Ito, which colour-blind people can tell apart, then lighter ones of the same hues.
COLOURS = (
    "#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7", "#bbbbbb",
    "#ffcf70", "#a9d8f5", "#7fd6bb", "#fff8b0", "#7fb8dd", "#f5a56b", "#e8bfd5", "#eeeeee",
)  # fmt: skip


@app.command("list")
def list_presets(
    size: Annotated[str, typer.Option(help="The kernel size, e.g. 5 or 3x7.")] = "5",
    json: Json = False,
) -> None:
    """List the presets, with their free weights and options.

    `tiedexp pattern show` also names the source of a preset.
    """
    from tiedexp.errors import PatternError
    from tiedexp.patterns.grid import Pattern
    from tiedexp.patterns.presets import PRESETS

    shape = _parse_size(size)
    Pattern.preset("full", shape)  # raises an error if the size is not valid for any preset
    rows: list[dict[str, Any]] = []
    for name, preset in PRESETS.items():
        try:
            groups = Pattern.preset(name, shape).num_groups
        except PatternError:
            groups = None
        about = {"options": sorted(preset.options), "meaning": preset.meaning, "source": preset.source}
        rows.append({"name": name, "groups": groups, **about})
    if json:
        print_json(rows)
        return
    from rich.table import Table

    from tiedexp.cli.console import Console

    table = Table(box=None)
    for column in ("preset", f"free of {shape[0] * shape[1]}", "options", "meaning"):
        table.add_column(column, justify="right" if column.startswith("free") else "left")
    for row in rows:
        table.add_row(row["name"], str(row["groups"] or "-"), ", ".join(row["options"]), row["meaning"])
    Console(highlight=False).print(table)


@app.command("show", cls=GridCommand)
def show(
    pattern: Annotated[
        str, typer.Argument(metavar="PATTERN", help="The name of a preset, or a grid, e.g. AAB/AAB/CCD.")
    ],
    options: Annotated[
        list[str] | None, typer.Argument(metavar="OPTION=VALUE", help="Options of the preset, e.g. groups=9 seed=1.")
    ] = None,
    size: Annotated[str | None, typer.Option(help="The kernel size of a preset, e.g. 5 or 3x7. [default: 5]")] = None,
    png: Annotated[Path | None, typer.Option(help="Also draw the pattern to this PNG file.")] = None,
    json: Json = False,
) -> None:
    """Draw a pattern; show its groups, symmetries and savings."""
    from tiedexp.patterns.grid import Pattern
    from tiedexp.patterns.presets import PRESETS

    is_preset = pattern in PRESETS
    value = parse_options(pattern, options) if options else pattern
    tied = Pattern.of(value, _parse_size(size or "5") if is_preset or size else None)
    if png is not None:
        _draw(tied, png)
    if json:
        print_json(_as_dict(tied))
        return
    from tiedexp.cli.console import Console

    console = Console(highlight=False)
    if is_preset:
        console.print(f"[bold]{pattern}[/]: {PRESETS[pattern].meaning}")
        console.print(f"source: {PRESETS[pattern].source}\n")
    console.print(_colour(tied))
    console.print(_describe(tied))


def _parse_size(text: str) -> tuple[int, int]:
    from tiedexp.errors import SpecError

    sides = text.lower().split("x")
    if len(sides) > 2 or not all(side.isdecimal() for side in sides):
        raise SpecError(f"--size must be a number or ROWSxCOLS, e.g. 5 or 3x7. Received: '{text}'")
    return int(sides[0]), int(sides[-1])


def parse_options(preset: str, options: list[str]) -> dict[str, Any]:
    """A preset with its options, each given as NAME=VALUE, in the form that `Pattern.of` takes."""
    from tiedexp.errors import SpecError
    from tiedexp.patterns.presets import find_preset

    parsed: dict[str, Any] = {"preset": preset}
    for option in options:
        name, equals, value = option.partition("=")
        if not equals:
            raise SpecError(f"an option of a preset must be NAME=VALUE, e.g. groups=9. Received: '{option}'")
        parsed[name] = find_preset(preset).parse_option(name, value)
    return parsed


def _as_dict(pattern: Pattern) -> dict[str, Any]:
    return {
        "grid": str(pattern),
        "shape": pattern.shape,
        "groups": pattern.num_groups,
        "group_sizes": pattern.group_sizes,
        "zeros": pattern.index.size - pattern.num_cells,
        "symmetries": sorted(pattern.symmetries),
        "antisymmetries": sorted(pattern.antisymmetries),
        "digest": pattern.digest,
    }


def _colour(pattern: Pattern) -> Text:
    """The grid, with one coloured square per cell."""
    from rich.text import Text

    rows = [row.split() for row in str(pattern).split("/")] if " " in str(pattern) else None
    names = rows or _split_cells(pattern)
    width = max(len(cell) for row in names for cell in row)
    text = Text()
    for name_row, index_row in zip(names, pattern.index.tolist(), strict=True):
        for name, group in zip(name_row, index_row, strict=True):
            style = "dim" if group < 0 else f"black on {COLOURS[group % len(COLOURS)]}"
            text.append(f" {name:^{width}} ", style)
        text.append("\n")
    return text


def _split_cells(pattern: Pattern) -> list[list[str]]:
    """The cells of a grid whose names have one letter."""
    rows: list[list[str]] = []
    for line in str(pattern).split("/"):
        cells = iter(line)
        rows.append([cell + next(cells) if cell == "-" else cell for cell in cells])
    return rows


def _describe(pattern: Pattern) -> str:
    cells = pattern.index.size
    lines = [
        f"{pattern.shape[0]}x{pattern.shape[1]}: {pattern.num_groups} of {cells} weights are free, "
        f"{cells / pattern.num_groups:.2f} times fewer weights and multiplications",
        f"group sizes   {_count(pattern.group_sizes)}",
        f"fixed zeros   {cells - pattern.num_cells}",
        f"symmetries    {', '.join(sorted(pattern.symmetries)) or 'none'}",
    ]
    if pattern.antisymmetries:
        lines.append(f"negated by    {', '.join(sorted(pattern.antisymmetries))}")
    lines += [f"digest        {pattern.digest}", f"grid          {pattern}"]
    return "\n".join(lines)


def _count(sizes: tuple[int, ...]) -> str:
    """How many groups have how many cells, e.g. `4 of 2, 1 of 9`."""
    return ", ".join(f"{sizes.count(size)} of {size}" for size in sorted(set(sizes)))


def _draw(pattern: Pattern, path: Path) -> None:
    from tiedexp.cli.pictures import write_picture
    from tiedexp.drawing.patterns import draw_pattern

    write_picture(path, draw_pattern(pattern))
