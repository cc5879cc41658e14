"""Writing files that a crash leaves either as they were or as they should be, never half written."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

UNFINISHED = ".unfinished-"


@contextmanager
def replace_file(path: Path, suffix: str = "") -> Iterator[Path]:
    """Give a temporary path to write to; at the end, sync that file to disk and rename it to `path`.

    If the block raises, `path` stays as it was and the temporary file is deleted.

    Args:
        path: the file to make or replace; its directory exists.
        suffix: the end of the temporary name, for writers that look at it.
    """
    unfinished = path.with_name(f"{UNFINISHED}{os.getpid()}-{path.name}{suffix}")
    unfinished.unlink(missing_ok=True)  # it may be a link to somewhere else
    try:
        yield unfinished
        sync(unfinished)
        unfinished.replace(path)
        sync(path.parent)
    finally:
        unfinished.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Make or replace a text file, in UTF-8."""
    with replace_file(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


def remove_unfinished(directory: Path) -> None:
    """Delete the temporary files of processes that were killed; no other process may be writing in the directory."""
    for path in directory.glob(f"{UNFINISHED}*"):
        delete_file(path)


def delete_file(path: Path) -> None:
    """Delete a file or link if it exists; a directory of that name is somebody else's, and stays."""
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Write a file, or the names in a directory, to the disk, so that a power cut does not lose them."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
