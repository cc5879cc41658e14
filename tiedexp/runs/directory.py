"""A run on disk: where it is, what stands in it, and who may write.

    <root>/<name>-<digest>/seed-<n>/
      spec.yaml  manifest.json  initial_kernel.h5  metrics.jsonl  checkpoints/  result.json  tensorboard/
      log.txt  failure.json  .seal

`result.json` is there if and only if the run finished; `failure.json` if it failed the last time; `log.txt` has what a
run of a sweep printed; `initial_kernel.h5` has the kernel of one convolution before the first step; `.seal` lets the
user who trained the run evaluate it without naming its data again (see `tiedexp.runs.seal`). Whatever is read
from a run directory stays inside it: a name that leads out, through a link, is refused, since run directories are
passed around.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import stat
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from tiedexp.errors import RunError, RunLockedError
from tiedexp.files import checkpoint_names
from tiedexp.files.atomic import UNFINISHED, remove_unfinished, replace_file, write_text
from tiedexp.files.bounded import check_tree, find_inside, parse_json, read_json, read_start, read_text
from tiedexp.runs.manifest import MANIFEST_FORMAT
from tiedexp.runs.records import EpochLine, Manifest, Result, check_record

RunStateName = Literal["finished", "running", "failed", "unfinished", "missing"]

SEAL = ".seal"  # see tiedexp.runs.seal
MARKS = ("manifest.json", "failure.json", "spec.yaml")  # a run that has begun has one of these
MAX_JSON_BYTES = 16 * 2**20
MAX_LINE_BYTES = 2**16
MAX_METRICS_BYTES = 64 * 2**20  # a line an epoch, of which there may be 100,000
_HOLDER = re.compile(r"pid \d+ on [\w.-]+ since [\d :+-]+", re.ASCII)
_PLACE = re.compile(r".+-[0-9a-f]{10}/seed-\d+", re.ASCII)  # where tiedexp puts a run
# What tiedexp writes into a run's directories: the directories from the inmost, and patterns of the files in them.
_OWN_BELOW = {
    "checkpoints": ((".",), (*checkpoint_names.PATTERNS, f"{UNFINISHED}*")),
    "tensorboard": (("train", "validation", "test", "."), ("events.out.tfevents.*",)),
}
# In the order in which a run is cleared: a process that is killed meanwhile leaves a run that can go on, or start over.
_OWN = (
    "result.json", "checkpoints", "initial_kernel.h5", "metrics.jsonl", "failure.json", "tensorboard", "spec.yaml",
    "manifest.json",
)  # fmt: skip


def find_runs_root(root: Path | None) -> Path:
    """The directory of all runs: the one given, or $TIEDEXP_RUNS, or ./runs."""
    return root or Path(os.environ.get("TIEDEXP_RUNS") or "runs")


class RunDirectory:
    """One run's directory; nothing is made or read until asked for.

    Args:
        path: the directory `seed-<n>`.
    """

    def __init__(self, path: Path):
        self.path = path

    @classmethod
    def locate(cls, root: Path, *, name: str, digest: str, seed: int) -> RunDirectory:
        """Where the run of an experiment and seed is, whether it exists or not."""
        return cls(root / f"{name}-{digest}" / f"seed-{seed}")

    @classmethod
    def open(cls, path: Path) -> RunDirectory:
        """An existing run.

        Raises:
            RunError: there is no run at that path; says what was expected.
        """
        if not os.path.isdir(path):  # noqa: PTH112 (pathlib's raises where the name is too long)
            raise RunError(f"{path} is not a directory; a run is one like runs/mnist-block-1a2b3c4d5e/seed-0")
        run = cls(path)
        run.check_entries()
        if not (path / "manifest.json").is_file():
            below = _find_runs_below(path)
            hint = f"; did you mean {below[0]}?" if below else ": it has no manifest.json"
            raise RunError(f"{path} is not a run{hint}")
        if not run.is_run:
            run.read_manifest()  # which says what is wrong with it
        return run

    @property
    def is_run(self) -> bool:
        """Whether there is a run here: one of its files is as tiedexp writes it, or it is where tiedexp puts runs.

        A manifest.json or spec.yaml alone does not tell: other programs have files of these names. A damaged run is a
        run as long as something of it can be read. Whoever lists, finds, compares, shows or deletes runs asks this.
        """
        signs = (self._has_first_epoch, self._has_manifest, self._has_failure, self._has_result, self._was_left)
        if not any((self.path / name).is_file() for name in MARKS):
            return False
        return bool(_PLACE.fullmatch("/".join(self.path.absolute().parts[-2:]))) or any(sign() for sign in signs)

    def _has_first_epoch(self) -> bool:
        with suppress(RunError):
            return self.read_first_epoch() is not None
        return False

    def _has_manifest(self) -> bool:
        with suppress(RunError):
            content = self.read_json("manifest.json")
            versions = content.get("versions")
            if isinstance(content.get("format"), int) and isinstance(versions, dict) and "tiedexp" in versions:
                return True  # though this version may not understand all of it
            check_record(Manifest, content, self.path)
            return True
        return False

    def _has_failure(self) -> bool:
        with suppress(RunError):
            content = self.read_json("failure.json")
            return content.keys() == {"error", "time"} and all(isinstance(text, str) for text in content.values())
        return False

    def _has_result(self) -> bool:
        with suppress(RunError):
            self.read_result()
            return True
        return False

    def _was_left(self) -> bool:
        """Whether a process that was killed in the run left its name in the lock."""
        try:
            descriptor = os.open(self.path / ".lock", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:
            return False
        try:
            return _is_ours(descriptor) and _read_holder(descriptor) is not None
        finally:
            os.close(descriptor)

    # Paths

    @property
    def checkpoints(self) -> Path:
        """The directory of the checkpoints."""
        return self.inside("checkpoints")

    def weights_of(self, epoch: int) -> Path:
        """The weights file of the checkpoint at the end of an epoch; RunError if it leads out of the run."""
        return self.inside(f"checkpoints/{checkpoint_names.name_checkpoint((epoch, 0), checkpoint_names.WEIGHTS)}")

    @property
    def tensorboard(self) -> Path:
        """The directory of the event files."""
        return self.inside("tensorboard")

    @property
    def initial_kernel(self) -> Path:
        """The kernel of the first tied convolution, or of the first one without, as it was before the first step.

        It is not there in a run of an older tiedexp, nor where the kernel is too large for a picture.
        """
        return self.inside("initial_kernel.h5")

    @property
    def spec(self) -> Path:
        """The resolved spec."""
        return self.inside("spec.yaml")

    @property
    def finished(self) -> bool:
        """Whether the run came to its end."""
        return self.inside("result.json").is_file()

    @property
    def state(self) -> RunStateName:
        """Where the run stands, by what is on disk."""
        if self.finished:
            return "finished"
        if self.is_locked():
            return "running"
        if self.inside("failure.json").is_file():
            return "failed"
        return "unfinished" if self.inside("manifest.json").is_file() else "missing"

    def is_locked(self) -> bool:
        """Whether a process is in the run now; nothing is made to find out."""
        try:
            descriptor = os.open(self.path / ".lock", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:
            return False
        try:
            if not _is_ours(descriptor):
                return False
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    def inside(self, name: str) -> Path:
        """The path of a name in this run; RunError if it leads out of the run, or nowhere."""
        return find_inside(self.path, name, "the run directory")

    def check_entries(self) -> None:
        """Refuse what a run never holds: see `check_tree`.

        Raises:
            RunError: names the first such entry.
        """
        for name in _OWN:
            check_tree(self.path / name, self.path, "the run directory")

    # Making

    @contextmanager
    def lock(self) -> Iterator[str | None]:
        """Make the directory and keep every other process out of it.

        Yields:
            the process that was in it before, if that ended without leaving: it was killed, or its machine stopped.

        Raises:
            RunError: another process is in it, or .lock is no plain file of its own; then nothing is written into it.
        """
        descriptor = self._open_locked()
        try:
            left = _read_holder(descriptor)
            os.ftruncate(descriptor, 0)
            since = datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
            os.pwrite(descriptor, f"pid {os.getpid()} on {os.uname().nodename} since {since}\n".encode(), 0)
            try:
                yield left
            finally:
                os.ftruncate(descriptor, 0)
        finally:
            os.close(descriptor)  # which also unlocks

    def _open_locked(self) -> int:
        """The descriptor of .lock, held by nobody else, with its content as it was."""
        while True:
            try:
                self.path.mkdir(parents=True, exist_ok=True)
                descriptor = _open_own(self.path / ".lock", os.O_RDWR)
            except OSError as error:
                raise RunError(f"the run directory {self.path} cannot be written: {error.strerror}") from error
            try:
                _lock_exclusively(descriptor)
            except BlockingIOError:
                holder = _read_holder(descriptor) or "unknown"
                os.close(descriptor)
                raise RunLockedError(f"{self.path} is in use by another process ({holder})") from None
            if _is_ours(descriptor) and _is_still_at(self.path / ".lock", descriptor):
                return descriptor
            os.close(descriptor)  # who held it deleted the run, or linked the file: look again

    def clear(self) -> None:
        """Delete what tiedexp wrote here, and nothing else."""
        for name in _OWN:
            path = self.path / name
            if path.is_dir() and not path.is_symlink():
                _clear_directory(path, *_OWN_BELOW.get(name, ((), ())))
            else:
                path.unlink(missing_ok=True)

    def delete(self) -> tuple[str, ...]:
        """Delete the run, and its directory and experiment's directory if nothing else is in them.

        Returns:
            The names of what is left in its directory, which tiedexp did not write.

        Raises:
            RunError: another process is in it.
        """
        with self.lock():
            self.remove_unfinished()
            for name in ("tags.json", "log.txt", SEAL):
                _unlink(self.path / name)
            self.clear()
            _unlink(self.path / ".lock")
        for directory in (self.path, self.path.parent):
            with suppress(OSError):  # something else is in it
                directory.rmdir()
        with suppress(FileNotFoundError), os.scandir(self.path) as entries:
            return tuple(sorted(entry.name for entry in entries))
        return ()

    def remove_empty(self) -> None:
        """Delete the run if there is nothing but the log of a process that was stopped while it loaded."""
        if self.path.is_dir() and {entry.name for entry in self.path.iterdir()} <= {"log.txt", ".lock"}:
            with suppress(RunLockedError):
                self.delete()

    def write_spec(self, text: str) -> None:
        """Write spec.yaml."""
        write_text(self.spec, text)

    def write_manifest(self, manifest: Manifest) -> None:
        """Write manifest.json."""
        self.write_json("manifest.json", manifest.as_json())

    def write_result(self, result: Result) -> None:
        """Write result.json."""
        self.write_json("result.json", result.as_json())

    def write_json(self, name: str, content: Mapping[str, Any]) -> None:
        """Write a JSON file; ValueError for NaN or infinity in it."""
        write_text(self.inside(name), json.dumps(content, indent=2, allow_nan=False) + "\n")

    def open_log(self) -> int:
        """Make the directory, and open log.txt in it to be added to; gives the file's descriptor."""
        self.path.mkdir(parents=True, exist_ok=True)
        return _open_own(self.path / "log.txt", os.O_WRONLY | os.O_APPEND)

    def write_failure(self, message: str) -> None:
        """Say why the run failed; the next attempt takes it away."""
        self.write_json("failure.json", {"error": message, "time": datetime.now().astimezone().isoformat()})

    def read_failure(self) -> str:
        """Why the run failed the last time."""
        return str(self.read_json("failure.json").get("error", "unknown"))

    def append_metrics(self, line: EpochLine) -> None:
        """Add an epoch to metrics.jsonl."""
        descriptor = _open_own(self.inside("metrics.jsonl"), os.O_WRONLY | os.O_APPEND)
        with os.fdopen(descriptor, "a", encoding="utf-8") as file:
            file.write(_dump_line(line))
            file.flush()
            os.fsync(file.fileno())

    def rewrite_metrics(self, lines: Iterable[EpochLine]) -> None:
        """Replace all of metrics.jsonl, when a run resumes from an earlier epoch."""
        write_text(self.inside("metrics.jsonl"), "".join(map(_dump_line, lines)))

    def copy_series(self, other: RunDirectory) -> None:
        """Take the TensorBoard series of training and validation over from another run."""
        for split in ("train", "validation"):
            for path in sorted((other.tensorboard / split).glob("events.out.tfevents.*")):
                if path.is_file() and not path.is_symlink():
                    (self.tensorboard / split).mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(path, self.tensorboard / split / path.name)

    def copy_initial_kernel(self, other: RunDirectory) -> None:
        """Take the kernel of before training over from another run, if that has it."""
        if other.initial_kernel.is_file():
            with replace_file(self.initial_kernel) as unfinished:
                shutil.copyfile(other.initial_kernel, unfinished)

    def remove_unfinished(self) -> None:
        """Delete what a process that was killed was about to write; only under the lock."""
        remove_unfinished(self.path)

    # Reading

    def read_json(self, name: str) -> dict[str, Any]:
        """The content of a JSON file.

        Raises:
            RunError: absent, too large, or not a JSON object.
        """
        path = self.inside(name)
        content = read_json(path, MAX_JSON_BYTES)
        if not isinstance(content, dict):
            raise RunError(f"{path} does not hold a JSON object")
        return content

    def read_manifest(self) -> Manifest:
        """What manifest.json says.

        Raises:
            RunError: it cannot be read, is not as tiedexp writes it, or a newer tiedexp wrote it.
        """
        content = self.read_json("manifest.json")
        self._refuse_newer(content)
        return check_record(Manifest, content, self.path / "manifest.json")

    def check_format(self) -> None:
        """RunError if a newer tiedexp wrote this run; no manifest yet is fine."""
        if not self.inside("manifest.json").is_file():
            return
        self._refuse_newer(self.read_json("manifest.json"))

    def _refuse_newer(self, manifest: Mapping[str, Any]) -> None:
        found = manifest.get("format")
        if isinstance(found, int) and found > MANIFEST_FORMAT:
            raise RunError(
                f"{self.path} was written by a newer tiedexp (format {found}; this one knows {MANIFEST_FORMAT}): "
                "update tiedexp to use it"
            )

    def read_result(self) -> Result:
        """What result.json says; RunError if it is not as tiedexp writes it."""
        return check_record(Result, self.read_json("result.json"), self.path / "result.json")

    def read_first_epoch(self) -> EpochLine | None:
        """The first line of metrics.jsonl, without reading the others; None if there is none.

        Raises:
            RunError: it is not as tiedexp writes it.
        """
        path = self.inside("metrics.jsonl")
        line, end, _ = read_start(path, MAX_LINE_BYTES).partition("\n") if path.is_file() else ("", "", "")
        place = f"{path}, line 1,"
        return check_record(EpochLine, parse_json(line, place), place) if end else None

    def read_metrics(self) -> list[EpochLine]:
        """The epochs of metrics.jsonl, in order; a last line that was cut off is left out.

        Raises:
            RunError: a line is not as tiedexp writes it.
        """
        path = self.inside("metrics.jsonl")
        if not path.is_file():
            return []
        lines = read_text(path, MAX_METRICS_BYTES, errors="replace").splitlines(keepends=True)
        epochs = []
        for number, line in enumerate(lines, 1):
            try:
                content = parse_json(line, f"{path}, line {number}")
            except RunError:
                if not line.endswith("\n"):
                    break
                raise
            epochs.append(check_record(EpochLine, content, f"{path}, line {number},"))
        return epochs


