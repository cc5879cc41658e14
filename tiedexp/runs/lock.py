"""The lock of a run directory, which keeps every process but one out of it.

The file `.lock` is locked by flock, so the lock ends with its process, however that ends. The process also writes who
it is into the file and deletes that when it leaves. If the text is there and the lock is free, the process was killed,
or its machine stopped.
"""

from __future__ import annotations

import fcntl
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from tiedexp.errors import RunError, RunLockedError
from tiedexp.files.in_place import has_one_name, open_in_place

LOCK = ".lock"
_HOLDER = re.compile(r"pid \d+ on [\w.-]+ since [\d :+-]+", re.ASCII)


@contextmanager
def hold_lock(directory: Path) -> Iterator[str | None]:
    """Make a run directory and keep every other process out of it.

    Yields:
        The process that was in it before, if that was killed; None otherwise.

    Raises:
        RunError: another process is in it, or .lock is not a regular file of its own; nothing is written then.
    """
    descriptor = _open_locked(directory)
    try:
        left = _read_holder(descriptor)
        os.ftruncate(descriptor, 0)
        since = datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
        os.pwrite(descriptor, f"pid {os.getpid()} on {os.uname().nodename} since {since}\n".encode(), 0)
        try:
            yield left
        finally:
            os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)  # which also unlocks


def is_locked(directory: Path) -> bool:
    """Whether a process is in a run directory now; nothing is written to find out."""
    with _open_to_look(directory) as descriptor:
        if descriptor is None:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


def names_holder(directory: Path) -> bool:
    """Whether the lock names a process, which is in the run directory now or was killed in it."""
    with _open_to_look(directory) as descriptor:
        return descriptor is not None and _read_holder(descriptor) is not None


@contextmanager
def _open_to_look(directory: Path) -> Iterator[int | None]:
    """The descriptor of .lock; None if there is no such file, or not one of ours."""
    try:
        descriptor = os.open(directory / LOCK, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        yield None
        return
    try:
        yield descriptor if has_one_name(descriptor) else None
    finally:
        os.close(descriptor)


def _open_locked(directory: Path) -> int:
    """The descriptor of .lock, locked, with its content unchanged."""
    while True:
        try:
            directory.mkdir(parents=True, exist_ok=True)
            descriptor = open_in_place(directory / LOCK, os.O_RDWR)
        except OSError as error:
            raise RunError(f"the run directory {directory} cannot be written: {error.strerror}") from error
        try:
            _lock_exclusively(descriptor)
        except BlockingIOError:
            holder = _read_holder(descriptor) or "unknown"
            os.close(descriptor)
            raise RunLockedError(f"{directory} is in use by another process ({holder})") from None
        if has_one_name(descriptor) and _is_still_at(directory / LOCK, descriptor):
            return descriptor
        os.close(descriptor)  # the process that held it deleted the run or linked the file: try again


def _lock_exclusively(descriptor: int) -> None:
    """BlockingIOError if another process holds the lock for longer than `is_locked` does to look."""
    for _ in range(5):
        with suppress(BlockingIOError):
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        time.sleep(0.02)
    return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _is_still_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except FileNotFoundError:
        return False


def _read_holder(descriptor: int) -> str | None:
    """What a process wrote into the lock: None if nothing, or nothing that one of ours would write."""
    text = os.pread(descriptor, 200, 0).decode(errors="replace").strip()
    return text if _HOLDER.fullmatch(text) else None
