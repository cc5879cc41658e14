"""Compiling: which compiler is used, what is stored, and that nothing fails if there is no compiler."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tiedexp.convolution.cpp import compiler
from tiedexp.convolution.cpp.compiler import build_library, find_compiler, version_of

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="compiled only on Linux"),
    pytest.mark.usefixtures("cache"),
]

BUILD = "from tiedexp.convolution.cpp.compiler import build_library; print(build_library())"


def test_compiled_once(fake, cache, capfd):
    library, obstacle = build_library()
    assert (library, obstacle) == build_library()
    assert not obstacle
    assert library.parent == cache
    assert library.read_text() == "library\n"
    assert len(fake.calls) == 1
    assert "operations.cc" in fake.calls[0]
    assert re.fullmatch("[0-9a-f]{16}", version_of(library))
    told = capfd.readouterr()
    assert told.out == ""
    assert (
        told.err
        == f"tiedexp is compiling its convolution with {fake.path}, once on this machine; this may take a minute\n"
    )


def test_what_is_kept(fake, cache):
    library = build_library().library
    assert cache.stat().st_mode & 0o777 == 0o700
    assert library.stat().st_mode & 0o777 == 0o700
    assert {path.name for path in cache.iterdir()} == {".lock", library.name, f"{library.stem}.sha256"}
    subprocess.run(["sha256sum", "--check", f"{library.stem}.sha256"], cwd=cache, check=True, capture_output=True)


@pytest.mark.parametrize("change", ["sources", "compiler", "options", "tensorflow", "instructions"])
def test_compiled_again_when_something_changes(change, fake, cache, tmp_path, monkeypatch):
    first = build_library().library
    script = fake.path.read_text()
    if change == "sources":
        (tmp_path / "operations.cc").write_text("int main() {}")
        monkeypatch.setattr(compiler, "SOURCES", tmp_path)
    elif change == "compiler":
        fake.write(script.replace("1.0", "2.0"))
    elif change == "options":
        monkeypatch.setenv("CXX", f"{fake.path} -fno-inline")
    elif change == "tensorflow":
        monkeypatch.setattr(compiler, "find_version_of", lambda name: "9.9")
    else:
        fake.write(script.replace("1.0", "1.0\n#define __AVX512F__ 1"))
    second = build_library().library
    assert second != first
    assert len(list(cache.glob("*.so"))) == len(fake.calls) == 2


@pytest.mark.skipif(find_compiler() is None, reason="needs a C++ compiler")
def test_instructions_are_part_of_the_version(monkeypatch):
    """Two machines can share a home: the instructions that the compiler uses count, not the processor's name."""
    command = find_compiler()
    here = compiler._fingerprint(command)
    assert here == compiler._fingerprint(command)
    flags = tuple(flag.replace("=native", "=nocona") for flag in compiler.FLAGS)
    monkeypatch.setattr(compiler, "FLAGS", flags)
    macros = compiler._call(command, (*flags, "-dM", "-E", "-x", "c++", os.devnull), Path(os.environ["TMPDIR"]))
    assert b"__SSE3__" in macros
    assert b"__AVX__" not in macros
    assert compiler._fingerprint(command) != here


def test_a_compiler_of_several_words(fake, tmp_path, monkeypatch):
    wrapper = tmp_path / "bin" / "c cache"
    wrapper.write_text('#!/bin/sh\necho wrapped >> "$(dirname "$0")/wrapped"\nexec "$@"\n')
    wrapper.chmod(0o755)
    monkeypatch.setenv("CXX", f"'{wrapper}' {fake.path} -O2")
    assert find_compiler() == (str(wrapper), str(fake.path), "-O2")
    assert build_library().library is not None
    assert (tmp_path / "bin" / "wrapped").exists()
    assert fake.calls[0].startswith("-O2 -O3 ")


@pytest.mark.parametrize("value", ["", "  ", "'g++", "/no/such/compiler -O2"])
def test_a_variable_that_names_no_compiler(value, fake, monkeypatch):
    fake.path.rename(fake.path.with_name("g++"))
    monkeypatch.setenv("PATH", str(fake.path.parent))
    monkeypatch.setenv("CXX", value)
    assert find_compiler() == (str(fake.path.with_name("g++")),)


def test_without_a_compiler(monkeypatch, cache):
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(compiler, "PACKAGED", "no_such_package")
    assert find_compiler() is None
    text = "no C++ compiler was found: $CXX, c++, g++, clang++ or the package no_such_package"
    assert build_library() == (None, text)
    assert not cache.exists()


