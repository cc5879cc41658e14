"""What a run keeps in its checkpoints beside weights."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from tiedexp.runs.records import EpochLine, check_record
from tiedexp.training.checkpoint import Checkpoint
from tiedexp.training.selection import BestEpoch, EarlyStopping


class CheckpointState(BaseModel):
    """The state in a checkpoint.

    Args:
        best: the best epoch so far.
        stopping: early stopping, None where there is none.
        metrics: the line of metrics.jsonl of the checkpoint's epoch.
    """

    model_config = ConfigDict(frozen=True)

    best: BestEpoch
    stopping: EarlyStopping | None
    metrics: EpochLine


def read_state(checkpoint: Checkpoint) -> CheckpointState:
    """The state in a checkpoint; RunError if it is not as a run writes it."""
    return check_record(CheckpointState, checkpoint.state, checkpoint.weights)
