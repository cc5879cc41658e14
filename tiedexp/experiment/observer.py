"""How a run reports what it does."""

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
    """Called by a run with what it does. Subclasses show it; this one does nothing."""

    def planned(self, plan: Plan, run: RunDirectory, device: str, dataset: Dataset, sizes: Mapping[str, int]) -> None:
        """Everything is loaded and training begins; `sizes` is the number of images of each split."""

    def resumed(self, epochs_done: int, steps_done: int) -> None:
        """The run resumes after so many completed epochs and so many steps of the next."""

    def warned(self, text: str) -> None:
        """There is something that the user should know; the run continues."""

    def epoch_started(self, epoch: int, num_steps: int) -> None:
        """An epoch has started; epochs count from 1."""

    def progressed(self, progress: Progress) -> None:
        """Some more steps are done."""

    def epoch_finished(self, line: EpochLine) -> None:
        """An epoch is complete; `line` is its line of metrics.jsonl."""

    def finished(self, run: RunDirectory, result: Result) -> None:
        """The run has its result."""
