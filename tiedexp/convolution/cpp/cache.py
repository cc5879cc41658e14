"""Where compiled libraries are kept, and whether one that is found there may be loaded.

A library is code that runs as this user, so its folder belongs to this user and nobody else may write to it. A SHA-256
beside the library shows that it is whole: loading a truncated one kills the process.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tiedexp.files.atomic import sync

PREFIX = "convolution-"
_WORK = "tmp"  # how folders begin in which something is compiled
_OTHERS_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH


def cache_directory() -> Path:
    """The folder for what this program can make again: in the user's cache, or in the system's temporary folder."""
    return list_places()[0]


def list_places() -> list[Path]:
    """Folders that may hold libraries, the preferred one first. The second serves where there is no usable home."""
    temporary = Path(tempfile.gettempdir()) / f"tiedexp-{os.geteuid()}"
    home = os.environ.get("XDG_CACHE_HOME")
    try:
        return [(Path(home) if home else Path.home() / ".cache") / "tiedexp", temporary]
    except RuntimeError:  # HOME is unset, and the system does not know the user
        return [temporary]


def open_place(place: Path) -> None:
    """Make a folder, or make sure that an existing one may hold libraries.

    Libraries in a folder that others may write to are deleted, and the folder is closed to others.

    Raises:
        OSError: the folder is not this user's, cannot be made, or its file system does not run programs.
    """
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    if any(status.st_uid != os.geteuid() for status in (place.lstat(), place.stat())):
        raise PermissionError(f"{place} belongs to another user")
    if place.stat().st_mode & _OTHERS_MAY_WRITE:
        place.chmod(0o700)
        for library in place.glob(f"{PREFIX}*"):
            library.unlink()
    if os.statvfs(place).f_flag & os.ST_NOEXEC:
        raise PermissionError(f"{place} is on a file system that does not run programs (noexec)")


def is_sound(library: Path) -> bool:
    """Whether a library is there, is this user's, cannot be written by others, and is as it was compiled."""
    try:
        status = library.lstat()
        ours = stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid()
        if not ours or status.st_mode & _OTHERS_MAY_WRITE:
            return False
        return _checksum_path(library).read_bytes() == _describe(library, library.name)
    except OSError:
        return False


@contextmanager
def compile_in(place: Path) -> Iterator[Path]:
    """Hold the lock of a place, and give an empty folder in it, which is deleted in the end.

    One process at a time holds the lock; the others wait. The system takes it from a process that is killed, and what
    that process has left behind is deleted by the next.
    """
    descriptor = os.open(place / ".lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        for left in place.glob(f"{_WORK}*"):
            shutil.rmtree(left, ignore_errors=True)
        with tempfile.TemporaryDirectory(prefix=_WORK, dir=place, ignore_cleanup_errors=True) as work:
            yield Path(work)
    finally:
        # A process that was forked meanwhile has the same lock, and closing alone would leave it to that process.
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)


def store(compiled: Path, library: Path) -> None:
    """Bring a compiled file and its checksum to the disk, then give both their names beside each other."""
    compiled.chmod(0o700)
    checksum = compiled.with_suffix(".sha256")
    checksum.write_bytes(_describe(compiled, library.name))
    for made, path in ((checksum, _checksum_path(library)), (compiled, library)):
        sync(made)
        made.replace(path)
    sync(library.parent)


def note_unloadable(library: Path) -> bool:
    """Note that a sound library does not load. Returns whether that is new, so that it may be compiled once more."""
    try:
        _note_path(library).touch(exist_ok=False)
    except OSError:
        return False
    return True


def note_loadable(library: Path) -> None:
    """Forget that a library did not load."""
    with suppress(OSError):
        _note_path(library).unlink(missing_ok=True)


def _checksum_path(library: Path) -> Path:
    return library.with_suffix(".sha256")


def _note_path(library: Path) -> Path:
    return library.with_suffix(".unloadable")


def _describe(file: Path, name: str) -> bytes:
    """A line as `sha256sum` writes it, for a file under the name that it has or will have."""
    return f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {name}\n".encode()
