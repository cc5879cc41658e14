"""An estimate of the time and disk space that a sweep needs, before it runs."""

from __future__ import annotations

import shutil
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tiedexp.errors import RunError
from tiedexp.experiment.preparation import plan_experiment
from tiedexp.host import count_cores
from tiedexp.runs.directory import RunDirectory
from tiedexp.spec.schema import ExperimentSpec
from tiedexp.sweep.local import choose_jobs, time_steps_of
from tiedexp.sweep.planning import MeasureStep, SweepPlan, SweepRun
from tiedexp.sweep.worker import Task

START_SECONDS = 0.1  # to fork a process
LOG_BYTES = 300_000  # TensorBoard's log, metrics, manifest
CHECKPOINTS = 3  # kept by a run: the last two and the best


@dataclass(frozen=True)
class Estimate:
    """The estimate for one run; None means unknown.

    Args:
        seconds: that the run takes.
        wall_seconds: that it adds to the sweep, in which other runs are active at the same time.
        bytes: that it takes on disk.
    """

    seconds: float | None
    wall_seconds: float | None
    bytes: int


def estimate_runs(
    plan: SweepPlan, chosen: Sequence[SweepRun], data_dir: Path | None, jobs: int | None
) -> Mapping[str, Estimate]:
    """An estimate for each run, by its path.

    The time is the median of the variant's finished runs; if there are none, it is estimated by training a few steps,
    whose results are thrown away.

    Raises:
        RunError: a variant cannot be trained.
    """
    left = [run for run in chosen if not run.directory.finished]
    jobs = jobs or choose_jobs(max(1, len(left)))
    known = _read_times(plan.runs)
    unknown = {run.spec.name: run for run in left if run.spec.name not in known}
    tasks = [
        Task(run.spec, plan.directory.path, data_dir, threads=max(1, count_cores() // jobs)) for run in unknown.values()
    ]
    for run, times in zip(unknown.values(), time_steps_of(tasks, jobs), strict=True):
        known[run.spec.name] = times.start + run.spec.training.epochs * times.steps_per_epoch * times.step
    estimates = {}
    for run in chosen:
        seconds = known.get(run.spec.name)
        wall = None if seconds is None else (seconds + START_SECONDS) / jobs
        estimates[run.path] = Estimate(seconds, wall, _estimate_bytes(run.spec, data_dir))
    return estimates


def check_disk(plan: SweepPlan, todo: Sequence[SweepRun], data_dir: Path | None) -> None:
    """Refuse a sweep that does not fit on the disk.

    Raises:
        RunError: there is too little free space; the message says how much is needed and where.
    """
    sizes: dict[str, int] = {}
    needed = 0
    for run in todo:
        if run.spec.name not in sizes:
            sizes[run.spec.name] = _estimate_bytes(run.spec, data_dir)
        needed += max(0, sizes[run.spec.name] - _count_bytes(run.directory.path))
    folder = next(path for path in (plan.directory.path, *plan.directory.path.absolute().parents) if path.is_dir())
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise RunError(
            f"the {len(todo)} runs need about {needed / 1e6:,.0f} MB, but {folder} has {free / 1e6:,.0f} MB free; "
            "choose another directory with --runs, or fewer runs with --only"
        )


def _count_bytes(directory: Path) -> int:
    """The size of the files that are in a directory already."""
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file() and not path.is_symlink())


def measure_step_with(data_dir: Path | None) -> MeasureStep:
    """A function that measures a training step of an experiment, in seconds, in a process of its own."""

    def measure(spec: ExperimentSpec) -> float:
        return time_steps_of([Task(spec, Path(), data_dir)], jobs=1)[0].step

    return measure


def _read_times(runs: Sequence[SweepRun]) -> dict[str, float]:
    """The median seconds of the finished runs, by variant."""
    times: dict[str, list[float]] = {}
    for run in runs:
        if run.directory.finished:
            times.setdefault(run.spec.name, []).append(_read_seconds(run.directory))
    return {name: statistics.median(values) for name, values in times.items()}


def _read_seconds(run: RunDirectory) -> float:
    return run.read_result().seconds


def _estimate_bytes(spec: ExperimentSpec, data_dir: Path | None) -> int:
    weights = plan_experiment(spec, data_dir=data_dir).cost.unique_weights
    return LOG_BYTES + CHECKPOINTS * 4 * weights * (1 + spec.training.optimizer.slots)
