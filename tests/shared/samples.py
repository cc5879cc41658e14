"""The records of a run as training writes them, for tests that need a run but not its training.

A test names only the fields that matter to it: `make_manifest(threads=4)`.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tiedexp.runs.directory import RunDirectory
from tiedexp.runs.records import DataRecord, EpochLine, Evaluation, Manifest, Result, SplitLine


def make_manifest(*, data: dict[str, Any] | None = None, **changes: Any) -> Manifest:
    """A manifest; `data` has the changed fields of its `data` record."""
    facts: dict[str, Any] = {
        "name": "digits",
        "fingerprint": "0",
        "data_dir": None,
        "image_shape": (8, 8, 1),
        "class_names": ("zero", "one"),
        "mean": (0.5,),
        "std": (0.5,),
    }
    fields: dict[str, Any] = {
        "format": 1,
        "versions": {"python": "3.11"},
        "commit": None,
        "processor": "cpu",
        "device": "CPU",
        "replicas": 1,
        "threads": 1,
        "deterministic": True,
        "data": DataRecord(**{**facts, **(data or {})}),
        "spec": {"name": "block", "model": {"width": 4}},
        "pattern": "block",
        "patterns": {},
        "unique_weights": 1000,
        "expanded_weights": 2000,
        "macs_dense": 8000,
        "macs_tied": 4000,
    }
    return Manifest(**{**fields, **changes})


def make_split(accuracy: float = 0.5, **changes: Any) -> SplitLine:
    """A split in a line of metrics.jsonl."""
    return SplitLine(**{"loss": 1.0, "accuracy": accuracy, "images_per_second": 1.0, **changes})


def make_line(
    epoch: int = 1, *, train: float | SplitLine = 0.5, validation: float | SplitLine | None = None, **changes: Any
) -> EpochLine:
    """A line of metrics.jsonl; a split given as a number has that accuracy."""
    fields: dict[str, Any] = {
        "epoch": epoch,
        "step": epoch,
        "learning_rate": 0.1,
        "train": make_split(train) if isinstance(train, float) else train,
        "validation": make_split(validation) if isinstance(validation, float) else validation,
        "seconds": 1.0,
    }
    return EpochLine(**{**fields, **changes})


def make_evaluation(accuracy: float = 0.5, **changes: Any) -> Evaluation:
    """The results on one split."""
    fields: dict[str, Any] = {
        "images": 100,
        "loss": 1 - accuracy,
        "accuracy": accuracy,
        "accuracy_interval": (0.0, 1.0),
        "top5_accuracy": None,
        "calibration_error": 0.01,
        "confusion": ((45, 5), (10, 40)),
    }
    return Evaluation(**{**fields, **changes})


def make_result(test: float | Evaluation = 0.5, validation: Evaluation | None = None, **changes: Any) -> Result:
    """A result; a test given as a number has that accuracy."""
    fields: dict[str, Any] = {
        "test": test if isinstance(test, Evaluation) else make_evaluation(test),
        "validation": validation,
        "best_epoch": 1,
        "epochs": 1,
        "stopped_early": False,
        "seconds": 1.0,
    }
    return Result(**{**fields, **changes})


def write_run(
    path: Path, manifest: Manifest | None = None, lines: Iterable[EpochLine] = (), result: Result | None = None
) -> RunDirectory:
    """Write the files of a run, which is finished if `result` is given."""
    path.mkdir(parents=True, exist_ok=True)
    run = RunDirectory(path)
    run.write_manifest(manifest or make_manifest())
    run.rewrite_metrics(lines)
    if result is not None:
        run.write_result(result)
    return run
