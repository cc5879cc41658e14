"""What is shown of a sweep while it runs."""

from __future__ import annotations

from collections.abc import Sequence

from tiedexp.sweep.planning import SweepPlan, SweepRun
from tiedexp.sweep.worker import Progress


class SweepObserver:
    """Is called as a sweep proceeds; subclasses show its progress, and this class shows nothing."""

    def begins(self, plan: SweepPlan, todo: Sequence[SweepRun], workers: str) -> None:
        """The runs in `todo` are about to start; `workers` says how many run at a time, and where."""

    def started(self, run: SweepRun) -> None:
        """A worker has started a run."""

    def progressed(self, run: SweepRun, progress: Progress) -> None:
        """A run has made progress."""

    def waits(self, run: SweepRun) -> None:
        """Another process is working on a run; the sweep checks it again later."""

    def retries(self, run: SweepRun, message: str) -> None:
        """A run failed and will be tried again."""

    def finished(self, run: SweepRun, accuracy: float | None) -> None:
        """A run has its result."""

    def failed(self, run: SweepRun, message: str) -> None:
        """A run failed for good."""

    def refresh(self) -> None:
        """Called a few times a second while runs are active."""
