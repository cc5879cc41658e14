"""The command line, run in this process."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass

import pytest

import tiedexp.cli


@dataclass(frozen=True)
class Answer:
    """What a command gave back."""

    code: int
    out: str
    err: str


@pytest.fixture
def tiedexp_cli(monkeypatch, capsys, tmp_path) -> Callable[..., Answer]:
    """Runs `tiedexp ARGUMENTS...` in an empty directory, on a wide terminal."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: object) -> Answer:
        monkeypatch.setattr(sys, "argv", ["tiedexp", *map(str, arguments)])
        capsys.readouterr()
        try:
            tiedexp.cli.main()
            code = 0
        except SystemExit as ended:
            code = int(ended.code or 0)
        captured = capsys.readouterr()
        return Answer(code, captured.out, captured.err)

    return run


@pytest.fixture
def small_spec(tmp_path):
    """A spec on the embedded digits that trains in a second."""
    path = tmp_path / "small.yaml"
    path.write_text(
        "name: small\n"
        "dataset: {name: digits, limit: 200}\n"
        "model: {depth: 2, width: 4, kernel_size: 3, tying: {pattern: point}}\n"
        "training: {epochs: 2, batch_size: 32, optimizer: {name: adam, learning_rate: 0.02}}\n"
    )
    return path
