"""Writing pictures and pages to paths that the user gives."""

from __future__ import annotations

import os
from pathlib import Path

from tiedexp.errors import SpecError


def check_picture(path: Path, what: str = "picture") -> None:
    """Check that a picture can be written to a path, before its content is computed; nothing is created.

    Args:
        path: the path.
        what: what the message calls the picture.

    Raises:
        SpecError: the picture cannot be written; the message says why.
    """
    folder = path.parent
    if path.is_dir():
        reason = "it is a directory"
    elif not folder.is_dir():
        reason = f"there is no directory {folder}"
    elif not os.access(path if path.exists() else folder, os.W_OK):
        reason = "permission denied"
    else:
        return
    raise SpecError(f"the {what} cannot be written to {path}: {reason}")


def make_directory(path: Path) -> None:
    """Make a directory for pictures unless it exists; raises SpecError if that fails."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SpecError(f"the pictures cannot be written to {path}: {error.strerror}") from error


def write_picture(path: Path, content: bytes, what: str = "picture") -> None:
    """Write a picture, or another file that `check_picture` has checked; raises SpecError if that fails."""
    try:
        path.write_bytes(content)
    except OSError as error:
        raise SpecError(f"the {what} cannot be written to {path}: {error.strerror}") from error
