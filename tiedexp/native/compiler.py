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
TIMEOUT = 120  # seconds; it takes six


def is_switched_off() -> bool:
    """Whether the user does without."""
    return os.environ.get("TIEDEXP_NATIVE", "1") == "0"


def find_compiler() -> str | None:
    """Path of a C++ compiler; None where there is none, on systems other than Linux, and when told not to look."""
    if is_switched_off() or sys.platform != "linux":
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


def build_library() -> Path | None:
    """The compiled library, compiled now if it was not before; None where that cannot be."""
    return _build()[0]


def find_obstacle() -> str:
    """Why there is no library, in a few words; empty where there is one."""
    return _build()[1]


@cache
def _build() -> tuple[Path | None, str]:
    """The library, or why there is none."""
    compiler = find_compiler()
    tensorflow = find_spec("tensorflow")
    if sys.platform != "linux":
        return None, f"it is made for Linux, and this is {sys.platform}"
    if is_switched_off():
        return None, "TIEDEXP_NATIVE=0 is set"
    if compiler is None:
        return None, f"no C++ compiler is found: {', '.join(COMPILERS)} or $CXX"
    if tensorflow is None or not tensorflow.submodule_search_locations:
        return None, "TensorFlow is not installed"
    root = Path(tensorflow.submodule_search_locations[0])
    try:
        library = cache_directory() / f"{PREFIX}{_fingerprint(compiler)}.so"
        if not library.is_file():
            library.parent.mkdir(parents=True, exist_ok=True)
            _compile(compiler, root, library)
    except subprocess.SubprocessError as error:
        return None, f"{compiler} does not compile it: {_summarise(error)}"
    except OSError as error:
        return None, f"it cannot be compiled into {cache_directory()}: {error.strerror or error}"
    return library, ""


def _summarise(error: subprocess.SubprocessError) -> str:
    """The first error that a compiler told."""
    if not isinstance(error, subprocess.CalledProcessError):
        return str(error)
    lines = error.stderr.decode(errors="replace").splitlines()
    return next((line.strip() for line in lines if "error" in line), f"it ended with code {error.returncode}")


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
