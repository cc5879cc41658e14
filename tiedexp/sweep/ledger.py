"""The record of how each run of a sweep ended."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from tiedexp.runs.directory import RunDirectory
from tiedexp.sweep.observer import SweepObserver
from tiedexp.sweep.planning import SweepRun
from tiedexp.sweep.worker import Outcome


@dataclass
class Results:
    """How the runs of a sweep ended, each identified by its path."""

    finished: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    interrupted: bool = False


class Ledger:
    """Records how each run ended and decides which runs to try again.

    Args:
        retries: further attempts for a run that failed and might succeed next time.
        observer: is notified of each outcome.
    """

    def __init__(self, retries: int, observer: SweepObserver):
        self.results = Results()
        self._retries, self._observer = retries, observer
        self._failures: Counter[str] = Counter()
        self._unwritten: list[tuple[RunDirectory, str]] = []

    def note(self, run: SweepRun, outcome: Outcome) -> bool:
        """Record how an attempt ended.

        Returns:
            whether to try the run again.
        """
        if outcome.kind == "finished":
            self.results.finished.append(run.path)
            self._observer.finished(run, outcome.accuracy)
            return False
        if outcome.kind == "locked":
            self._observer.waits(run)
            return True
        self._failures[run.path] += 1
        if outcome.may_retry and self._failures[run.path] <= self._retries:
            self._observer.retries(run, outcome.message)
            return True
        self.results.failed[run.path] = outcome.message
        self._unwritten.append((run.directory, outcome.message))
        self.write_failures()
        self._observer.failed(run, outcome.message)
        return False

    def write_failures(self) -> None:
        """Write into each failed run's directory why it failed; a run that was killed could not do so itself.

        If the disk is full, this is tried again at the next failure and at the end, when there may be space.
        """
        left = []
        for directory, message in self._unwritten:
            try:
                directory.write_failure(message)
            except OSError:
                left.append((directory, message))
        self._unwritten = left
