"""What tiedexp writes into a run directory: nothing else in it is deleted, and nothing strange is read."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from tiedexp.files import checkpoint_names
from tiedexp.files.atomic import UNFINISHED, delete_file
from tiedexp.files.bounded import check_tree

SEAL = ".seal"  # see tiedexp.runs.seal
# In the order of clearing: if the process is killed meanwhile, the run can still be resumed or started over.
OWN = (
    "result.json", "checkpoints", "initial_kernel.h5", "metrics.jsonl", "failure.json", "tensorboard", "spec.yaml",
    "manifest.json",
)  # fmt: skip
KEPT = ("tags.json", "log.txt", SEAL)  # kept when a run starts over
# Of the directories among them: theirs, the innermost first, and the patterns of the files in each.
_BELOW = {
    "checkpoints": ((".",), (*checkpoint_names.PATTERNS, f"{UNFINISHED}*")),
    "tensorboard": (("train", "validation", "test", "."), ("events.out.tfevents.*",)),
}


def check_contents(directory: Path) -> None:
    """Refuse what a run never holds (see `check_tree`).

    Raises:
        RunError: names the first such entry.
    """
    for name in OWN:
        check_tree(directory / name, directory, "the run directory")


def clear_contents(directory: Path) -> None:
    """Delete what training writes into a run directory, and nothing else."""
    for name in OWN:
        path = directory / name
        if path.is_dir() and not path.is_symlink():
            _clear(path, *_BELOW.get(name, ((), ())))
        else:
            path.unlink(missing_ok=True)


def delete_contents(directory: Path) -> None:
    """Delete all that tiedexp writes into a run directory except the lock, and nothing else."""
    for name in KEPT:
        delete_file(directory / name)
    clear_contents(directory)


def _clear(top: Path, directories: Sequence[str], patterns: Sequence[str]) -> None:
    """Delete the files in some directories that match a pattern, and each directory that is then empty.

    Links are not followed.
    """
    for directory in (top / name for name in directories):
        if directory.is_dir() and not directory.is_symlink():
            for path in (path for pattern in patterns for path in directory.glob(pattern)):
                delete_file(path)
            with suppress(OSError):  # something else is in it
                directory.rmdir()
