"""Pictures that commands write where the user says."""

from __future__ import annotations

import os
from pathlib import Path

from tiedexp.errors import SpecError


def check_picture(path: Path) -> None:
    """Refuse a path that no picture can be written to, before hours are spent on what it shows; nothing is made.

    Raises:
        SpecError: says what is in the way.
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
    raise SpecError(f"the picture cannot be written to {path}: {reason}")


def write_picture(path: Path, content: bytes) -> None:
    """Write a PNG file; SpecError if that fails."""
    try:
        path.write_bytes(content)
    except OSError as error:
        raise SpecError(f"the picture cannot be written to {path}: {error.strerror}") from error
