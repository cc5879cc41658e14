"""`tiedexp schema`: what a spec may say, for editors."""

from __future__ import annotations

import typer


def schema() -> None:
    """Print the JSON schema of specs: completion and checks while you type, in any editor that knows YAML."""
    from json import dumps

    from tiedexp.spec.loading import build_json_schema

    typer.echo(dumps(build_json_schema(), indent=2))
