"""Fixtures of the tests of the compiled code: a fake compiler, and programs that use the headers."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

HERE = Path(__file__).parent
HEADERS = HERE.parents[2] / "tiedexp" / "convolution" / "cpp"

Run = Callable[..., str]


def build(compiler: str, source: Path, program: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    command = [compiler, "-std=c++17", "-pthread", f"-I{HEADERS}", *flags, str(source), "-o", str(program)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def run_program(tmp_path: Path) -> Run:
    """Compiles a C++ file of this folder and returns what the program prints; skips without the compiler.

    The program must compile and exit with 0. With sanitizers, the test is skipped if their libraries are not installed.
    """

    def run(name: str, *arguments: object, compiler: str = "c++", flags: tuple[str, ...] = ()) -> str:
        if shutil.which(compiler) is None:
            pytest.skip(f"there is no {compiler}")
        sanitizers = [flag for flag in flags if flag.startswith("-fsanitize=")]
        if sanitizers:
            empty = tmp_path / "empty.cc"
            empty.write_text("int main() {}\n")
            if build(compiler, empty, tmp_path / "empty", *sanitizers).returncode:
                pytest.skip(f"{compiler} has no libraries for {sanitizers[0]}")
        done = build(compiler, HERE / name, tmp_path / "program", *flags)
        assert done.returncode == 0, done.stderr
        command = [str(tmp_path / "program"), *map(str, arguments)]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return ran.stdout

    return run


# Prints its macros, or else records that it was called to compile, and makes the output file.
FAKE = """#!/bin/sh
case " $* " in *" -E "*) echo "#define __VERSION__ 1.0"; exit;; esac
echo "$@" >> "$(dirname "$0")/calls"
while test "$1" != -o; do shift; done
echo library > "$2"
"""


class FakeCompiler:
    """A compiler that records how often it was called."""

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
