"""Which epoch is the best and when to stop: state that checkpoints store as plain JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, Self


@dataclass(frozen=True)
class BestEpoch:
    """The best epoch so far by validation accuracy, then by loss; without validation, always the last.

    Args:
        epoch: its number, from 1; 0 before the first epoch.
        accuracy: its validation accuracy; None without validation.
        loss: its validation loss; None without validation.
    """

    epoch: int = 0
    accuracy: float | None = None
    loss: float | None = None

    def update(self, epoch: int, accuracy: float | None, loss: float | None) -> BestEpoch:
        """The better of this epoch and a new one; the earlier one if they are equal."""
        candidate = BestEpoch(epoch, accuracy, loss)
        if self.accuracy is None or self.loss is None or accuracy is None or loss is None:
            return candidate
        return candidate if (accuracy, -loss) > (self.accuracy, -self.loss) else self

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self)


@dataclass(frozen=True)
class EarlyStopping:
    """Stops training when the metric has not improved by more than `min_delta` for `patience` epochs.

    Args:
        metric: "accuracy" or "loss", of validation.
        patience: how many epochs to wait for an improvement.
        min_delta: only a larger difference is an improvement.
        best: the value to beat; None before the first epoch.
        waited: epochs since the last improvement.
    """

    metric: str
    patience: int
    min_delta: float = 0.0
    best: float | None = None
    waited: int = 0

    def update(self, accuracy: float, loss: float) -> Self:
        """The state after one more epoch."""
        value = accuracy if self.metric == "accuracy" else -loss
        if self.best is None or value > self.best + self.min_delta:
            return replace(self, best=value, waited=0)
        return replace(self, waited=self.waited + 1)

    @property
    def stops(self) -> bool:
        """Whether training should stop."""
        return self.waited >= self.patience

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self)
