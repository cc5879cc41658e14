"""The state of a run, which its checkpoints store beside the weights."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, model_validator

from tiedexp.errors import RunError
from tiedexp.runs.records import EpochLine, check_record
from tiedexp.training.checkpoint import Checkpoint
from tiedexp.training.selection import BestEpoch, EarlyStopping
from tiedexp.training.trainer import EpochSums


@dataclass(frozen=True)
class RunState:
    """How far a run is.

    Args:
        epoch: completed epochs.
        best: the best of them.
        stopping: the state of early stopping; None if there is none.
        seconds: training time of all completed epochs.
        line: the line of metrics.jsonl of the last completed epoch; None before the first.
        sums: the sums over the completed steps of the next epoch.
        kept: the steps of the next epoch that have a checkpoint.
    """

    epoch: int
    best: BestEpoch
    stopping: EarlyStopping | None
    seconds: float = 0.0
    line: EpochLine | None = None
    sums: EpochSums = field(default_factory=EpochSums)
    kept: tuple[int, ...] = ()

    @property
    def stops(self) -> bool:
        """Whether early stopping ends the run here."""
        return self.stopping is not None and self.stopping.stops

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON for a checkpoint."""
        return {
            "best": self.best.as_dict(),
            "stopping": None if self.stopping is None else self.stopping.as_dict(),
            "metrics": None if self.line is None else self.line.as_json(),
            "sums": _dump_sums(self.sums) if self.sums.steps else None,
        }


class _Sums(BaseModel):
    model_config = ConfigDict(frozen=True)

    loss: FiniteFloat
    hits: Annotated[int, Field(ge=0, lt=2**53)]
    seconds: Annotated[FiniteFloat, Field(gt=0)]
    timed_steps: Annotated[int, Field(ge=0, lt=2**31)]
    timed_seconds: Annotated[FiniteFloat, Field(ge=0)]
    gradient_norms: str | None

    @model_validator(mode="after")
    def _timed_steps_take_time(self) -> Self:
        if self.timed_steps and not self.timed_seconds:
            raise ValueError("timed_steps took no time")
        return self


class _State(BaseModel):
    model_config = ConfigDict(frozen=True)

    best: BestEpoch
    stopping: EarlyStopping | None
    metrics: EpochLine | None
    sums: _Sums | None


def load_state(checkpoint: Checkpoint) -> RunState:
    """The state in a checkpoint, without `seconds`; RunError if it is not as a run writes it."""
    state = check_record(_State, checkpoint.state, checkpoint.weights)
    if (state.metrics is None) != (checkpoint.epoch == 0) or (state.sums is None) != (checkpoint.step == 0):
        raise RunError(
            f"{checkpoint.weights} is not as tiedexp writes it: its state does not belong to its epoch and step"
        )
    return RunState(
        checkpoint.epoch,
        state.best,
        state.stopping,
        line=state.metrics,
        sums=EpochSums() if state.sums is None else _load_sums(checkpoint.step, state.sums, checkpoint.weights),
        kept=(checkpoint.step,) if checkpoint.step else (),
    )


def _dump_sums(sums: EpochSums) -> dict[str, Any]:
    norms = sums.gradient_norms
    return {
        "loss": sums.loss,
        "hits": sums.hits,
        "seconds": sums.seconds,
        "timed_steps": sums.timed_steps,
        "timed_seconds": sums.timed_seconds,
        "gradient_norms": None if norms is None else base64.b64encode(norms.astype("<f4").tobytes()).decode(),
    }


def _load_sums(steps: int, sums: _Sums, place: Path) -> EpochSums:
    norms = None
    if sums.gradient_norms is not None:
        try:
            norms = np.frombuffer(base64.b64decode(sums.gradient_norms), dtype="<f4").astype(np.float32)
            norms = norms.reshape(steps, -1)
        except ValueError as error:
            raise RunError(f"{place} is not as tiedexp writes it: its gradient norms: {error}") from error
    return EpochSums(
        steps, sums.loss, sums.hits, sums.seconds, sums.timed_steps, sums.timed_seconds, gradient_norms=norms
    )
