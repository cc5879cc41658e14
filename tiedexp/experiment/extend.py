"""Train a finished run for longer, as a new run."""

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
    """Continue from the end of a finished run to more epochs, in a new run that names the old one as its parent.

    If the schedule does not depend on the number of epochs, the new run is the same, to the bit, as training that many
    epochs from scratch, and has the same path. A cosine depends on it: then the new run has another name, and its
    learning rate continues on a cosine over the new number of epochs, which is higher than where the parent ended.

    Args:
        run: a finished run; it is not changed.
        epochs: the epochs of the new run, including those of the parent.
        root: the directory of all runs; by default the one that holds the run.
        data_dir: TFDS data directory; None for the one that the run was trained with.
        allow_inexact: see `run_experiment`.
        should_stop: see `run_experiment`.
        observer: called with what happens.

    Raises:
        RunError: the run is not finished, or it stopped early.
        SpecError: `epochs` is not larger than the run's.
    """
    spec, result = load_spec(run.spec, allow_extends=False), run.read_result()
    if epochs <= spec.training.epochs:
        raise SpecError(f"the run has {spec.training.epochs} epochs; --epochs must be larger. Received: {epochs}")
    if result.stopped_early:
        raise RunError(
            f"{run.path} stopped early, after epoch {result.epochs} of {spec.training.epochs}, so more epochs change "
            "nothing; train a spec with another training.early_stopping"
        )
    longer = lengthen_spec(spec, epochs)
    root = root or run.path.resolve().parent.parent
    source = rerun_source(run, spec, data_dir)
    source.check()
    target = locate_run(longer, root)
    with target.lock():
        if not target.started:
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
    """Whether extending a run to more epochs gives the same result as training that many from scratch."""
    return spec.training.schedule.name != "cosine"


def lengthen_spec(spec: ExperimentSpec, epochs: int) -> ExperimentSpec:
    """The spec with more epochs, and with another name if the result differs from training them from scratch."""
    content: dict[str, Any] = spec.model_dump()
    content["training"]["epochs"] = epochs
    if not is_same_as_from_start(spec):
        ending = f"-from-{spec.training.epochs}"
        content["name"] = spec.name[: 80 - len(ending)] + ending
    return ExperimentSpec.model_validate(content)


def _seed(target: RunDirectory, spec: ExperimentSpec, parent: RunDirectory) -> None:
    """Copy the final state of the parent into a new run; the manifest last, without which the rest does not count."""
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
