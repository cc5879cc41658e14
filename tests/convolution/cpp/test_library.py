"""Loading: a library that TensorFlow does not load is compiled once more, and then reported."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tiedexp.convolution.cpp import library
from tiedexp.convolution.cpp.compiler import build_library, version_of

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="compiled only on Linux")

load = library.load_library.__wrapped__  # as in a new process


def test_a_library_that_does_not_load_is_compiled_once_more(fake, cache):
    operations, version, obstacle = load()
    assert operations is version is None
    (path,) = cache.glob("*.so")
    assert obstacle.startswith(f"{path} was compiled but does not load: ")
    assert "\n" not in obstacle
    assert len(fake.calls) == 2
    assert load() == (None, None, obstacle)
    assert len(fake.calls) == 2


def test_one_that_loads_then(fake, cache, monkeypatch):
    """E.g. it was compiled on another machine, with a newer C library."""

    def load_op_library(path):
        if Path(path).read_text() != "good\n":
            raise OSError("version `GLIBC_9.9' not found")
        return "operations"

    monkeypatch.setattr(library.tf, "load_op_library", load_op_library)
    path = build_library().library
    fake.write(fake.path.read_text().replace("echo library", "echo good"))
    for _ in range(2):
        assert load() == ("operations", version_of(path), "")
    assert len(fake.calls) == 2
    assert not list(cache.glob("*.unloadable"))


def test_without_a_library(fake, cache, monkeypatch):
    monkeypatch.setenv("TIEDEXP_NATIVE", "0")
    assert load() == (None, None, "TIEDEXP_NATIVE=0 is set")


def test_what_runs_in_this_process():
    assert (library.find_version() is None) == bool(library.find_obstacle())
    assert (library.find_version() is None) == (library.load_library().operations is None)
