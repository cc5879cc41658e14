"""Files that after a crash are either as they were or as they should be, never half written."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_UNFINISHED = ".unfinished-"


@contextmanager
def replace_file(path: Path, suffix: str = "") -> Iterator[Path]:
    """Give a temporary path to write; on leaving, sync it to disk and rename it to `path`.

    Args:
        path: the file to make or replace; its directory exists.
        suffix: how the temporary name must end, for writers that look at it.

    If the block raises, `path` stays as it was and the temporary file is deleted.
    """
    unfinished = path.with_name(f"{_UNFINISHED}{os.getpid()}-{path.name}{suffix}")
    unfinished.unlink(missing_ok=True)  # what stands there may be a link to somewhere else
    try:
        yield unfinished
        _sync(unfinished, os.O_RDONLY)
        unfinished.replace(path)
        _sync(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    finally:
        unfinished.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Make or replace a text file, in UTF-8."""
    with replace_file(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


def remove_unfinished(directory: Path) -> None:
    """Delete the temporary files of processes that were killed; nobody else may be writing in the directory."""
    for path in directory.glob(f"{_UNFINISHED}*"):
        path.unlink(missing_ok=True)


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
