"""How long an experiment's training will take, by a few of its steps."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from tiedexp.experiment.observer import RunObserver
from tiedexp.experiment.preparation import locate_run
from tiedexp.spec.schema import ExperimentSpec

WARM_UP = 2  # calls that do not count: the first compiles


@dataclass(frozen=True)
class StepTime:
    """Seconds of a training step, the steps of an epoch, and the seconds until the first step was done."""

    step: float
    steps_per_epoch: int
    start: float


def time_steps(
    spec: ExperimentSpec, *, data_dir: Path | None, threads: int | None = None, seconds: float = 1.0
) -> StepTime:
    """Train for some steps, and throw them away; nothing is written.

    Args:
        spec: the experiment.
        data_dir: TFDS data directory.
        threads: as in `run_experiment`.
        seconds: time to spend on steps that count.

    Raises:
        DatasetError: no data.
        RunError: the device cannot do it.
    """
    # Here, so that whoever receives a `StepTime` from another process does not load TensorFlow.
    from tiedexp.experiment.run import ExperimentRun
    from tiedexp.training.trainer import EpochSums

    begin = time.perf_counter()
    parts = ExperimentRun(spec, locate_run(spec, Path()), data_dir, threads, RunObserver(), lambda: False)
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
