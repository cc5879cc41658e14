"""What is left of a sweep, in time and on disk, before it runs."""

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

START_SECONDS = 0.1  # of a process that is forked
LOG_BYTES = 300_000  # TensorBoard's log, metrics, manifest
CHECKPOINTS = 3  # that a run keeps: the last two and the best
SLOTS = {"sgd": 1, "lion": 1, "adam": 2, "adamw": 2}  # numbers that an optimizer keeps for each weight


@dataclass(frozen=True)
class Estimate:
    """Of one run: its seconds, what it adds to the sweep's with others beside it, and bytes; None is unknown."""

    seconds: float | None
    wall_seconds: float | None
    bytes: int


def estimate_runs(
    plan: SweepPlan, chosen: Sequence[SweepRun], data_dir: Path | None, jobs: int | None
) -> Mapping[str, Estimate]:
    """An estimate of each run, by its path.

    The time is that of earlier runs of the variant, or else comes from a few steps of it, which are trained for this
    and thrown away.

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
    """Refuse a sweep that is larger than the disk has room for.

    Raises:
        RunError: says how much is needed, and where.
    """
    sizes: dict[str, int] = {}
    needed = 0
    for run in todo:
        if run.spec.name not in sizes:
            sizes[run.spec.name] = _estimate_bytes(run.spec, data_dir)
        needed += max(0, sizes[run.spec.name] - _count_bytes(run.directory.path))
    location = next(path for path in (plan.directory.path, *plan.directory.path.absolute().parents) if path.is_dir())
    free = shutil.disk_usage(location).free
    if needed > free:
        raise RunError(
            f"the {len(todo)} runs need about {needed / 1e6:,.0f} MB, but {location} has {free / 1e6:,.0f} MB free; "
            "--runs names another location, --only fewer runs"
        )


def _count_bytes(directory: Path) -> int:
    """What the files of a directory take already."""
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file() and not path.is_symlink())


def measure_step_with(data_dir: Path | None) -> MeasureStep:
    """A function that times a training step of an experiment, in a process of its own, in seconds."""

    def measure(spec: ExperimentSpec) -> float:
        return time_steps_of([Task(spec, Path(), data_dir)], jobs=1)[0].step

    return measure


def _read_times(runs: Sequence[SweepRun]) -> dict[str, float]:
    """Seconds of the finished runs, by variant."""
    times: dict[str, list[float]] = {}
    for run in runs:
        if run.directory.finished:
            times.setdefault(run.spec.name, []).append(_read_seconds(run.directory))
    return {name: statistics.median(values) for name, values in times.items()}


def _read_seconds(run: RunDirectory) -> float:
    return run.read_result().seconds


def _estimate_bytes(spec: ExperimentSpec, data_dir: Path | None) -> int:
    weights = plan_experiment(spec, data_dir=data_dir).cost.unique_weights
    return LOG_BYTES + CHECKPOINTS * 4 * weights * (1 + SLOTS[spec.training.optimizer.name])
