"""Who watches a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tiedexp.data.sources import Dataset
    from tiedexp.experiment.preparation import Plan
    from tiedexp.runs.directory import RunDirectory
    from tiedexp.runs.records import EpochLine, Result
    from tiedexp.training.trainer import Progress


class RunObserver:
    """Told what a run does, to show it; this one is silent."""

    def planned(self, plan: Plan, run: RunDirectory, device: str, dataset: Dataset, sizes: Mapping[str, int]) -> None:
        """Everything is loaded and training begins; `sizes` has the images of each split."""

    def resumed(self, epochs_done: int, steps_done: int) -> None:
        """The run goes on after an earlier stop, with so many epochs done and so many steps of the next."""

    def warned(self, text: str) -> None:
        """Something the user should know of, and that does not stop the run."""

    def epoch_begins(self, epoch: int, num_steps: int) -> None:
        """An epoch, from 1, of so many steps."""

    def progressed(self, progress: Progress) -> None:
        """Some steps more."""

    def epoch_ends(self, line: EpochLine) -> None:
        """An epoch with its line of metrics.jsonl."""

    def finished(self, run: RunDirectory, result: Result) -> None:
        """The run has its result."""
