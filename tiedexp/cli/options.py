"""Arguments and options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

SpecPath = Annotated[Path, typer.Argument(help="The spec, a YAML file.")]
Overrides = Annotated[
    list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Changes to it, as training.epochs=3.")
]
RunsRoot = Annotated[
    Path | None, typer.Option("--runs", help="Directory of all runs (default: $TIEDEXP_RUNS or ./runs)")
]
DataDir = Annotated[
    Path | None,
    typer.Option("--data-dir", help="TFDS data directory (default: $TFDS_DATA_DIR or ~/tensorflow_datasets)"),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document, nothing else.")]
RunPath = Annotated[Path, typer.Argument(help="The run's directory, as runs/NAME-DIGEST/seed-0.")]
RunDataDir = Annotated[Path | None, typer.Option("--data-dir", help="TFDS data directory (default: the run's)")]
AllowInexact = Annotated[
    bool,
    typer.Option("--allow-inexact", help="Go on with a run that was begun on another machine or with other versions."),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print the result only.")]
