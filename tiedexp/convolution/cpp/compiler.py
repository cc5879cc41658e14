"""Compiles the C++ sources of this folder, once per machine and version of TensorFlow.

Nothing here imports TensorFlow. The library is stored in the user's cache directory, under a name that depends on
everything that affects it. `TIEDEXP_NATIVE=0` in the environment disables it.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import PackageNotFoundError
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from tiedexp.convolution.cpp.cache import PREFIX, compile_in, is_sound, list_locations, open_location, store
from tiedexp.installed import find_version_of

COMPILERS = ("c++", "g++", "clang++")
PACKAGED = "ziglang"  # a C++ compiler that pip installs
# GCC fuses multiplications and additions by default; some versions of Clang do not, and would take twice as long.
FLAGS = ("-O3", "-march=native", "-ffp-contract=fast", "-std=c++17", "-shared", "-fPIC", "-pthread")
TENSORFLOW = "libtensorflow_framework.so.2"
SOURCES = Path(__file__).parent
TIMEOUT = 1200  # seconds; g++ takes ten, and ziglang 80 seconds of a core to compile its C++ library first


class Built(NamedTuple):
    """A library, or the reason why there is none, in a few words."""

    library: Path | None
    obstacle: str = ""


def is_switched_off() -> bool:
    """Whether the user disables compiled code."""
    return os.environ.get("TIEDEXP_NATIVE", "1") == "0"


def find_compiler() -> tuple[str, ...] | None:
    """The command that compiles C++; None if there is none, on systems other than Linux, or if switched off."""
    if is_switched_off() or sys.platform != "linux":
        return None
    for command in (_split(os.environ.get("CXX", "")), *([name] for name in COMPILERS)):
        path = shutil.which(command[0]) if command else None
        if path is not None:
            return path, *command[1:]
    return (sys.executable, "-m", PACKAGED, "c++") if find_spec(PACKAGED) is not None else None


def _split(command: str) -> list[str]:
    """The words of a command, split as in a shell; empty if a quote is not closed."""
    try:
        return shlex.split(command)
    except ValueError:
        return []


def build_library(*, again: bool = False) -> Built:
    """The compiled library; compiles it if there is no sound one.

    Args:
        again: compile it even if there is a sound one.
    """
    command, tensorflow = find_compiler(), find_spec("tensorflow")
    if sys.platform != "linux":
        return Built(None, f"it supports only Linux, and this is {sys.platform}")
    if is_switched_off():
        return Built(None, "TIEDEXP_NATIVE=0 is set")
    if command is None:
        names = ", ".join(("$CXX", *COMPILERS))
        return Built(None, f"no C++ compiler was found: {names} or the package {PACKAGED}")
    if tensorflow is None or not tensorflow.submodule_search_locations:
        return Built(None, "TensorFlow is not installed")
    root = Path(tensorflow.submodule_search_locations[0])
    try:
        return _build_in_locations(command, root, f"{PREFIX}{_fingerprint(command)}.so", again)
    except subprocess.SubprocessError as error:
        return Built(None, f"{shlex.join(command)} does not compile it: {_summarise(error)}")
    except OSError as error:
        return Built(None, f"{shlex.join(command)} does not start: {error.strerror or error}")
    except PackageNotFoundError:
        return Built(None, "the version of TensorFlow is unknown")


def _build_in_locations(command: tuple[str, ...], tensorflow: Path, name: str, again: bool) -> Built:
    """The library in the first location that can hold it."""
    obstacles = []
    for location in list_locations():
        library = location / name
        try:
            open_location(location)
            if again or not is_sound(library):
                _compile_once(command, tensorflow, library, again)
            return Built(library)
        except OSError as error:
            obstacles.append(str(error))
    return Built(None, f"it cannot be stored: {'; '.join(obstacles)}")


def _summarise(error: subprocess.SubprocessError) -> str:
    """The first error that a compiler reported."""
    if not isinstance(error, subprocess.CalledProcessError):
        return str(error)
    lines = error.stderr.decode(errors="replace").splitlines()
    return next((line.strip() for line in lines if "error" in line), f"it exited with code {error.returncode}")


def version_of(library: Path) -> str:
    """The version of a library, which depends on everything that affects it."""
    return library.stem.removeprefix(PREFIX)


def _fingerprint(command: tuple[str, ...]) -> str:
    """A digest of the sources, the compiler, TensorFlow's version and the instructions that the compiler uses here.

    The compiler's macros contain its version and every instruction set that it finds in this processor.

    Raises:
        OSError: the compiler does not start.
        SubprocessError: the compiler fails.
        PackageNotFoundError: TensorFlow was not installed as a package.
    """
    digest = hashlib.sha256()
    for source in sorted((*SOURCES.glob("*.h"), *SOURCES.glob("*.cc"))):
        digest.update(source.read_bytes())
    with tempfile.TemporaryDirectory() as work:
        macros = _call(command, (*FLAGS, "-dM", "-E", "-x", "c++", os.devnull), Path(work))
    for text in (*command[1:], *FLAGS, find_version_of("tensorflow")):
        digest.update(text.encode() + b"\0")
    return hashlib.sha256(digest.digest() + macros).hexdigest()[:16]


def _compile_once(command: tuple[str, ...], tensorflow: Path, library: Path, again: bool) -> None:
    """Compile, unless another process has done so while this one waited for the lock."""
    with compile_in(library.parent) as work:
        if is_sound(library) and not again:
            return
        name = shlex.join(command)
        text = f"tiedexp is compiling its convolution with {name}, once on this machine; this may take a minute"
        print(text, file=sys.stderr, flush=True)
        compiled = work / library.name
        includes = (f"-I{tensorflow / 'include'}", f"-L{tensorflow}", f"-l:{TENSORFLOW}")
        _call(command, (*FLAGS, str(SOURCES / "operations.cc"), "-o", str(compiled), *includes), work)
        store(compiled, library)


def _call(command: tuple[str, ...], arguments: tuple[str, ...], work: Path) -> bytes:
    """The output of a compiler, which writes all its temporary files into a folder."""
    folders = {"TMPDIR": work, "ZIG_GLOBAL_CACHE_DIR": work / "zig", "ZIG_LOCAL_CACHE_DIR": work / "zig-local"}
    environment = {**os.environ, **{name: str(folder) for name, folder in folders.items()}}
    done = subprocess.run([*command, *arguments], check=True, capture_output=True, timeout=TIMEOUT, env=environment)
    return done.stdout
