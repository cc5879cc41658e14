"""Links to the logs of runs, so that TensorBoard shows only these."""

from __future__ import annotations

from pathlib import Path

from tiedexp.errors import RunError
from tiedexp.files.bounded import check_tree
from tiedexp.runs.directory import RunDirectory
from tiedexp.runs.finding import find_runs


def link_runs(path: Path, folder: Path, linked: dict[Path, str], *, required: bool = True) -> None:
    """Link the log of each run in `path` into `folder`, as `<experiment>/<seed>`, if it is not there yet.

    Args:
        path: a run, or a directory of runs.
        folder: the folder for the links.
        linked: the runs linked so far and their names; new ones are added.
        required: whether it is an error if there is no run.

    Raises:
        RunError: `path` does not exist, has no run, or has a link that leads out of it.
    """
    found = False
    for each in find_runs(path):
        run = RunDirectory(each.path.resolve())
        log = run.tensorboard
        if not log.is_dir():
            continue
        found = True
        if run.path in linked:
            continue
        check_log(log)
        name = "/".join(run.path.parts[-2:])
        if name in linked.values():
            name += f" ({len(linked)})"
        link = folder / name
        link.parent.mkdir(exist_ok=True)
        link.symlink_to(log, target_is_directory=True)
        linked[run.path] = name
    if required and not found:
        raise RunError(f"{path} holds no run with a TensorBoard log (a directory such as mnist-block-1a2b3c/seed-0)")


def check_log(log: Path) -> None:
    """Raise RunError if a run's log is not as tiedexp writes it, or has a link that leads out of it."""
    check_tree(log, log, "the run's log")
