"""`tiedexp schema`: what a spec may say, for editors."""

from __future__ import annotations

from typing import Annotated

import typer


def schema(
    sweep: Annotated[bool, typer.Option("--sweep", help="The schema of a sweep's file instead of a spec's.")] = False,
) -> None:
    """Print the JSON schema of specs, for editors.

    An editor that knows YAML completes and checks a spec with it while you type.
    """
    from json import dumps

    from tiedexp.spec.loading import build_json_schema
    from tiedexp.sweep.sweep_spec import SweepSpec

    typer.echo(dumps(SweepSpec.model_json_schema() if sweep else build_json_schema(), indent=2))
