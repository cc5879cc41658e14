"""What differs between two runs: spec, manifest and metrics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tiedexp.compare.reading import flatten_settings, flatten_spec
from tiedexp.labels import PATTERN, Setting
from tiedexp.runs.directory import RunDirectory
from tiedexp.runs.records import EpochLine

# These differ between any two runs, or are compared elsewhere.
_IGNORED = ("started", "command", "pid", "spec", "inexact")
_METRICS = ("loss", "accuracy", "top5_accuracy", "calibration_error")


@dataclass(frozen=True)
class DifferingValue:
    """A value that differs between two runs; None if a run lacks it."""

    key: str
    left: Setting
    right: Setting


@dataclass(frozen=True)
class RunDifferences:
    """What differs between two runs.

    Args:
        spec: values of the spec.
        manifest: values of the manifest, except for time, process and command.
        metrics: values of the result, including the metrics of the best epoch; a run that is not finished lacks them.
        same_epochs: how many epochs at the start have metrics that are equal to the bit.
        epochs: how many epochs both have.
    """

    spec: tuple[DifferingValue, ...]
    manifest: tuple[DifferingValue, ...]
    metrics: tuple[DifferingValue, ...]
    same_epochs: int
    epochs: int


def diff_runs(left: RunDirectory, right: RunDirectory) -> RunDifferences:
    """Compare two runs, finished or not.

    Raises:
        RunError: a file of either run is not as tiedexp writes it.
    """
    specs, manifests, results = [], [], []
    for run in (left, right):
        manifest = run.read_manifest()
        specs.append({key: value for key, value in flatten_spec(manifest) if key != PATTERN or value != "none"})
        content = {key: value for key, value in manifest.as_json().items() if key not in _IGNORED}
        manifests.append(dict(flatten_settings(content)))
        results.append(dict(_read_metrics(run)))
    epochs = [[_without_times(line) for line in run.read_metrics()] for run in (left, right)]
    common = min(map(len, epochs))
    same = next((number for number in range(common) if epochs[0][number] != epochs[1][number]), common)
    return RunDifferences(_diff(*specs), _diff(*manifests), _diff(*results), same, common)


def _diff(left: Mapping[str, Setting], right: Mapping[str, Setting]) -> tuple[DifferingValue, ...]:
    keys = dict.fromkeys([*left, *right])
    return tuple(
        DifferingValue(key, left.get(key), right.get(key))
        for key in keys
        if (key in left, left.get(key)) != (key in right, right.get(key))
    )


def _read_metrics(run: RunDirectory) -> Iterator[tuple[str, Setting]]:
    if not run.finished:
        return
    result = run.read_result()
    for split, record in (("validation", result.validation), ("test", result.test)):
        for metric in _METRICS:
            if record is not None and getattr(record, metric) is not None:
                yield f"{split}/{metric}", getattr(record, metric)
    for key in ("best_epoch", "epochs", "stopped_early", "seconds"):
        yield key, getattr(result, key)


def _without_times(line: EpochLine) -> tuple[Any, ...]:
    """An epoch's line without times."""
    splits = [None if split is None else (split.loss, split.accuracy) for split in (line.train, line.validation)]
    return line.epoch, line.step, line.learning_rate, *splits
