"""Sweeps to show, which are not trained but only have the files."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from samples import make_evaluation, make_line, make_manifest, make_result, make_split
from samples import write_run as write_files

from tiedexp.runs.directory import RunDirectory
from tiedexp.runs.sweeps import PlannedRun, SweepDirectory, SweepRecord, Variant
from tiedexp.runs.tensorboard import TensorBoardLog

SPEC = {"model": {"depth": 4, "width": 8, "tying": {"pattern": "block"}}}
VARIANTS = ("block", "d4")


def make_record(variants: Sequence[str] = VARIANTS, seeds: Sequence[int] = (0, 1)) -> SweepRecord:
    """A sweep of these patterns."""
    return SweepRecord(
        name="study",
        axes=("model.tying.pattern",),
        variants=tuple(
            Variant(name=name, label=f"{name} d4", settings={"model.tying.pattern": name}, width=8) for name in variants
        ),
        runs=tuple(
            PlannedRun(variant=name, seed=seed, path=f"{name}-0123456789/seed-{seed}")
            for name in variants
            for seed in seeds
        ),
    )


def _write_run(
    run: RunDirectory, accuracies: Sequence[float], test: float | None = None, *, best: int = 1, **changes: object
) -> None:
    """Write what is shown of a run: epochs with these validation accuracies, and a test if it is finished."""
    lines = [
        make_line(
            epoch,
            train=make_split(accuracy / 2, images_per_second=9.0),
            validation=make_split(accuracy, images_per_second=9.0),
        )
        for epoch, accuracy in enumerate(accuracies, 1)
    ]
    result = None
    if test is not None:
        result = make_result(make_evaluation(test, loss=0.5, images=10), best_epoch=best, epochs=len(lines))
    write_files(run.path, make_manifest(**{"spec": SPEC, **changes}), lines, result)
    run.write_spec("name: study\n")
    with TensorBoardLog(run.tensorboard) as log:
        log.layout()
        log.hparams({"pattern": "block"})
        for line in lines:
            log.scalars("train", line.epoch, line.train.as_json())
            log.scalars("validation", line.epoch, line.validation.as_json())


@pytest.fixture
def sweep(tmp_path) -> SweepDirectory:
    """Two patterns and two seeds, of which none is started."""
    directory = SweepDirectory(tmp_path / "runs" / "study")
    directory.write(make_record(), "name: study\n")
    return directory


@pytest.fixture
def shown(sweep) -> dict[str, RunDirectory]:
    """The runs of the sweep by the names under which they are shown."""
    return {f"{planned.variant} d4 s{planned.seed}": run for planned, run in sweep.runs()}


@pytest.fixture
def write_run() -> Callable[..., None]:
    """Writes a run: `write_run(run, accuracies, test, best=epoch)`."""
    return _write_run
