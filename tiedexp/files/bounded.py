"""Reading files that somebody else may have written: only regular files, and only up to a given size."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

from tiedexp.errors import RunError

_MAX_DIGITS = 20  # with a sign
_MAX_DEPTH = 8  # of directories in a run; tensorboard/train has two


def find_inside(directory: Path, name: str, whose: str) -> Path:
    """The path of a name in a directory that somebody else may have filled.

    Args:
        directory: a directory.
        name: a file or directory in it, or deeper.
        whose: what the directory is, for the error message.

    Raises:
        RunError: a link on the way leads out of the directory, or nowhere.
    """
    if "/" not in name and name != ".." and not os.path.islink(directory / name):  # noqa: PTH114
        return directory / name  # a shortcut for the many files of thousands of runs: no link is on the way
    # pathlib raises other errors if links go in a circle or have long names.
    path = directory
    for part in Path(name).parts:
        path = path / part
        if os.path.islink(path) and not os.path.exists(path):  # noqa: PTH110, PTH114
            raise RunError(f"{path} is a link that leads nowhere")
    if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(directory)):
        raise RunError(f"{path} leads out of {whose}; it is not read or written")
    return path


def check_tree(top: Path, directory: Path, whose: str) -> None:
    """Refuse a directory with entries that tiedexp never writes.

    Args:
        top: a file or directory, which need not exist; links below it are not followed.
        directory: the directory that no link at or below `top` may lead out of.
        whose: what that directory is, for the error message.

    Raises:
        RunError: a link leads out of the directory, or nowhere; an entry is neither a file nor a directory; directories
            are nested too deep.
    """
    waiting = [(str(top), 0)]
    while waiting:
        path, depth = waiting.pop()
        if os.path.islink(path):  # noqa: PTH114
            find_inside(directory, str(Path(path).relative_to(directory)), whose)
            if depth:
                continue
        if os.path.isdir(path):  # noqa: PTH112
            if depth == _MAX_DEPTH:
                raise RunError(f"{top} has directories that are nested deeper than {_MAX_DEPTH} levels; it is not read")
            with os.scandir(path) as entries:
                waiting += [(entry.path, depth + 1) for entry in entries]
        elif os.path.lexists(path) and not os.path.isfile(path):  # noqa: PTH113
            raise RunError(f"{path} is neither a file nor a directory; it is not read")


def read_text(path: Path, max_bytes: int, errors: str = "strict") -> str:
    """The text of a file, in UTF-8.

    Args:
        path: the file.
        max_bytes: a larger file is refused.
        errors: how bytes that are not UTF-8 are handled, see `bytes.decode`.

    Raises:
        RunError: the file does not exist, is larger, is not a regular file (a pipe may never end), or is not UTF-8.
    """
    content = _read_bytes(path, max_bytes + 1)
    if len(content) > max_bytes:
        raise RunError(f"{path} is larger than {max_bytes // 2**20} MiB, so tiedexp did not write it")
    try:
        return content.decode("utf-8", errors)
    except ValueError as error:
        raise RunError(f"{path} cannot be read: {error}") from error


def read_start(path: Path, max_bytes: int) -> str:
    """The first bytes of a file of any size as text; bytes that are not UTF-8 are replaced.

    Raises:
        RunError: the file does not exist or is not a regular file.
    """
    return _read_bytes(path, max_bytes).decode("utf-8", errors="replace")


def _read_bytes(path: Path, max_bytes: int) -> bytes:
    try:
        # Without O_NONBLOCK, opening a pipe would wait for its writer.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise RunError(f"{path} cannot be read: it is not a regular file")
            return file.read(max_bytes)
    except OSError as error:
        raise RunError(f"{path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:  # a zero byte in the name
        raise RunError(f"{path} cannot be read: {error}") from error


def read_json(path: Path, max_bytes: int) -> Any:
    """The content of a JSON file.

    Raises:
        RunError: see `read_text` and `parse_json`.
    """
    return parse_json(read_text(path, max_bytes), str(path))


def parse_json(text: str, source: str) -> Any:
    """The content of JSON text.

    Args:
        text: the text.
        source: where it comes from, named in the error message.

    Raises:
        RunError: it is not JSON, is nested too deeply, or has an integer that does not fit into 64 bits.
    """
    try:
        return json.loads(text, parse_int=_parse_int)
    except (ValueError, RecursionError) as error:
        raise RunError(f"{source} is not JSON: {error}") from error


def _parse_int(text: str) -> int:
    if len(text) > _MAX_DIGITS:
        raise ValueError(f"an integer of {len(text)} digits")
    return int(text)
