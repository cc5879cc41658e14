"""Finding the runs below a directory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from tiedexp.errors import RunError
from tiedexp.runs.directory import RunDirectory

MAX_DEPTH = 4  # <root>/<sweep>/<experiment>/seed-<n>
REPRODUCED = "reproduced"  # where `reproduce` puts its runs: copies of others, which are searched only if named


def find_runs(top: Path) -> Iterator[RunDirectory]:
    """The runs at or below a directory, sorted by path; links below it and `REPRODUCED` are not searched.

    Raises:
        RunError: it is not a directory, or a link in it leads out.
    """
    if not os.path.isdir(top):  # noqa: PTH112 (pathlib's raises where the name is too long)
        raise RunError(f"{top} is not a directory of runs" + ("" if os.path.lexists(top) else ": it does not exist"))
    yield from _find(top, top.resolve(), MAX_DEPTH)


def _find(directory: Path, top: Path, depth: int) -> Iterator[RunDirectory]:
    try:
        with os.scandir(directory) as listed:
            entries = sorted(listed, key=lambda entry: entry.name)
    except OSError as error:
        raise RunError(f"{directory} cannot be read: {error.strerror}") from error
    run = RunDirectory(directory)
    if run.is_run:
        yield run
        return
    for entry in entries:
        if entry.is_symlink():
            if not Path(os.path.realpath(entry.path)).is_relative_to(top):
                raise RunError(f"{entry.path} is a link that leads out of {top}; it is not followed")
        elif depth and not entry.name.startswith(".") and entry.name != REPRODUCED and entry.is_dir():
            yield from _find(Path(entry.path), top, depth - 1)
