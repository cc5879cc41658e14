"""Train a finished run again and list every difference."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from tiedexp.errors import RunError
from tiedexp.experiment.observer import RunObserver
from tiedexp.experiment.preparation import locate_run, rerun_source
from tiedexp.experiment.run import run_experiment
from tiedexp.keys import flatten
from tiedexp.runs.directory import RunDirectory
from tiedexp.runs.finding import REPRODUCED
from tiedexp.runs.manifest import find_differences
from tiedexp.spec.loading import load_spec
from tiedexp.training.checkpoint import Checkpoint, CheckpointStore
from tiedexp.training.weights_file import FIRST_TIED, FIRST_UNTIED, check_weights_file, read_array

_MAX_DEPTH = 8  # of JSON, deeper than ours
# Metrics that depend on time, or on when the run was stopped.
TIMES = ("seconds", "epoch_seconds", "first_of_process", "time", "images_per_second")


@dataclass(frozen=True)
class Mismatch:
    """A metric or array of weights that differs.

    Args:
        name: e.g. `metrics: train.loss` or `weights of epoch 3: layers/dense/vars/0`.
        count: how many of its numbers differ.
        total: how many numbers it has.
        largest: the largest absolute difference; None if the values are not numbers or differ in shape.
    """

    name: str
    count: int
    total: int
    largest: float | None


@dataclass(frozen=True)
class Reproduction:
    """The result of a comparison.

    Args:
        run: the new run.
        metrics: how many metrics were compared.
        weights: how many arrays of weights were compared.
        differences: those that differ.
        machine: differences between the manifests that may explain them.
    """

    run: RunDirectory
    metrics: int
    weights: int
    differences: tuple[Mismatch, ...]
    machine: tuple[str, ...]


def reproduce_run(
    run: RunDirectory,
    *,
    root: Path | None = None,
    data_dir: Path | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    observer: RunObserver | None = None,
) -> Reproduction:
    """Train a run again from its own spec and compare every metric and weight, to the bit.

    Args:
        run: a finished run.
        root: the directory of the new run; by default `reproduced` in the directory of all runs.
        data_dir: TFDS data directory; None for the one that the run was trained with.
        should_stop: see `run_experiment`.
        observer: called with what happens.

    Raises:
        RunError: the run is not finished, or its spec alone does not determine it.
        DatasetError: the data is missing or damaged.
    """
    spec = load_spec(run.spec, allow_extends=False)
    if not run.finished:
        raise RunError(f"{run.path} is not finished; finish training it first")
    manifest = run.read_manifest()
    parent = manifest.parent
    if parent is not None and not parent.same_as_from_start:
        raise RunError(f"{run.path} extends {parent.run} with another schedule: its spec alone does not reproduce it")
    root = root or run.path.resolve().parent.parent / REPRODUCED
    source = rerun_source(run, spec, data_dir)
    if locate_run(spec, root).path.resolve() == run.path.resolve():
        raise RunError(f"{root} holds the run itself; name another directory with --runs")
    _kept_checkpoints(run)  # raises now, not after the training, if one is missing or damaged
    _list_initial(run)
    again = run_experiment(
        spec,
        root=root,
        data_dir=source.data_dir,
        fresh=locate_run(spec, root).finished,
        allow_inexact=True,
        threads=manifest.threads,
        should_stop=should_stop,
        observer=observer,
    )
    return compare_runs(run, again)


def compare_runs(first: RunDirectory, second: RunDirectory) -> Reproduction:
    """Compare everything but times of two finished runs of one spec.

    Args:
        first: a run of any origin.
        second: a run of this machine, so that its weights have the shapes of the model.

    Raises:
        RunError: a file is missing or damaged, or the weights of the first run have other shapes.
    """
    metrics = [dict(_list_metrics(run)) for run in (first, second)]
    ours = dict(_list_weights(second))
    weights = [dict(_list_weights(first, lambda path: check_weights_file(path, ours.values()))), ours]
    initial = [_list_initial(run) for run in (first, second)]
    if all(initial):  # older runs have none
        weights = [{**kept, **start} for kept, start in zip(weights, initial, strict=True)]
    before, now = first.read_manifest(), second.read_manifest()
    machine = find_differences(before, now)
    if before.data.fingerprint != now.data.fingerprint:
        machine = (*machine, f"data {now.data.fingerprint} in place of {before.data.fingerprint}")
    found = (_compare(name, *(values.get(name) for values in both)) for both in (metrics, weights) for name in both[0])
    missing = [name for both in (metrics, weights) for name in both[1].keys() - both[0].keys()]
    return Reproduction(
        second,
        len(metrics[0]),
        len(weights[0]),
        (*filter(None, found), *(Mismatch(name, 1, 1, None) for name in sorted(missing))),
        machine,
    )


def _compare(name: str, first: Any, second: Any) -> Mismatch | None:
    """The difference between two values; None if they are the same to the bit."""
    ours, theirs = _as_array(first), _as_array(second)
    if second is None or ours.shape != theirs.shape:
        return Mismatch(name, ours.size, ours.size, None)
    if ours.tobytes() == theirs.tobytes() and ours.dtype == theirs.dtype:
        return None
    different = ours != theirs
    numeric = np.issubdtype(ours.dtype, np.number) and np.issubdtype(theirs.dtype, np.number)
    largest = float(np.abs(ours.astype(np.float64) - theirs.astype(np.float64)).max()) if numeric else None
    return Mismatch(name, int(np.count_nonzero(different)), int(ours.size), largest)


def _as_array(value: Any) -> npt.NDArray[Any]:
    """The value as an array of numbers or texts; anything else, from a foreign run, becomes a value that differs."""
    with suppress(ValueError):  # lists of different lengths
        array = np.asarray(value)
        if array.dtype.kind in "biufU":
            return array
    return np.asarray("neither numbers nor a text")


def _list_metrics(run: RunDirectory) -> Iterator[tuple[str, Any]]:
    """Each metric: those of metrics.jsonl over all epochs, then those of result.json."""
    series: dict[str, list[Any]] = {}
    for line in run.read_metrics():
        for name, value in _list_values(line.as_json()):
            series.setdefault(f"metrics: {name}", []).append(value)
    yield from series.items()
    for name, value in _list_values(run.read_result().as_json()):
        yield f"result: {name}", value


def _list_values(content: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The values that do not depend on time, by dotted keys; those of classes by the name of the class."""
    for key, value in flatten(content, _MAX_DEPTH):
        last = key.rpartition(".")[2]
        if last == "classes" and isinstance(value, list | tuple) and all(isinstance(entry, Mapping) for entry in value):
            for entry in value:
                yield from ((f"{key}.{entry.get('name')}.{below}", leaf) for below, leaf in _list_values(entry))
        elif last not in TIMES:
            yield key, value if isinstance(value, int | float | str | list | tuple) else type(value).__name__


