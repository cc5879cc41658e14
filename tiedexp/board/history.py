"""The history of a run so far, from its JSON files."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tiedexp.files.bounded import read_text
from tiedexp.runs.directory import MAX_JSON_BYTES, RunDirectory
from tiedexp.runs.records import EpochLine, Manifest, SplitLine
from tiedexp.runs.tensorboard import Split

Series = Mapping[int, Mapping[str, float]]  # epoch -> tag -> value

_FILES = ("manifest.json", "metrics.jsonl", "result.json", "failure.json")


@dataclass(frozen=True, eq=False)
class RunHistory:
    """A run at the time when its files were read.

    Args:
        manifest: its manifest.
        spec: the text of its spec.yaml.
        series: the series of each split, with the tags of its log; the test has one step, the best epoch.
        epochs: how many epochs are done.
        succeeded: whether it succeeded; None if it has not ended.
    """

    manifest: Manifest
    spec: str
    series: Mapping[Split, Series]
    epochs: int
    succeeded: bool | None

    @property
    def validation_accuracy(self) -> Mapping[int, float]:
        """By epoch. In a run that was tested, the last epoch has the accuracy of the best one, which was tested."""
        found = {epoch: values["accuracy"] for epoch, values in self.series["validation"].items()}
        for best in self.series["test"]:
            if best in found:
                found[self.epochs] = found[best]
        return found


class RunReader:
    """Reads a run again when its files have changed.

    Args:
        run: the run, which need not exist.
    """

    def __init__(self, run: RunDirectory):
        self.run = run
        self._state: object = None
        self._history: RunHistory | None = None

    def read(self) -> RunHistory | None:
        """The run's history, the same object as long as nothing has changed; None if the run has not started.

        Raises:
            RunError: a file of the run is damaged, or leads out of it.
        """
        state = [_state_of(self.run.inside(name)) for name in _FILES]
        if state != self._state:
            self._history = _read_history(self.run)
            self._state = state
        return self._history


def _state_of(path: Path) -> tuple[int, int, int] | None:
    """A value that changes whenever the file is written."""
    try:
        found = os.stat(path)  # noqa: PTH116 (pathlib's raises where links go in a circle)
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def _read_history(run: RunDirectory) -> RunHistory | None:
    if not run.started:
        return None
    lines = run.read_metrics()
    series: dict[Split, Series] = {
        "train": {line.epoch: _tags_of(line, line.train) for line in lines},
        "validation": {line.epoch: _tags_of(line, line.validation) for line in lines if line.validation is not None},
        "test": {},
    }
    epochs = max((line.epoch for line in lines), default=0)
    if run.finished:
        result = run.read_result()
        epochs = result.epochs
        series["test"] = {result.best_epoch: {"loss": result.test.loss, "accuracy": result.test.accuracy}}
    return RunHistory(
        manifest=run.read_manifest(),
        spec=read_text(run.spec, MAX_JSON_BYTES),
        series=series,
        epochs=epochs,
        succeeded=True if run.finished else False if run.failed else None,
    )


def _tags_of(line: EpochLine, split: SplitLine) -> dict[str, float]:
    return {**split.model_dump(), "learning_rate": line.learning_rate}