def test_a_compiler_that_pip_installed(fake, tmp_path, monkeypatch):
    """Found without importing it, after the compilers of the system."""
    package = tmp_path / "packages" / "ziglang"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "__main__.py").write_text(f"import os, sys; os.execv({str(fake.path)!r}, sys.argv)")
    monkeypatch.syspath_prepend(package.parent)
    monkeypatch.setenv("PYTHONPATH", str(package.parent))
    assert find_compiler() == (str(fake.path),)
    monkeypatch.delenv("CXX")
    monkeypatch.setenv("PATH", "/bin:/usr/bin")
    monkeypatch.setattr(compiler, "COMPILERS", ())
    assert find_compiler() == (sys.executable, "-m", "ziglang", "c++")
    assert "ziglang" not in sys.modules
    assert build_library().library is not None
    assert len(fake.calls) == 1


def test_the_real_ziglang(monkeypatch):
    """It starts without a home and knows this processor. Compiling everything would take a minute of a core."""
    pytest.importorskip("ziglang")
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(compiler, "COMPILERS", ())
    command = find_compiler()
    assert command == (sys.executable, "-m", "ziglang", "c++")
    work = Path(os.environ["TMPDIR"])
    assert b"__VERSION__" in compiler._call(command, (*compiler.FLAGS, "-dM", "-E", "-x", "c++", os.devnull), work)


def test_switched_off(fake, monkeypatch, cache):
    monkeypatch.setenv("TIEDEXP_NATIVE", "0")
    assert build_library() == (None, "TIEDEXP_NATIVE=0 is set")
    assert not cache.exists()


def test_on_another_system(fake, monkeypatch):
    monkeypatch.setattr(compiler.sys, "platform", "win32")
    assert build_library() == (None, "it supports only Linux, and this is win32")


TELLS = '#!/bin/sh\ncase " $* " in *" -E "*) echo 1; exit;; esac\n'


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("#!/bin/sh\nexit 1\n", "does not compile it: it exited with code 1"),
        (TELLS + "exit 1\n", "does not compile it: it exited with code 1"),
        (TELLS + "echo 'a.h: fatal error: no new' >&2\nexit 1\n", "does not compile it: a.h: fatal error: no new"),
        (TELLS + "kill -9 $$\n", "does not compile it: it exited with code -9"),
        ("no program", "does not start: Exec format error"),
    ],
)
def test_a_compiler_that_fails(script, message, fake, cache):
    """E.g. without the headers of the C++ library, or out of memory: no half-made file stays."""
    fake.write(script)
    library, obstacle = build_library()
    assert library is None
    assert obstacle == f"{fake.path} {message}"
    assert not cache.exists() or [path.name for path in cache.iterdir()] == [".lock"]


def test_six_processes_compile_once(fake):
    fake.write(fake.path.read_text() + "sleep 1\n")
    processes = [
        subprocess.Popen([sys.executable, "-c", BUILD], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(6)
    ]
    told = [process.communicate(timeout=60) for process in processes]
    assert len({out for out, _ in told}) == 1
    assert "Built(library=PosixPath(" in told[0][0]
    assert sorted(bool(err) for _, err in told) == [False] * 5 + [True]
    assert len(fake.calls) == 1


def test_what_a_killed_process_leaves(fake, cache):
    """Its lock does not block, and its folder is deleted."""
    script = fake.path.read_text()
    fake.write(script + "sleep 60\n")
    process = subprocess.Popen([sys.executable, "-c", BUILD], start_new_session=True, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not fake.calls and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert list(cache.glob("tmp*"))
    fake.write(script)
    began = time.monotonic()
    library = build_library().library
    assert time.monotonic() - began < 30
    assert {path.name for path in cache.iterdir()} == {".lock", library.name, f"{library.stem}.sha256"}


def test_a_power_cut_leaves_no_half_of_a_library(fake, monkeypatch):
    """A file is on the disk before it gets its name."""
    order = []
    monkeypatch.setattr("tiedexp.convolution.cpp.cache.sync", lambda path: order.append(("sync", path.suffix)))
    real = Path.replace
    monkeypatch.setattr(Path, "replace", lambda path, to: (order.append(("replace", path.suffix)), real(path, to))[1])
    build_library()
    assert order == [("sync", ".sha256"), ("replace", ".sha256"), ("sync", ".so"), ("replace", ".so"), ("sync", "")]


def test_tensorflow_is_not_loaded_for_it():
    """`validate` looks for a compiler."""
    code = "import sys, tiedexp.convolution.cpp.compiler; sys.exit('tensorflow' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
