"""A compiler that takes no time, and an empty cache."""

from __future__ import annotations

from pathlib import Path

import pytest

# Tells what it is, or else writes down that it was called to compile, and makes the file that it was told to.
FAKE = """#!/bin/sh
case " $* " in *" -E "*) echo "#define __VERSION__ 1.0"; exit;; esac
echo "$@" >> "$(dirname "$0")/calls"
while test "$1" != -o; do shift; done
echo library > "$2"
"""


class FakeCompiler:
    """A compiler of which one can see how often it was called."""

    def __init__(self, path: Path):
        self.path = path
        self.write(FAKE)

    def write(self, script: str) -> None:
        self.path.write_text(script)
        self.path.chmod(0o755)

    @property
    def calls(self) -> list[str]:
        calls = self.path.with_name("calls")
        return calls.read_text().splitlines() if calls.exists() else []


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache directory."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    monkeypatch.setattr("tempfile.tempdir", None)  # read $TMPDIR again
    monkeypatch.delenv("TIEDEXP_NATIVE", raising=False)
    (tmp_path / "temporary").mkdir()
    return tmp_path / "cache" / "tiedexp"


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeCompiler:
    (tmp_path / "bin").mkdir()
    compiler = FakeCompiler(tmp_path / "bin" / "fake-c++")
    monkeypatch.setenv("CXX", str(compiler.path))
    return compiler
