"""How long an experiment's training will take, measured on a few of its steps."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from tiedexp.spec.schema import ExperimentSpec

WARM_UP = 2  # calls that do not count: the first one compiles


@dataclass(frozen=True)
class StepTime:
    """How fast an experiment trains.

    Args:
        step: seconds per training step.
        steps_per_epoch: training steps per epoch.
        start: seconds until the first step was done.
    """

    step: float
    steps_per_epoch: int
    start: float


def time_steps(
    spec: ExperimentSpec, *, data_dir: Path | None, threads: int | None = None, seconds: float = 1.0
) -> StepTime:
    """Train for a few steps and discard them; nothing is written.

    Args:
        spec: the experiment.
        data_dir: TFDS data directory.
        threads: see `run_experiment`.
        seconds: how long to measure.

    Raises:
        DatasetError: the data is missing or damaged.
        RunError: the device lacks memory or an operation.
    """
    # Imported here, so that a process that only receives a `StepTime` does not load TensorFlow.
    from tiedexp.experiment.assembly import assemble
    from tiedexp.training.trainer import EpochSums

    begin = time.perf_counter()
    parts = assemble(spec, data_dir=data_dir, threads=threads)
    trainer, limit = parts.trainer, parts.steps_per_epoch
    trainer.run_steps(0, EpochSums(), 1)
    start = time.perf_counter() - begin
    trainer.run_steps(0, EpochSums(), min(WARM_UP, limit))
    times: list[float] = []
    spent = 0.0
    while spent < seconds or len(times) < 3:
        timed = trainer.run_steps(0, EpochSums(), min(max(1, len(times)), limit))
        times.append(timed.seconds / timed.steps)
        spent += timed.seconds
    return StepTime(min(times), limit, start)
