"""Who watches a sweep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from tiedexp.sweep.plan import SweepPlan, SweepRun
from tiedexp.sweep.worker import Progress


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


@dataclass
class Results:
    """What became of the runs that a sweep did, each by its path."""

    finished: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    interrupted: bool = False
