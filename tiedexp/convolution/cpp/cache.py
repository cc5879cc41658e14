"""Where compiled libraries are stored, and whether one that is found there can be loaded.

A library is code that runs as this user, so its folder must belong to this user and nobody else may write to it. A
SHA-256 next to the library shows that it is complete: loading a truncated library kills the process.
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
_WORK = "tmp"  # prefix of the folders in which libraries are compiled
_OTHERS_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH


def cache_directory() -> Path:
    """The folder for files that can be made again: in the user's cache, or in the system's temporary folder."""
    return list_locations()[0]


def list_locations() -> list[Path]:
    """Folders that can hold libraries, the preferred one first. The second is used if there is no usable home."""
    temporary = Path(tempfile.gettempdir()) / f"tiedexp-{os.geteuid()}"
    home = os.environ.get("XDG_CACHE_HOME")
    try:
        return [(Path(home) if home else Path.home() / ".cache") / "tiedexp", temporary]
    except RuntimeError:  # HOME is unset, and the system does not know the user
        return [temporary]


def open_location(location: Path) -> None:
    """Make a folder, or make sure that an existing one is safe for libraries.

    If others can write to the folder, its libraries are deleted and the permissions of the others are removed.

    Raises:
        OSError: the folder belongs to another user, cannot be made, or its file system does not run programs.
    """
    location.mkdir(mode=0o700, parents=True, exist_ok=True)
    if any(status.st_uid != os.geteuid() for status in (location.lstat(), location.stat())):
        raise PermissionError(f"{location} belongs to another user")
    if location.stat().st_mode & _OTHERS_MAY_WRITE:
        location.chmod(0o700)
        for library in location.glob(f"{PREFIX}*"):
            library.unlink()
    if os.statvfs(location).f_flag & os.ST_NOEXEC:
        raise PermissionError(f"{location} is on a file system that does not run programs (noexec)")


def is_sound(library: Path) -> bool:
    """Whether a library exists, belongs to this user, is not writable by others, and is as it was compiled."""
    try:
        status = library.lstat()
        ours = stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid()
        if not ours or status.st_mode & _OTHERS_MAY_WRITE:
            return False
        return _checksum_path(library).read_bytes() == _describe(library, library.name)
    except OSError:
        return False


@contextmanager
def compile_in(location: Path) -> Iterator[Path]:
    """Hold the lock of a location, and yield an empty folder in it, which is deleted at the end.

    One process at a time holds the lock; the others wait. If a process is killed, the system releases its lock, and the
    next process deletes the files that it left.
    """
    descriptor = os.open(location / ".lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        for left in location.glob(f"{_WORK}*"):
            shutil.rmtree(left, ignore_errors=True)
        with tempfile.TemporaryDirectory(prefix=_WORK, dir=location, ignore_cleanup_errors=True) as work:
            yield Path(work)
    finally:
        # A process that was forked meanwhile shares the lock, so closing the file would not release it.
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)


def store(compiled: Path, library: Path) -> None:
    """Write a compiled file and its checksum to the disk, then rename both to their final names."""
    compiled.chmod(0o700)
    checksum = compiled.with_suffix(".sha256")
    checksum.write_bytes(_describe(compiled, library.name))
    for made, path in ((checksum, _checksum_path(library)), (compiled, library)):
        sync(made)
        made.replace(path)
    sync(library.parent)


def note_unloadable(library: Path) -> bool:
    """Note that a sound library does not load. Returns whether this is new, so that it is compiled only once more."""
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
    """The line that `sha256sum` writes for a file with its final name."""
    return f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {name}\n".encode()
