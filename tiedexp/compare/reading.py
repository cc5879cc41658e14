"""Run directories, perhaps a stranger's, as small records: at most manifest, result and the first epoch are read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from json import dumps
from pathlib import Path
from typing import Any

from tiedexp.errors import RunError
from tiedexp.keys import flatten
from tiedexp.labels import PATTERN, Setting
from tiedexp.runs.directory import RunDirectory
from tiedexp.runs.finding import find_runs
from tiedexp.runs.records import Manifest, Result
from tiedexp.runs.sweeps import SweepDirectory, SweepRecord
from tiedexp.terminal import clean_text

METRICS = ("accuracy", "loss", "top5_accuracy", "calibration_error")

_MAX_TITLE = 24  # characters of a sweep's, of which the last tell more
_MAX_COUNT = 2**53
_MAX_DEPTH = 100  # of JSON, deeper than ours


@dataclass(frozen=True, eq=False)
class ComparedSweep:
    """A sweep that is compared; two of them are never equal.

    Args:
        title: its name, or its path where several have that name.
        record: what its sweep.json says.
    """

    title: str
    record: SweepRecord


@dataclass(frozen=True, slots=True)
class ComparedRun:
    """A finished run, as far as it is compared.

    Args:
        run: its directory.
        name: of its spec.
        seed: of its spec.
        settings: the rest of its spec by dotted keys, lists as JSON, the pattern by its short name.
        metrics: `test/accuracy` and so on, of the best epoch.
        unique_weights: trainable weights, each group of tied cells counted once.
        macs_dense: multiply-adds of one image, forward, every cell counted.
        macs_tied: the same, each group of tied cells counted once.
        epoch_seconds: mean time of an epoch, without the first of each process, in which the model is compiled; None if
            there are no others.
        variant: of its sweep, by its name; None of other runs.
        sweep: that sweep.
    """

    run: RunDirectory
    name: str
    seed: int
    settings: Mapping[str, Setting]
    metrics: Mapping[str, float]
    unique_weights: int
    macs_dense: int
    macs_tied: int
    epoch_seconds: float | None
    variant: str | None = None
    sweep: ComparedSweep | None = None

    @property
    def facts(self) -> dict[str, Setting]:
        """Everything that `--where` may ask for, by its key."""
        return {
            **self.settings,
            **self.metrics,
            "name": self.name,
            "seed": self.seed,
            "unique_weights": self.unique_weights,
            "macs_dense": self.macs_dense,
            "macs_tied": self.macs_tied,
            "epoch_seconds": self.epoch_seconds,
        }


@dataclass(frozen=True)
class FoundRuns:
    """What was found.

    Args:
        runs: the finished ones.
        sweeps: those that were named.
        unfinished: how many are not finished, or, of a sweep, not even begun.
        left_out: a sentence for each that cannot be read, or is a copy of another.
    """

    runs: tuple[ComparedRun, ...]
    sweeps: tuple[ComparedSweep, ...] = ()
    unfinished: int = 0
    left_out: tuple[str, ...] = ()


def read_runs(paths: Sequence[Path]) -> FoundRuns:
    """Read the runs at or below some directories.

    Args:
        paths: runs, directories of runs, or sweeps, which are read as their sweep.json has them.

    Raises:
        RunError: a path without a run, a link that leads out of it, or a run named here that cannot be read.
    """
    sweeps = _read_sweeps(paths)
    found: list[tuple[RunDirectory, str | None, ComparedSweep | None]] = []
    for path in dict.fromkeys(paths):
        if path in sweeps:
            directory, sweep = SweepDirectory(path), sweeps[path]
            found += [(directory.run(planned), planned.variant, sweep) for planned in sweep.record.runs]
        else:
            found += [(run, None, None) for run in _find_some(path)]
    runs: dict[tuple[Any, ...], ComparedRun] = {}
    left_out, unfinished = [], 0
    for run, variant, sweep_of_run in found:
        try:
            if not run.finished:
                unfinished += 1
                continue
            record = read_run(run, variant, sweep_of_run)
        except RunError as error:
            if run.path in paths:
                raise
            left_out.append(str(error))
            continue
        first = runs.setdefault((record.name, record.seed, *record.settings.items()), record)
        if first is not record:
            left_out.append(f"{run.path} has the same spec and seed as {first.run.path}, which is compared")
    return FoundRuns(tuple(runs.values()), tuple(sweeps.values()), unfinished, tuple(left_out))


def _read_sweeps(paths: Sequence[Path]) -> dict[Path, ComparedSweep]:
    """The sweeps among some directories."""
    records = {path: SweepDirectory(path).read() for path in paths if SweepDirectory.is_at(path)}
    names = Counter(record.name for record in records.values())
    titles = {path: record.name if names[record.name] == 1 else str(path) for path, record in records.items()}
    return {path: ComparedSweep(clean_text(titles[path][-_MAX_TITLE:]), record) for path, record in records.items()}


def read_run(run: RunDirectory, variant: str | None = None, sweep: ComparedSweep | None = None) -> ComparedRun:
    """Read a finished run.

    Raises:
        RunError: a file of it is not as tiedexp writes it.
    """
    manifest, result = run.read_manifest(), run.read_result()
    settings = dict(flatten_spec(manifest))
    name, seed = settings.pop("name", None), settings.pop("seed", None)
    if not isinstance(name, str) or type(seed) is not int:
        raise RunError(f"{run.path / 'manifest.json'} is not as tiedexp writes it: the spec has no name or seed")
    counts = (manifest.unique_weights, manifest.macs_dense, manifest.macs_tied)
    metrics = {
        f"{split}/{metric}": value
        for split, record in (("validation", result.validation), ("test", result.test))
        for metric in METRICS
        if (value := getattr(record, metric, None)) is not None
    }
    seconds = _find_epoch_seconds(run, result)
    if not all(0 <= number <= _MAX_COUNT for number in (*counts, *metrics.values(), result.epochs, seconds or 0)):
        raise RunError(f"{run.path} is not as tiedexp writes it: a metric, weight or time is out of range")
    return ComparedRun(run, name, seed, settings, metrics, *counts, seconds, variant, sweep)


def _find_some(path: Path) -> Iterator[RunDirectory]:
    found = False
    for run in find_runs(path):
        found = True
        yield run
    if not found:
        raise RunError(f"{path} holds no run (a directory such as mnist-block-1a2b3c4d5e/seed-0)")


def flatten_spec(manifest: Manifest) -> Iterator[tuple[str, Setting]]:
    """A run's spec by dotted keys, the pattern by its short name; RunError if it is nested too deep."""
    yield from ((key, value) for key, value in flatten_settings(manifest.spec) if key != PATTERN)
    yield PATTERN, clean_text(manifest.pattern)


def flatten_settings(content: Mapping[str, Any]) -> Iterator[tuple[str, Setting]]:
    """The values of JSON objects within each other by dotted keys, lists as JSON.

    Raises:
        RunError: nested too deep.
    """
    try:
        for key, value in flatten(content, _MAX_DEPTH, whole=("pattern",)):
            is_plain = value is None or isinstance(value, int | float)
            yield clean_text(key), value if is_plain else clean_text(value if isinstance(value, str) else dumps(value))
    except RecursionError:
        raise RunError("a manifest is nested too deep to be one of tiedexp's") from None


def _find_epoch_seconds(run: RunDirectory, result: Result) -> float | None:
    """Seconds per epoch, as `average_epoch_seconds` has them; of a run of an older version, of all but the first."""
    if "epoch_seconds" in result.model_fields_set:
        return result.epoch_seconds
    first = run.read_first_epoch() if result.epochs > 1 else None
    return None if first is None else max(result.seconds - first.seconds, 0.0) / (result.epochs - 1)
