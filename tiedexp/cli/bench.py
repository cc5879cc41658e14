"""`tiedexp bench`: how fast a tied convolution is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tiedexp.cli.options import DataDir, Json
from tiedexp.cli.printing import format_count, print_json

if TYPE_CHECKING:
    from tiedexp.bench.rows import Row
    from tiedexp.experiment.preparation import Plan
    from tiedexp.patterns.grid import Pattern


def bench(
    patterns: Annotated[
        list[str] | None,
        typer.Argument(metavar="PATTERN", help="Presets, e.g. block or hashed:groups=9, or grids. [default: block]"),
    ] = None,
    kernel_size: Annotated[int, typer.Option(help="The kernel size of presets.")] = 5,
    shape: Annotated[
        list[str] | None,
        typer.Option(help="BATCH,ROWS,COLS,CHANNELS,FILTERS. May be repeated. [default: 64,16,16,64,64]"),
    ] = None,
    model: Annotated[Path | None, typer.Option(help="Time a training step of this spec's model instead.")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="How many times each is measured; they take turns.")] = 15,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads per operation. [default: all cores]")] = None,
    plot: Annotated[Path | None, typer.Option(help="Plot time against free weights in this PNG file.")] = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Time tied convolutions against dense and handwritten ones.

    Every implementation of the tied layer is timed too, in the forward pass and in a training step.
    """
    from tiedexp.backend import quiet_tensorflow
    from tiedexp.cli.pictures import check_picture
    from tiedexp.errors import SpecError

    if model is not None and (patterns or shape or plot):
        raise SpecError("--model times the model of a spec, so it cannot be combined with PATTERN, --shape or --plot")
    named = dict(_parse_pattern(text, kernel_size) for text in patterns or ["block"])
    shapes = [_parse_shape(text) for text in shape or ["64,16,16,64,64"]]
    plan = None if model is None else _plan(model, data_dir)
    if plot is not None:
        check_picture(plot)
    with quiet_tensorflow():
        from tiedexp.bench.layers import LayerShape, bench_layers
        from tiedexp.bench.models import bench_model
        from tiedexp.training.devices import set_up_process

        used = set_up_process(threads=threads, deterministic=False)
        if plan is not None:
            rows = list(bench_model(plan, rounds=rounds))
        else:
            rows = list(bench_layers(named, [LayerShape(*sizes) for sizes in shapes], rounds=rounds))
    if plot is not None:
        _draw(rows, plot)
    if json:
        print_json({"threads": used, "rounds": rounds, "rows": [row.as_dict() for row in rows]})
    else:
        _show(rows, used, rounds)


def _plan(path: Path, data_dir: Path | None) -> Plan:
    from tiedexp.experiment.preparation import plan_experiment
    from tiedexp.spec.loading import load_spec

    return plan_experiment(load_spec(path, []), data_dir=data_dir)


def _parse_pattern(text: str, kernel_size: int) -> tuple[str, Pattern]:
    """The name to show and the pattern, from a grid, a preset, or a preset with options after a colon."""
    from tiedexp.cli.pattern import parse_options
    from tiedexp.patterns.grid import Pattern
    from tiedexp.patterns.presets import PRESETS

    text = text.strip()
    name, colon, options = text.partition(":")
    if colon:
        return text, Pattern.of(parse_options(name, options.split(",")), kernel_size)
    if name in PRESETS:
        return text, Pattern.of(name, kernel_size)
    return text, Pattern.of(text)


def _parse_shape(text: str) -> tuple[int, ...]:
    from tiedexp.errors import SpecError

    numbers = text.split(",")
    if len(numbers) != 5 or not all(number.strip().isdecimal() and int(number) for number in numbers):
        raise SpecError(f"--shape must be BATCH,ROWS,COLS,CHANNELS,FILTERS, e.g. 64,16,16,64,64. Received: '{text}'")
    return tuple(map(int, numbers))


def _show(rows: list[Row], threads: int, rounds: int) -> None:
    from rich.table import Table
    from rich.text import Text

    from tiedexp.cli.console import Console

    console = Console(highlight=False)
    for pattern, shape, part in dict.fromkeys((row.pattern, row.shape, row.part) for row in rows):
        these = [row for row in rows if (row.pattern, row.shape, row.part) == (pattern, shape, part)]
        what = "forward" if part == "forward" else "step (forward, gradients)"
        free = f", {these[0].free} of {these[0].cells} weights free" if these[0].free else ""
        console.print(Text(f"{pattern}{free}, {shape}, {what}", style="bold"))
        table = Table(box=None)
        for column in ("method", "computed by", "ms", "speed-up", "quartiles"):
            table.add_column(column, justify="left" if column in ("method", "computed by") else "right")
        for row in sorted(these, key=lambda row: -row.ratio):
            spread = f"{row.ratio_low:.2f} to {row.ratio_high:.2f}"
            table.add_row(row.method, row.computed, f"{row.milliseconds:.2f}", f"{row.ratio:.2f}", spread)
        console.print(table, "")
    console.print(
        f"ms: the median of {format_count(rounds, 'round')} on {format_count(threads, 'thread')}; in each round, the "
        f"methods take turns. Speed-up: over {rows[0].reference} in the same round, as the median and quartiles of the "
        "rounds. On a busy machine it can differ from the ratio of the median times; it is the one to trust."
    )


def _draw(rows: list[Row], path: Path) -> None:
    from tiedexp.cli.pictures import write_picture
    from tiedexp.drawing.speed import draw_speed

    points = [(row.method, row.free, row.milliseconds, row.shape) for row in rows if row.part == "step"]
    write_picture(path, draw_speed(points))
