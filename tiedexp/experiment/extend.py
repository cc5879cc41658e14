"""A finished run trained for longer, as a run of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tiedexp.errors import RunError, SpecError
from tiedexp.experiment.observer import RunObserver
from tiedexp.experiment.preparation import describe_spec, locate_run, rerun_source
from tiedexp.experiment.run import run_experiment
from tiedexp.runs.directory import RunDirectory
from tiedexp.runs.records import ParentRecord
from tiedexp.spec.loading import dump_spec, load_spec
from tiedexp.spec.schema import ExperimentSpec
from tiedexp.training.checkpoint import CheckpointStore


def extend_run(
    run: RunDirectory,
    epochs: int,
    *,
    root: Path | None = None,
    data_dir: Path | None = None,
    allow_inexact: bool = False,
    should_stop: Callable[[], bool] = lambda: False,
    observer: RunObserver | None = None,
) -> RunDirectory:
    """Go on from the end of a finished run to more epochs, in a new run that names it as its parent.

    Where the schedule does not look at the number of epochs the new run is the one that asked for so many at first, to
    the bit, and has its place. A cosine does: then the new run has another name, and its rate goes on where a cosine of
    so many epochs would be, which is higher than where the parent's ended.

    Args:
        run: a finished run; it stays as it is.
        epochs: of the new run, those of the parent included.
        root: directory of all runs; by default the one the run is in.
        data_dir: TFDS data directory; None for the one the run was trained with.
        allow_inexact: as in `run_experiment`.
        should_stop: as in `run_experiment`.
        observer: is told what happens.

    Raises:
        RunError: the run is not finished, or has stopped early.
        SpecError: `epochs` is not more than the run has.
    """
    spec, result = load_spec(run.spec, allow_extends=False), run.read_result()
    if epochs <= spec.training.epochs:
        raise SpecError(f"the run has {spec.training.epochs} epochs; --epochs must be more. Received: {epochs}")
    if result.stopped_early:
        raise RunError(
            f"{run.path} stopped early, after epoch {result.epochs} of {spec.training.epochs}: more epochs change "
            "nothing; train a spec with another training.early_stopping"
        )
    longer = lengthen_spec(spec, epochs)
    root = root or run.path.resolve().parent.parent
    source = rerun_source(run, spec, data_dir)
    source.check()
    target = locate_run(longer, root)
    with target.lock():
        if not target.inside("manifest.json").exists():
            _seed(target, longer, run)
    return run_experiment(
        longer,
        root=root,
        data_dir=source.data_dir,
        allow_inexact=allow_inexact,
        should_stop=should_stop,
        observer=observer,
    )


def is_same_as_from_start(spec: ExperimentSpec) -> bool:
    """Whether training on to more epochs gives what asking for them at first would have given."""
    return spec.training.schedule.name != "cosine"


def lengthen_spec(spec: ExperimentSpec, epochs: int) -> ExperimentSpec:
    """The spec of so many epochs; with another name if it is not what training it from the start would give."""
    content: dict[str, Any] = spec.model_dump()
    content["training"]["epochs"] = epochs
    if not is_same_as_from_start(spec):
        ending = f"-from-{spec.training.epochs}"
        content["name"] = spec.name[: 80 - len(ending)] + ending
    return ExperimentSpec.model_validate(content)


def _seed(target: RunDirectory, spec: ExperimentSpec, parent: RunDirectory) -> None:
    """Fill a new run with all that its parent had at its end; the manifest last, without which the rest is nothing."""
    target.clear()
    target.write_spec(dump_spec(spec))
    target.rewrite_metrics(parent.read_metrics())
    target.copy_series(parent)
    target.copy_initial_kernel(parent)
    result, manifest = parent.read_result(), parent.read_manifest()
    kept = sorted({result.best_epoch, result.epochs})
    CheckpointStore(target.checkpoints).copy(CheckpointStore(parent.checkpoints), kept)
    about = ParentRecord(
        run=str(parent.path.resolve()),
        epochs=result.epochs,
        fingerprint=manifest.data.fingerprint,
        same_as_from_start=is_same_as_from_start(spec),
    )
    target.write_manifest(manifest.model_copy(update={"spec": describe_spec(spec), "parent": about}))
