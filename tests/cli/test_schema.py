"""`tiedexp schema`."""

from __future__ import annotations

import json

import typer
from typer.testing import CliRunner

from tiedexp.cli.schema import schema
from tiedexp.spec.loading import build_json_schema


def test_the_schema_is_one_json_document_on_stdout() -> None:
    app = typer.Typer()
    app.command()(schema)
    result = CliRunner().invoke(app, [])
    assert result.exit_code == 0
    assert result.stderr == ""
    assert json.loads(result.stdout) == build_json_schema()
