"""The checkpoints that a run keeps: which ones, and how a message says which was the last."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tiedexp.experiment.state import RunState
from tiedexp.training.checkpoint import CheckpointStore

if TYPE_CHECKING:
    import keras

RESUME = "the same command resumes the run"


class Saver:
    """Writes the checkpoints of a run and deletes those that are no longer needed.

    The last two of epochs, that of the best epoch, and the last two of steps are kept.

    Args:
        store: where they are.
        model: the model, compiled with its optimizer.
        steps_per_epoch: training steps per epoch.
    """

    def __init__(self, store: CheckpointStore, model: keras.Model, steps_per_epoch: int):
        self._store, self._model, self._steps_per_epoch = store, model, steps_per_epoch
        self.saved: RunState | None = None  # the state of the newest checkpoint

    def save(self, state: RunState) -> RunState:
        """Write the checkpoint of a state, and return the state with it noted.

        Raises:
            RunError: it cannot be written; the earlier checkpoints stay.
        """
        step = state.sums.steps
        self._store.save(state.epoch, self._model, state.as_dict(), step=step)
        state = replace(state, kept=(*state.kept[-1:], step) if step else ())
        self.keep(state)
        return state

    def keep(self, state: RunState) -> None:
        """Note that a state has a checkpoint, and delete all checkpoints that it does not need."""
        epochs = {state.epoch, state.epoch - 1, state.best.epoch}
        self._store.prune({*((epoch, 0) for epoch in epochs), *((state.epoch, step) for step in state.kept)})
        self.saved = state

    def describe(self, advice: str = RESUME) -> str:
        """Which checkpoint is the newest, and what to do with it."""
        state = self.saved
        if state is None:
            nothing = f"no epoch was completed, so there is no checkpoint in {self._store.directory.parent}"
            return nothing if advice is RESUME else f"{nothing}; {advice}"
        what = f"the checkpoint of epoch {state.epoch}"
        if state.kept:
            what = f"the checkpoint of step {state.kept[-1]} of {self._steps_per_epoch} of epoch {state.epoch + 1}"
        return f"{what} is kept in {self._store.directory}; {advice}"
