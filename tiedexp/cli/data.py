"""`tiedexp data`: placeholder until the commands are written."""

from __future__ import annotations

import typer

app = typer.Typer(help="List, prepare, import and look at datasets.", no_args_is_help=True, rich_markup_mode=None)


@app.command("list")
def list_datasets() -> None:
    """Datasets."""