def _kept_checkpoints(run: RunDirectory) -> list[Checkpoint]:
    """The checkpoints of the best and the last epoch; RunError if one is missing or damaged."""
    result, store = run.read_result(), CheckpointStore(run.checkpoints)
    return [store.of_epoch(epoch) for epoch in sorted({result.best_epoch, result.epochs})]


def _list_initial(run: RunDirectory) -> dict[str, npt.NDArray[Any]]:
    """The kernel from before training, if the run has kept it; RunError if it is damaged."""
    if not run.initial_kernel.exists():
        return {}
    try:
        values = read_array(run.initial_kernel, [FIRST_TIED, FIRST_UNTIED])
    except RunError as error:
        raise RunError(f"{error}; if you delete that file, everything else can be compared") from None
    return {"weights before training: the first kernel": np.array(values, dtype=np.float64)}


def _list_weights(
    run: RunDirectory, check: Callable[[Path], None] = lambda path: None
) -> Iterator[tuple[str, npt.NDArray[Any]]]:
    """Each array of the kept checkpoints, including the optimizer; `check` is called on each file before it is read."""
    for checkpoint in _kept_checkpoints(run):
        arrays: dict[str, npt.NDArray[Any]] = {}

        def note(name: str, item: Any, into: dict[str, npt.NDArray[Any]] = arrays) -> None:
            if isinstance(item, h5py.Dataset):
                into[name] = item[()]

        check(checkpoint.weights)
        with h5py.File(checkpoint.weights) as file:
            file.visititems(note)
        yield from ((f"weights of epoch {checkpoint.epoch}: {name}", array) for name, array in arrays.items())
