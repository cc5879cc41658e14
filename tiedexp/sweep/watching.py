"""Who watches a sweep, and what is kept of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from tiedexp.runs.directory import RunDirectory
from tiedexp.sweep.planning import SweepPlan, SweepRun
from tiedexp.sweep.worker import Outcome, Progress


class Watcher:
    """Told what a sweep does, to show it; this one is silent."""

    def begins(self, plan: SweepPlan, todo: Sequence[SweepRun], workers: str) -> None:
        """The runs in `todo` are about to be done; `workers` says by whom."""

    def started(self, run: SweepRun) -> None:
        """A run has a worker."""

    def progressed(self, run: SweepRun, progress: Progress) -> None:
        """A run is somewhere else."""

    def waits(self, run: SweepRun) -> None:
        """Another process is in a run; it is looked at again later."""

    def retries(self, run: SweepRun, message: str) -> None:
        """A run failed, and is tried again."""

    def finished(self, run: SweepRun, accuracy: float | None) -> None:
        """A run has its result."""

    def failed(self, run: SweepRun, message: str) -> None:
        """A run failed for good."""

    def refresh(self) -> None:
        """Called a few times a second while runs are going on."""


class Ledger:
    """Keeps what became of each run, and says which are to be tried again.

    Args:
        retries: further attempts of a run that failed and may do better.
        watcher: is told.
    """

    def __init__(self, retries: int, watcher: Watcher):
        self.results = Results()
        self._retries, self._watcher = retries, watcher
        self._failures: Counter[str] = Counter()
        self._unwritten: list[tuple[RunDirectory, str]] = []

    def note(self, run: SweepRun, outcome: Outcome) -> bool:
        """Note how an attempt ended.

        Returns:
            whether the run is to be done once more.
        """
        if outcome.kind == "finished":
            self.results.finished.append(run.path)
            self._watcher.finished(run, outcome.accuracy)
            return False
        if outcome.kind == "locked":
            self._watcher.waits(run)
            return True
        self._failures[run.path] += 1
        if outcome.may_retry and self._failures[run.path] <= self._retries:
            self._watcher.retries(run, outcome.message)
            return True
        self.results.failed[run.path] = outcome.message
        self._unwritten.append((run.directory, outcome.message))
        self.write_failures()
        self._watcher.failed(run, outcome.message)
        return False

    def write_failures(self) -> None:
        """Write why runs failed into their directories: they may have been killed before they could.

        Where the disk is full, once more at the next failure and at the end, when others may have left room.
        """
        left = []
        for directory, message in self._unwritten:
            try:
                directory.write_failure(message)
            except OSError:
                left.append((directory, message))
        self._unwritten = left


@dataclass
class Results:
    """What became of the runs that a sweep did, each by its path."""

    finished: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    interrupted: bool = False
