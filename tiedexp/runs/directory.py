"""A run on disk: where it is, what its files hold, and where it stands.

    <root>/<name>-<digest>/seed-<n>/
      spec.yaml  manifest.json  initial_kernel.h5  metrics.jsonl  checkpoints/  result.json  tensorboard/
      log.txt  tags.json  failure.json  .lock  .seal

`result.json` exists if and only if the run has finished, and `failure.json` if its last attempt failed. `log.txt` is
what a run of a sweep printed. `initial_kernel.h5` is the kernel of one convolution before the first step. `.seal` lets
the user who trained the run evaluate it without naming its data again (see `tiedexp.runs.seal`). People pass run
directories around, so whatever is read from one stays inside it: a link that leads out is refused.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from tiedexp.errors import RunError, RunLockedError
from tiedexp.files import checkpoint_names
from tiedexp.files.atomic import delete_file, remove_unfinished, replace_file, write_text
from tiedexp.files.bounded import find_inside, parse_json, read_json, read_start, read_text
from tiedexp.files.in_place import open_in_place
from tiedexp.runs.contents import check_contents, clear_contents, delete_contents
from tiedexp.runs.lock import LOCK, hold_lock, is_locked, names_holder
from tiedexp.runs.manifest import MANIFEST_FORMAT
from tiedexp.runs.records import EpochLine, Failure, Manifest, Record, Result, check_record

RunStateName = Literal["finished", "running", "failed", "unfinished", "missing"]

MAX_JSON_BYTES = 16 * 2**20
MAX_LINE_BYTES = 2**16
MAX_METRICS_BYTES = 64 * 2**20  # one line per epoch, of which there may be 100,000
_MARKS = ("manifest.json", "failure.json", "spec.yaml")  # a run that has started has one of these
_LOCATION = re.compile(r".+-[0-9a-f]{10}/seed-\d+", re.ASCII)  # where tiedexp puts a run


def find_runs_root(root: Path | None) -> Path:
    """The directory of all runs: the given one, or $TIEDEXP_RUNS, or ./runs."""
    return root or Path(os.environ.get("TIEDEXP_RUNS") or "runs")


class RunDirectory:
    """The directory of one run; nothing is made or read until a method is called.

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
            RunError: there is no run at that path; the message says what is expected.
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
            run.read_manifest()  # raises an error that says what is wrong with it
        return run

    @property
    def is_run(self) -> bool:
        """Whether this is a run. This is the only answer to that question, for whatever lists, compares or deletes.

        The names of its files are not enough: other programs have a manifest.json, too. Either the directory is where
        tiedexp puts runs, or one of the files is as tiedexp writes it, even if the others are damaged.
        """
        if not any(os.path.isfile(self.path / name) for name in _MARKS):  # noqa: PTH113 (pathlib's may raise)
            return False
        signs: tuple[Callable[[], Any], ...] = (
            self.read_first_epoch,
            self._looks_like_a_manifest,
            self._looks_like_a_failure,
            self.read_result,
            lambda: names_holder(self.path),  # a process that was killed while it loaded has written nothing else
        )
        return bool(_LOCATION.fullmatch("/".join(self.path.absolute().parts[-2:]))) or any(map(_holds, signs))

    def _looks_like_a_manifest(self) -> bool:
        content = self.read_json("manifest.json")
        versions = content.get("versions")
        if isinstance(content.get("format"), int) and isinstance(versions, dict) and "tiedexp" in versions:
            return True  # even if this version does not understand the rest
        check_record(Manifest, content, self.path)
        return True

    def _looks_like_a_failure(self) -> bool:
        return not self._read(Failure, "failure.json").model_extra

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
        """The kernel of the first tied convolution, or else of the first convolution, before the first step.

        Runs of older versions do not have it, nor do runs whose kernel is too large for a picture.
        """
        return self.inside("initial_kernel.h5")

    @property
    def spec(self) -> Path:
        """The resolved spec."""
        return self.inside("spec.yaml")

    def inside(self, name: str) -> Path:
        """The path of a name in this run; RunError if a link leads out of the run, or nowhere."""
        return find_inside(self.path, name, "the run directory")

    def check_entries(self) -> None:
        """RunError if the run holds something that no run holds (see `check_tree`)."""
        check_contents(self.path)

    # State

    @property
    def started(self) -> bool:
        """Whether training has started: there is a manifest."""
        return self.inside("manifest.json").is_file()

    @property
    def finished(self) -> bool:
        """Whether the run has finished: there is a result."""
        return self.inside("result.json").is_file()

    @property
    def failed(self) -> bool:
        """Whether the last attempt failed: there is a failure.json."""
        return self.inside("failure.json").is_file()

    @property
    def state(self) -> RunStateName:
        """Where the run stands, by what is on disk."""
        if self.finished:
            return "finished"
        if self.is_locked():
            return "running"
        if self.failed:
            return "failed"
        return "unfinished" if self.started else "missing"

    def is_locked(self) -> bool:
        """Whether a process is in the run now; nothing is written to find out."""
        return is_locked(self.path)

    @contextmanager
    def lock(self) -> Iterator[str | None]:
        """Make the directory and keep every other process out of it (see `hold_lock`)."""
        with hold_lock(self.path) as left:
            yield left

    # Deleting

    def clear(self) -> None:
        """Delete what training wrote here, and nothing else."""
        clear_contents(self.path)

    def delete(self) -> tuple[str, ...]:
        """Delete the run, and its directory and experiment's directory if nothing else is in them.

        Returns:
            The names of what is left in its directory, which tiedexp did not write.

        Raises:
            RunError: another process is in it.
        """
        with self.lock():
            self.remove_unfinished()
            delete_contents(self.path)
            delete_file(self.path / LOCK)
        for directory in (self.path, self.path.parent):
            with suppress(OSError):  # something else is in it
                directory.rmdir()
        with suppress(FileNotFoundError), os.scandir(self.path) as entries:
            return tuple(sorted(entry.name for entry in entries))
        return ()

    def remove_empty(self) -> None:
        """Delete the run if it has only the log of a process that was stopped while it loaded."""
        if self.path.is_dir() and {entry.name for entry in self.path.iterdir()} <= {"log.txt", LOCK}:
            with suppress(RunLockedError):
                self.delete()

    def remove_unfinished(self) -> None:
        """Delete the temporary files of a process that was killed; only under the lock."""
        remove_unfinished(self.path)

    def remove_failure(self) -> None:
        """Delete failure.json, when the run is resumed."""
        self.inside("failure.json").unlink(missing_ok=True)

    # Writing

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
        """Make the directory, and open log.txt in it for appending; returns the file's descriptor."""
        self.path.mkdir(parents=True, exist_ok=True)
        return open_in_place(self.path / "log.txt", os.O_WRONLY | os.O_APPEND)

    def write_failure(self, message: str) -> None:
        """Write failure.json, which says why the run failed; the next attempt deletes it."""
        self.write_json("failure.json", Failure(error=message, time=datetime.now().astimezone().isoformat()).as_json())

    def append_metrics(self, line: EpochLine) -> None:
        """Append an epoch to metrics.jsonl."""
        descriptor = open_in_place(self.inside("metrics.jsonl"), os.O_WRONLY | os.O_APPEND)
        with os.fdopen(descriptor, "a", encoding="utf-8") as file:
            file.write(_dump_line(line))
            file.flush()
            os.fsync(file.fileno())

    def rewrite_metrics(self, lines: Iterable[EpochLine]) -> None:
        """Replace all of metrics.jsonl, when a run resumes from an earlier epoch."""
        write_text(self.inside("metrics.jsonl"), "".join(map(_dump_line, lines)))

    def copy_series(self, other: RunDirectory) -> None:
        """Copy the TensorBoard series of training and validation from another run."""
        for split in ("train", "validation"):
            for path in sorted((other.tensorboard / split).glob("events.out.tfevents.*")):
                if path.is_file() and not path.is_symlink():
                    (self.tensorboard / split).mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(path, self.tensorboard / split / path.name)

    def copy_initial_kernel(self, other: RunDirectory) -> None:
        """Copy the kernel before training from another run, if that has it."""
        if other.initial_kernel.is_file():
            with replace_file(self.initial_kernel) as unfinished:
                shutil.copyfile(other.initial_kernel, unfinished)

    # Reading

    def read_json(self, name: str) -> dict[str, Any]:
        """The content of a JSON file.

        Raises:
            RunError: it does not exist, is too large, or is not a JSON object.
        """
        path = self.inside(name)
        content = read_json(path, MAX_JSON_BYTES)
        if not isinstance(content, dict):
            raise RunError(f"{path} is not a JSON object")
        return content

    def read_manifest(self) -> Manifest:
        """The content of manifest.json.

        Raises:
            RunError: it cannot be read, is not as tiedexp writes it, or a newer tiedexp wrote it.
        """
        content = self.read_json("manifest.json")
        self._refuse_newer(content)
        return check_record(Manifest, content, self.path / "manifest.json")

    def check_format(self) -> None:
        """RunError if a newer tiedexp wrote this run; a run that has not started passes."""
        if self.started:
            self._refuse_newer(self.read_json("manifest.json"))

    def _refuse_newer(self, manifest: Mapping[str, Any]) -> None:
        found = manifest.get("format")
        if isinstance(found, int) and found > MANIFEST_FORMAT:
            raise RunError(
                f"{self.path} was written by a newer tiedexp (format {found}; this one knows {MANIFEST_FORMAT}): "
                "update tiedexp to use it"
            )

    def read_result(self) -> Result:
        """The content of result.json; RunError if it is not as tiedexp writes it."""
        return self._read(Result, "result.json")

    def read_failure(self) -> str:
        """Why the last attempt failed; RunError if failure.json is not as tiedexp writes it."""
        return self._read(Failure, "failure.json").error

    def _read(self, kind: type[Record], name: str) -> Record:
        return check_record(kind, self.read_json(name), self.path / name)

    def read_first_epoch(self) -> EpochLine | None:
        """The first line of metrics.jsonl, without reading the others; None if there is none.

        Raises:
            RunError: it is not as tiedexp writes it.
        """
        path = self.inside("metrics.jsonl")
        line, end, _ = read_start(path, MAX_LINE_BYTES).partition("\n") if path.is_file() else ("", "", "")
        source = f"{path}, line 1,"
        return check_record(EpochLine, parse_json(line, source), source) if end else None

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


def _holds(sign: Callable[[], Any]) -> bool:
    """Whether a sign of a run is there; what cannot be read is not one."""
    try:
        return bool(sign())
    except RunError:
        return False


def _find_runs_below(path: Path) -> list[Path]:
    try:
        found = sorted(file.parent for depth in ("*", "*/*") for file in path.glob(f"{depth}/manifest.json"))
        return [directory for directory in found if RunDirectory(directory).is_run]
    except OSError:  # an entry cannot be read
        return []
