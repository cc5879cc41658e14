"""Sweeps to show: some that were really trained, and some that only have the files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from tiedexp.runs.directory import RunDirectory
from tiedexp.runs.sweeps import PlannedRun, SweepDirectory, SweepRecord, Variant
from tiedexp.runs.tensorboard import TensorBoardLog

MANIFEST = {
    "format": 1,
    "versions": {},
    "commit": None,
    "processor": "",
    "device": "",
    "replicas": 1,
    "threads": 1,
    "deterministic": True,
    "data": {
        "name": "digits",
        "fingerprint": "",
        "data_dir": None,
        "image_shape": [8, 8, 1],
        "class_names": ["0"],
        "mean": [0],
        "std": [1],
    },
    "spec": {"model": {"depth": 4, "width": 8, "tying": {"pattern": "block"}}},
    "pattern": "block",
    "unique_weights": 100,
    "expanded_weights": 200,
    "macs_dense": 4000,
    "macs_tied": 3000,
}
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
    """A run as far as it is shown: epochs with these validation accuracies, and a test if it is finished."""
    run.path.mkdir(parents=True, exist_ok=True)
    run.write_json("manifest.json", {**MANIFEST, **changes})
    run.write_spec("name: study\n")
    split = {"loss": 1.0, "images_per_second": 9.0}
    lines = [
        {
            "epoch": epoch,
            "step": epoch,
            "learning_rate": 0.1,
            "train": {**split, "accuracy": accuracy / 2},
            "validation": {**split, "accuracy": accuracy},
            "seconds": 1.0,
        }
        for epoch, accuracy in enumerate(accuracies, 1)
    ]
    run.rewrite_metrics(lines)
    with TensorBoardLog(run.tensorboard) as log:
        log.layout()
        log.hparams({"pattern": "block"})
        for line in lines:
            log.scalars("train", line["epoch"], line["train"])
            log.scalars("validation", line["epoch"], line["validation"])
    if test is not None:
        evaluation = {"images": 10, "loss": 0.5, "accuracy": test, "accuracy_interval": [0.0, 1.0]}
        ending = {"best_epoch": best, "epochs": len(lines), "stopped_early": False, "seconds": 1.0}
        run.write_json("result.json", {"test": evaluation, **ending})


@pytest.fixture
def sweep(tmp_path) -> SweepDirectory:
    """Two patterns and two seeds, nothing of it begun."""
    directory = SweepDirectory(tmp_path / "runs" / "study")
    directory.write(make_record(), "name: study\n")
    return directory


@pytest.fixture
def manifest() -> dict[str, Any]:
    """What a manifest.json may say."""
    return dict(MANIFEST)


@pytest.fixture
def shown(sweep) -> dict[str, RunDirectory]:
    """The runs of the sweep by the names under which they are shown."""
    return {f"{planned.variant} d4 s{planned.seed}": run for planned, run in sweep.runs()}


@pytest.fixture
def write_run() -> Callable[..., None]:
    """Writes a run: `write_run(run, accuracies, test, best=epoch)`."""
    return _write_run
