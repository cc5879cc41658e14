"""Links to the logs of runs, for TensorBoard to look at just these."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from tiedexp.errors import RunError
from tiedexp.runs.directory import RunDirectory
from tiedexp.runs.finding import REPRODUCED


def link_runs(path: Path, folder: Path, linked: dict[Path, str], *, required: bool = True) -> None:
    """Link the log of each run at or below `path` into `folder`, as `<experiment>/<seed>`, if it is not yet there.

    Args:
        path: a run, or a directory of runs.
        folder: where the links are made.
        linked: the runs linked so far and their names, added to.
        required: whether it is an error that there is no run.

    Raises:
        RunError: `path` is absent, holds no run, or has a link that leads out of it.
    """
    if not path.is_dir():
        raise RunError(f"{path} is no directory of runs" + ("" if path.exists() else ": it does not exist"))
    found = False
    for run in _find_runs(path.resolve()):
        found = True
        if run in linked:
            continue
        log = RunDirectory(run).tensorboard
        check_inside(log)
        name = "/".join(run.parts[-2:])
        if name in linked.values():
            name += f" ({len(linked)})"
        link = folder / name
        link.parent.mkdir(exist_ok=True)
        link.symlink_to(log, target_is_directory=True)
        linked[run] = name
    if required and not found:
        raise RunError(f"{path} holds no run with a TensorBoard log (a directory such as mnist-block-1a2b3c/seed-0)")


def _find_runs(top: Path) -> Iterator[Path]:
    """The directories at or below `top` that hold a TensorBoard log, without those in a `REPRODUCED` below it."""
    for directory, below in _walk(top):
        if REPRODUCED in below:
            below.remove(REPRODUCED)
        if (directory / "tensorboard").is_dir():
            below.clear()
            yield directory


def check_inside(top: Path) -> None:
    """RunError if a link leads out of `top`."""
    for _ in _walk(top):
        pass


def _walk(top: Path) -> Iterator[tuple[Path, list[str]]]:
    """Each directory at or below `top`, and the names of those below it, which the caller may remove.

    Raises:
        RunError: a link leads out of `top`.
    """
    for name, below, files in os.walk(top):
        for entry in (Path(name, entry) for entry in below + files):
            if entry.is_symlink() and not entry.resolve().is_relative_to(top):
                raise RunError(f"{entry} is a link that leads out of {top}; it is not followed")
        below.sort()
        yield Path(name), below
