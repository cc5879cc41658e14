"""Arguments, options and ways to parse them that several commands share."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from tiedexp.errors import SpecError

SpecPath = Annotated[Path, typer.Argument(metavar="SPEC", help="The spec, a YAML file.")]
Overrides = Annotated[
    list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Changes to it, such as training.epochs=3.")
]
RunsRoot = Annotated[
    Path | None, typer.Option("--runs", help="Directory of all runs (default: $TIEDEXP_RUNS or ./runs)")
]
DataDir = Annotated[
    Path | None,
    typer.Option("--data-dir", help="TFDS data directory (default: $TFDS_DATA_DIR or ~/tensorflow_datasets)"),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document, nothing else.")]
RunPath = Annotated[Path, typer.Argument(metavar="RUN", help="The run's directory, such as runs/NAME-DIGEST/seed-0.")]
RunDataDir = Annotated[Path | None, typer.Option("--data-dir", help="TFDS data directory (default: the run's)")]
AllowInexact = Annotated[
    bool,
    typer.Option("--allow-inexact", help="Go on with a run that was begun on another machine or with other versions."),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print the result only.")]

_MAX_SHOWN = 3
_GRID_WITH_MINUS = re.compile(r"-(?:[A-Z]|[a-z_]\S*[\s/])")


class GridCommand(typer.core.TyperCommand):
    """A command whose arguments may be grids; one that begins with a minus, such as `-A ./. A`, is not an option."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse; a space in front, which a grid may have, hides its minus."""
        return super().parse_args(ctx, [f" {word}" if _GRID_WITH_MINUS.match(word) else word for word in args])


class RunCommand(typer.core.TyperCommand):
    """A command that takes one run or two, and says so where a wildcard such as `runs/*/seed-0` gave it more."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse.

        Raises:
            SpecError: more arguments than the command takes.
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


def warn(text: str) -> None:
    """Print a warning on stderr, which keeps stdout for the result."""
    print(f"warning: {text}", file=sys.stderr)
