"""Compiling: what is looked for, what is kept, and that nothing fails where it cannot be."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tiedexp.native import compiler
from tiedexp.native.compiler import build_library, find_compiler, find_obstacle, find_version

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="compiled on Linux alone")

# Writes down that it was called to compile, and makes the file that it was told to.
FAKE = """#!/bin/sh
test "$1" = --version && { echo "fake 1.0"; exit; }
echo "$@" >> "$(dirname "$0")/calls"
while test "$1" != -o; do shift; done
echo library > "$2"
"""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache directory; what this process has compiled is forgotten for the test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("TIEDEXP_NATIVE", raising=False)
    monkeypatch.setattr(compiler, "_build", compiler._build.__wrapped__)
    return tmp_path / "cache" / "tiedexp"


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A compiler of which one can see how often it was called."""
    path = tmp_path / "fake-c++"
    path.write_text(FAKE)
    path.chmod(0o755)
    monkeypatch.setenv("CXX", str(path))
    return path


def test_compiled_once(fake: Path, cache: Path) -> None:
    library = build_library()
    assert library is not None
    assert library == build_library()
    assert [library] == list(cache.iterdir())
    assert library.read_text() == "library\n"
    calls = (fake.parent / "calls").read_text().splitlines()
    assert len(calls) == 1
    assert "operations.cc" in calls[0]
    assert find_version() == library.stem.removeprefix("convolution-")


@pytest.mark.parametrize("change", ["sources", "compiler", "tensorflow", "processor"])
def test_compiled_again_when_something_changes(
    change: str, fake: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = build_library()
    if change == "sources":
        (tmp_path / "operations.cc").write_text("int main() {}")
        monkeypatch.setattr(compiler, "SOURCES", tmp_path)
    elif change == "compiler":
        fake.write_text(FAKE.replace("1.0", "2.0"))
    elif change == "tensorflow":
        monkeypatch.setattr(compiler, "version", lambda name: "9.9")
    else:
        monkeypatch.setattr(compiler, "find_processor", lambda: "another")
    assert build_library() not in (None, first)
    assert len(list(cache.iterdir())) == 2


def test_without_a_compiler(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    assert find_compiler() is None
    assert build_library() is None
    assert find_obstacle() == "no C++ compiler is found: c++, g++, clang++ or $CXX"
    assert find_version() is None
    assert not cache.exists()


def test_switched_off(fake: Path, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    monkeypatch.setenv("TIEDEXP_NATIVE", "0")
    assert build_library() is None
    assert find_obstacle() == "TIEDEXP_NATIVE=0 is set"
    assert not cache.exists()


def test_on_another_system(fake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiler.sys, "platform", "win32")
    assert build_library() is None
    assert find_obstacle() == "it is made for Linux, and this is win32"


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("#!/bin/sh\nexit 1\n", "does not compile it: it ended with code 1"),
        ("#!/bin/sh\necho 'a.h: fatal error: no new' >&2\nexit 1\n", "does not compile it: a.h: fatal error: no new"),
        ("#!/bin/sh\nkill -9 $$\n", "does not compile it: it ended with code -9"),
        ("no program", "it cannot be compiled into .*: Exec format error"),
    ],
)
def test_a_compiler_that_fails(script: str, message: str, fake: Path, cache: Path) -> None:
    """No headers of the C++ library, say, or no memory: nothing half-made stays."""
    fake.write_text(script)
    assert build_library() is None
    assert re.search(message, find_obstacle())
    assert not cache.exists() or not list(cache.iterdir())


def test_a_cache_that_cannot_be_written(fake: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where a directory would be")
    assert build_library() is None
    assert "it cannot be compiled into" in find_obstacle()


def test_tensorflow_is_not_loaded_for_it(fake: Path) -> None:
    """`validate` asks for a compiler."""
    source = Path(compiler.__file__).read_text()
    assert "import tensorflow" not in source
