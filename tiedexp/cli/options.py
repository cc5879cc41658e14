"""Arguments and options that several commands share, and how they are parsed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from tiedexp.errors import SpecError

SpecPath = Annotated[Path, typer.Argument(metavar="SPEC", help="The spec, a YAML file.")]
Overrides = Annotated[
    list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Changes to the spec, e.g. training.epochs=3.")
]
RunsRoot = Annotated[
    Path | None, typer.Option("--runs", help="The directory of all runs. [default: $TIEDEXP_RUNS or ./runs]")
]
DataDir = Annotated[
    Path | None,
    typer.Option("--data-dir", help="The TFDS data directory. [default: $TFDS_DATA_DIR or ~/tensorflow_datasets]"),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
RunPath = Annotated[Path, typer.Argument(metavar="RUN", help="The directory of a run, e.g. runs/NAME-DIGEST/seed-0.")]
RunPaths = Annotated[
    list[Path] | None,
    typer.Argument(metavar="RUNS", help="Runs, or directories of runs, e.g. a sweep. [default: all runs in --runs]"),
]
RunDataDir = Annotated[
    Path | None, typer.Option("--data-dir", help="The TFDS data directory. [default: the one of the run]")
]
AllowInexact = Annotated[
    bool,
    typer.Option("--allow-inexact", help="Resume a run even if another machine or other versions started it."),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print only the result.")]

_MAX_SHOWN = 3
_GRID_WITH_MINUS = re.compile(r"-(?:[A-Z]|[a-z_]\S*[\s/])")


class GridCommand(typer.core.TyperCommand):
    """A command whose arguments can be grids, also those that start with a minus, e.g. `-A ./. A`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse. A leading space, which a grid may have, keeps its minus from being read as an option."""
        return super().parse_args(ctx, [f" {word}" if _GRID_WITH_MINUS.match(word) else word for word in args])


class RunCommand(typer.core.TyperCommand):
    """A command that takes one or two runs, and says so if a wildcard such as `runs/*/seed-0` matched more."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse.

        Raises:
            SpecError: there are more arguments than the command takes.
        """
        ctx.allow_extra_args = True
        extra = super().parse_args(ctx, args)
        if extra:
            taken = [str(ctx.params[str(each.name)]) for each in self.params if each.param_type_name == "argument"]
            wanted = "one run" if len(taken) == 1 else f"{len(taken)} runs"
            received = [*taken, *extra]
            more = f" and {len(received) - _MAX_SHOWN} more" if len(received) > _MAX_SHOWN else ""
            command = ctx.command_path.removeprefix(f"{ctx.find_root().command_path} ")
            raise SpecError(
                f"{command} takes {wanted}. Received {len(received)}: {', '.join(received[:_MAX_SHOWN])}{more}"
            )
        return extra