def _dump_line(line: EpochLine) -> str:
    return json.dumps(line.as_json()) + "\n"


def _open_own(path: Path, flags: int) -> int:
    """Open a file that will be written into; nothing in it is changed yet.

    Raises:
        RunError: it is not a regular file, or has another name, under which it may be anybody's.
        OSError: it cannot be opened, or is a symbolic link.
    """
    descriptor = os.open(path, flags | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o644)
    if _is_ours(descriptor):
        return descriptor
    is_regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
    os.close(descriptor)
    if is_regular:
        raise RunError(f"{path} is a hard link to a file that has another name too; it is not written, delete it")
    raise RunError(f"{path} is not a regular file; delete it")


def _is_ours(descriptor: int) -> bool:
    """Whether it is a regular file that has no second name."""
    found = os.fstat(descriptor)
    return stat.S_ISREG(found.st_mode) and found.st_nlink <= 1


def _is_still_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except FileNotFoundError:
        return False


def _clear_directory(top: Path, directories: Sequence[str], patterns: Sequence[str]) -> None:
    """Delete files of some patterns in some directories, and each directory that is then empty. No link is followed."""
    for directory in (top / name for name in directories):
        if directory.is_dir() and not directory.is_symlink():
            for path in (path for pattern in patterns for path in directory.glob(pattern)):
                _unlink(path)
            with suppress(OSError):  # something else is in it
                directory.rmdir()


def _unlink(path: Path) -> None:
    """Delete a file or link; a directory is not ours."""
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)


def _read_holder(descriptor: int) -> str | None:
    """What a process wrote into the lock: None if nothing, or nothing that one of ours would write."""
    text = os.pread(descriptor, 200, 0).decode(errors="replace").strip()
    return text if _HOLDER.fullmatch(text) else None


def _lock_exclusively(descriptor: int) -> None:
    """BlockingIOError if another process holds the lock for longer than `is_locked` does to look."""
    for _ in range(5):
        with suppress(BlockingIOError):
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        time.sleep(0.02)
    return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _find_runs_below(path: Path) -> list[Path]:
    try:
        found = sorted(file.parent for depth in ("*", "*/*") for file in path.glob(f"{depth}/manifest.json"))
        return [directory for directory in found if RunDirectory(directory).is_run]
    except OSError:  # an entry that cannot be looked at
        return []
