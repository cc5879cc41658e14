"""Pictures, and pages of them, that commands write to a path of the user's."""

from __future__ import annotations

import os
from pathlib import Path

from tiedexp.errors import SpecError


def check_picture(path: Path, what: str = "picture") -> None:
    """Check that a picture can be written to a path, before hours are spent on its content; nothing is created.

    Args:
        path: the path.
        what: the word for the picture in the message.

    Raises:
        SpecError: it cannot be written; says why.
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
    """Make a directory for pictures, if there is none; SpecError if that fails."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SpecError(f"the pictures cannot be written to {path}: {error.strerror}") from error


def write_picture(path: Path, content: bytes, what: str = "picture") -> None:
    """Write a picture, or what else `check_picture` has checked; SpecError if that fails."""
    try:
        path.write_bytes(content)
    except OSError as error:
        raise SpecError(f"the {what} cannot be written to {path}: {error.strerror}") from error
