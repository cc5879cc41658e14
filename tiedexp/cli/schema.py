"""`tiedexp schema`: prints the JSON schema of specs."""

from __future__ import annotations

from typing import Annotated

import typer

from tiedexp.cli.printing import print_json


def schema(
    sweep: Annotated[bool, typer.Option("--sweep", help="Print the schema of sweeps instead.")] = False,
) -> None:
    """Print the JSON schema of specs, for editors.

    Editors that understand YAML use it to complete and check a spec while you type.
    """
    from tiedexp.spec.loading import build_json_schema
    from tiedexp.sweep.sweep_spec import SweepSpec

    print_json(SweepSpec.model_json_schema() if sweep else build_json_schema())
