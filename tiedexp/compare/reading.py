"""Reading runs, which can be a stranger's, into small records from manifest, result and the first epoch alone."""

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

_MAX_TITLE = 24  # characters of a sweep's title, of which the last ones say more
_MAX_COUNT = 2**53
_MAX_DEPTH = 100  # of nested JSON; tiedexp writes fewer


@dataclass(frozen=True, eq=False)
class ComparedSweep:
    """A sweep that is compared; two of these are never equal.

    Args:
        title: its name, or its path if several sweeps have that name.
        record: the content of its sweep.json.
    """

    title: str
    record: SweepRecord


@dataclass(frozen=True, slots=True)
class ComparedRun:
    """A finished run, with what is compared of it.

    Args:
        run: its directory.
        name: the name in its spec.
        seed: the seed in its spec.
        settings: the rest of its spec by dotted keys, with lists as JSON and the pattern as its short name.
        metrics: the metrics of the best epoch by their names, e.g. `test/accuracy`.
        unique_weights: trainable weights, counting each group of tied cells once.
        macs_dense: multiply-adds of one image, forward, counting every cell.
        macs_tied: multiply-adds of one image, forward, counting each group of tied cells once.
        epoch_seconds: mean seconds of an epoch, without the first of each process, in which the model is compiled; None
            if there are no others.
        variant: the name of its variant in its sweep; None if it is of no sweep.
        sweep: its sweep; None if it is of none.
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
        """Everything that `--where` can ask for, by its key."""
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
    """The runs that were found.

    Args:
        runs: the finished runs.
        sweeps: the sweeps among the given paths.
        unfinished: how many runs are not finished; in a sweep, including those that are not started.
        left_out: a sentence on each run that cannot be read, or is a copy of another.
    """

    runs: tuple[ComparedRun, ...]
    sweeps: tuple[ComparedSweep, ...] = ()
    unfinished: int = 0
    left_out: tuple[str, ...] = ()


def read_runs(paths: Sequence[Path]) -> FoundRuns:
    """Read the runs in some directories.

    Args:
        paths: runs, directories of runs, or sweeps, whose runs are those in their sweep.json.

    Raises:
        RunError: a path has no run or a link that leads out of it, or a run among the paths cannot be read.
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
            left_out.append(f"{run.path} has the same spec and seed as {first.run.path}, which is compared instead")
    return FoundRuns(tuple(runs.values()), tuple(sweeps.values()), unfinished, tuple(left_out))


def _read_sweeps(paths: Sequence[Path]) -> dict[Path, ComparedSweep]:
    """The directories that are sweeps."""
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
    """A run's spec by dotted keys, the pattern as its short name; RunError if it is nested too deeply."""
    yield from ((key, value) for key, value in flatten_settings(manifest.spec) if key != PATTERN)
    yield PATTERN, clean_text(manifest.pattern)


def flatten_settings(content: Mapping[str, Any]) -> Iterator[tuple[str, Setting]]:
    """The values of nested JSON objects by dotted keys, with lists as JSON.

    Raises:
        RunError: the objects are nested too deeply.
    """
    try:
        for key, value in flatten(content, _MAX_DEPTH, whole=("pattern",)):
            is_plain = value is None or isinstance(value, int | float)
            yield clean_text(key), value if is_plain else clean_text(value if isinstance(value, str) else dumps(value))
    except RecursionError:
        raise RunError("a manifest is nested too deeply to be one of tiedexp's") from None


def _find_epoch_seconds(run: RunDirectory, result: Result) -> float | None:
    """Seconds per epoch (see `average_epoch_seconds`); for runs of older versions, the mean of all but the first."""
    if "epoch_seconds" in result.model_fields_set:
        return result.epoch_seconds
    first = run.read_first_epoch() if result.epochs > 1 else None
    return None if first is None else max(result.seconds - first.seconds, 0.0) / (result.epochs - 1)
