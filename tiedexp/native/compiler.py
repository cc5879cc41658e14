"""Compiling the C++ sources of this folder, once for a machine and a version of TensorFlow.

Nothing here imports TensorFlow. The library is kept in the user's cache directory, under a name that changes with
everything that went into it. `TIEDEXP_NATIVE=0` in the environment does without.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from tiedexp.processor import find_processor

COMPILERS = ("c++", "g++", "clang++")
FLAGS = ("-O3", "-march=native", "-std=c++17", "-shared", "-fPIC", "-pthread")
TENSORFLOW = "libtensorflow_framework.so.2"
SOURCES = Path(__file__).parent
PREFIX = "convolution-"
TIMEOUT = 120  # seconds; it takes five


def find_compiler() -> str | None:
    """Path of a C++ compiler; None where there is none, on systems other than Linux, and when told not to look."""
    if os.environ.get("TIEDEXP_NATIVE", "1") == "0" or sys.platform != "linux":
        return None
    for name in (os.environ.get("CXX", ""), *COMPILERS):
        path = shutil.which(name) if name else None
        if path is not None:
            return path
    return None


def cache_directory() -> Path:
    """Where this program keeps what it can make again."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "tiedexp"


@cache
def build_library() -> Path | None:
    """The compiled library, compiled now if it was not before; None where that cannot be."""
    compiler = find_compiler()
    tensorflow = find_spec("tensorflow")
    if compiler is None or tensorflow is None or not tensorflow.submodule_search_locations:
        return None
    root = Path(tensorflow.submodule_search_locations[0])
    try:
        library = cache_directory() / f"{PREFIX}{_fingerprint(compiler)}.so"
        if not library.is_file():
            library.parent.mkdir(parents=True, exist_ok=True)
            _compile(compiler, root, library)
    except (OSError, subprocess.SubprocessError):  # a home that is read-only, a compiler that lacks its headers
        return None
    return library


def find_version() -> str | None:
    """Of the compiled library, which changes with everything that went into it; None where there is none."""
    library = build_library()
    return None if library is None else library.stem.removeprefix(PREFIX)


def _fingerprint(compiler: str) -> str:
    """Of the sources, the compiler, TensorFlow and the processor, whose instructions are used.

    Raises:
        OSError: the compiler does not start.
    """
    digest = hashlib.sha256()
    for source in sorted((*SOURCES.glob("*.h"), *SOURCES.glob("*.cc"))):
        digest.update(source.read_bytes())
    told = subprocess.run([compiler, "--version"], check=False, capture_output=True, text=True, timeout=TIMEOUT)
    for text in (told.stdout, *FLAGS, version("tensorflow"), find_processor()):
        digest.update(text.encode() + b"\0")
    return digest.hexdigest()[:16]


def _compile(compiler: str, tensorflow: Path, library: Path) -> None:
    """Compile into the library's folder, then rename: another process may be at it, too."""
    with tempfile.TemporaryDirectory(dir=library.parent) as folder:
        output = Path(folder) / library.name
        includes = (f"-I{tensorflow / 'include'}", f"-L{tensorflow}", f"-l:{TENSORFLOW}")
        command = [compiler, *FLAGS, str(SOURCES / "operations.cc"), "-o", str(output), *includes]
        subprocess.run(command, check=True, capture_output=True, timeout=TIMEOUT)
        output.replace(library)
