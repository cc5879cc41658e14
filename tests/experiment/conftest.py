"""Small experiments on the embedded digits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from run_checks import Recorder

from tiedexp.errors import RunInterruptedError
from tiedexp.experiment.preparation import locate_run
from tiedexp.experiment.run import run_experiment
from tiedexp.runs.directory import RunDirectory
from tiedexp.spec.schema import ExperimentSpec

SMALL = {
    "name": "small",
    "dataset": {"name": "digits", "limit": 300},
    "model": {"depth": 2, "width": 4, "kernel_size": 3, "dropout": 0.2, "tying": {"pattern": "point"}},
    "training": {
        "epochs": 3,
        "batch_size": 50,
        "optimizer": {"name": "adam", "learning_rate": 0.01},
        "schedule": {"name": "cosine", "warmup_epochs": 1},
        "augmentation": {"pad_crop": 1, "rotation": 10.0, "cutout": 2, "mixup": 0.2},
    },
}


def merge(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in changes.items():
        both = isinstance(value, dict) and isinstance(base.get(key), dict)
        merged[key] = merge(base[key], value) if both else value
    return merged


@pytest.fixture
def make_spec() -> Callable[..., ExperimentSpec]:
    """The small experiment with changes: `make_spec(training={"epochs": 5})`."""
    return lambda **changes: ExperimentSpec.model_validate(merge(SMALL, changes))


@pytest.fixture
def cut_off(make_spec: Callable[..., ExperimentSpec], tmp_path: Path) -> tuple[ExperimentSpec, RunDirectory]:
    """The spec and directory of a run of four epochs that was stopped in its third."""
    spec = make_spec(training={"epochs": 4})
    with pytest.raises(RunInterruptedError):
        run_experiment(spec, root=tmp_path, observer=Recorder(3))
    return spec, locate_run(spec, tmp_path)
