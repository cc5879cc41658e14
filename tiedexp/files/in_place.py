"""Opening a file that is written where it is: a lock, or a file that grows line by line."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from tiedexp.errors import RunError


def open_in_place(path: Path, flags: int) -> int:
    """Open a file to be written, and make it if it does not exist; its content stays.

    Args:
        path: the file.
        flags: as `os.open` takes them, e.g. os.O_RDWR.

    Returns:
        The file's descriptor.

    Raises:
        RunError: it is not a regular file, or has a second name, under which it may be anybody's.
        OSError: it cannot be opened, or is a symbolic link.
    """
    descriptor = os.open(path, flags | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o644)
    if has_one_name(descriptor):
        return descriptor
    is_regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
    os.close(descriptor)
    if is_regular:
        raise RunError(f"{path} is a hard link to a file that has another name too; it is not written, delete it")
    raise RunError(f"{path} is not a regular file; delete it")


def has_one_name(descriptor: int) -> bool:
    """Whether an open file is a regular file without a second name."""
    found = os.fstat(descriptor)
    return stat.S_ISREG(found.st_mode) and found.st_nlink <= 1
