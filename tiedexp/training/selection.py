"""Which epoch is the best, and when to stop: state that a checkpoint keeps, as plain JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, Self


@dataclass(frozen=True)
class BestEpoch:
    """The best epoch so far by validation accuracy, then by loss; without validation always the last.

    Args:
        epoch: its number, from 1; 0 before the first.
        accuracy: validation accuracy, None without validation.
        loss: validation loss, None without validation.
    """

    epoch: int = 0
    accuracy: float | None = None
    loss: float | None = None

    def update(self, epoch: int, accuracy: float | None, loss: float | None) -> BestEpoch:
        """The best of this and one more epoch; the earlier one where they are equal."""
        candidate = BestEpoch(epoch, accuracy, loss)
        if self.accuracy is None or self.loss is None or accuracy is None or loss is None:
            return candidate
        return candidate if (accuracy, -loss) > (self.accuracy, -self.loss) else self

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self)


@dataclass(frozen=True)
class EarlyStopping:
    """Stops a training whose metric has not improved by more than `min_delta` for `patience` epochs.

    Args:
        metric: accuracy or loss, of validation.
        patience: epochs.
        min_delta: what counts as an improvement is larger.
        best: the value to beat, None before the first epoch.
        waited: epochs since it was set.
    """

    metric: str
    patience: int
    min_delta: float = 0.0
    best: float | None = None
    waited: int = 0

    def update(self, accuracy: float, loss: float) -> Self:
        """One epoch more."""
        value = accuracy if self.metric == "accuracy" else -loss
        if self.best is None or value > self.best + self.min_delta:
            return replace(self, best=value, waited=0)
        return replace(self, waited=self.waited + 1)

    @property
    def stops(self) -> bool:
        """Whether patience is at its end."""
        return self.waited >= self.patience

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self)
