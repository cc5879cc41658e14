"""What a run writes for TensorBoard, in its own event files.

    tensorboard/                 the run as a whole: hyperparameters, final metrics, texts and the layout
    tensorboard/train/           the series of each split, with the same tags
    tensorboard/validation/
    tensorboard/test/

A session of the HParams tab is the directory that holds its hyperparameters. If that directory is the log directory
itself, metrics in directories below it are not found. So the metrics of that tab are scalars beside the
hyperparameters, and both `tensorboard --logdir RUN/tensorboard` and a directory of many runs show them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import numpy.typing as npt

from tiedexp.runs import summaries
from tiedexp.runs.events import EventFile, list_event_files, remove_events
from tiedexp.runs.summaries import HParam, HParamValue, Metric

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
TAGS = ("loss", "accuracy", "learning_rate", "images_per_second")
HPARAMS_METRICS = ("test accuracy", "validation accuracy")
SHOWN_HPARAMS = 5
TRAINING_CHARTS = tuple(map(summaries.line_chart, TAGS))


class TensorBoardLog:
    """The TensorBoard log of one run; a context manager that also records how the run ended.

    Steps may count epochs or updates; within a split they may repeat but not go down. What describes the run as a whole
    (`hparams`, `text`, `layout`) is deleted when a log is opened, so it must be written again.

    Args:
        directory: where the log is, which is made if necessary; nothing else may write there at the same time.
        resume_step: the first step that can be written from now on, i.e. N + 1 after a checkpoint at step N. What an
            earlier process wrote at that step or later is removed, and what it wrote before stays. The test split is
            removed in any case, as it is written once, at the end. If None, the log starts over.

    Raises:
        OSError: the directory cannot be written.
    """

    def __init__(self, directory: Path, *, resume_step: int | None = None):
        self._directory = directory
        self._first_step = resume_step or 0
        self._files: dict[Path, EventFile] = {}
        self._last_steps: dict[Path, int] = {}
        self._is_session = False
        remove_events(list_event_files(directory))
        for split in SPLITS:
            remove_events(list_event_files(directory / split), self._first_step_of(split))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if self._is_session:
                self._write_run(0, summaries.session_end_summary(succeeded=kind is None))
            self.close()
        except OSError:
            while self._files:  # close them in any case
                with suppress(OSError):
                    self._files.popitem()[1].close()
            if kind is None:
                raise  # otherwise the user should see the first error

    # The series of a split

    def scalars(self, split: Split, step: int, values: Mapping[str, float]) -> None:
        """Write one number per tag; TensorBoard marks NaN and infinity in the curve."""
        self._write_series(split, step, [summaries.scalar_summary(tag, value) for tag, value in values.items()])

    def image(self, split: Split, tag: str, step: int, png: bytes) -> None:
        """Write a picture, given as an encoded PNG."""
        self._write_series(split, step, [summaries.image_summary(tag, png)])

    def histogram(self, split: Split, tag: str, step: int, values: npt.ArrayLike) -> None:
        """Write the distribution of an array of any shape, without NaN and infinity."""
        self._write_series(split, step, [summaries.histogram_summary(tag, values)])

    # The run as a whole

    def hparams(self, values: Mapping[str, HParamValue], *, group_name: str = "") -> None:
        """Start the run's session in the HParams tab.

        Args:
            values: what the run was made with; when it is opened, the tab shows the columns of the first five only.
                Runs to be compared should all have the same names, as TensorBoard takes the columns from one of them.
            group_name: runs with the same group name are shown as one row with mean metrics. By default each run has
                its own row, named after its directory.

        Raises:
            TypeError: a value is not a bool, int, float or str.
        """
        session = summaries.session_summary(values, group_name)
        columns = [
            HParam.of(name, summaries.spell(value), shown=number < SHOWN_HPARAMS)
            for number, (name, value) in enumerate(values.items())
        ]
        self._write_run(0, summaries.experiment_summary(columns, [Metric(tag) for tag in HPARAMS_METRICS]))
        self._write_run(0, session)
        self._is_session = True

    def hparams_metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Write metrics of the HParams tab, which shows the last value of each; see `HPARAMS_METRICS` for the names."""
        for tag, value in values.items():
            if tag not in HPARAMS_METRICS:
                raise ValueError(f"the metrics of the HParams tab are {HPARAMS_METRICS}. Received: {tag!r}")
            self._write_run(step, summaries.scalar_summary(tag, value))

    def text(self, tag: str, step: int, markdown: str) -> None:
        """Write a text, e.g. the spec; TensorBoard renders it as Markdown."""
        self._write_run(step, summaries.text_summary(tag, markdown))

    def layout(self) -> None:
        """Write the layout of the Custom Scalars tab: one chart per tag, in which the splits are overlaid."""
        self._write_run(0, summaries.layout_summary({"Training": TRAINING_CHARTS}))

    # The files

    def flush(self) -> None:
        """Write everything so far to the disk, so that a checkpoint of an epoch does not outlive its events."""
        for file in self._files.values():
            file.flush()

    def close(self) -> None:
        """Flush and close the files, but leave the session open: the HParams tab shows the run as running."""
        while self._files:
            self._files.popitem()[1].close()

    def _write_series(self, split: Split, step: int, written: Iterable[Any]) -> None:
        if split not in SPLITS:
            raise ValueError(f"a split is one of {SPLITS}. Received: {split!r}")
        directory = self._directory / split
        last = self._last_steps.get(directory, self._first_step_of(split))
        if step < last:  # resuming cuts a file at a step, and would lose earlier steps written after it
            raise ValueError(f"the steps of a split do not go down: {split} was at {last}. Received: step={step}")
        self._last_steps[directory] = step
        file = self._open(directory, self._first_step_of(split))
        for summary in written:
            file.write(step, summary)

    def _write_run(self, step: int, summary: Any) -> None:
        self._open(self._directory, 0).write(step, summary)

    def _first_step_of(self, split: Split) -> int:
        """The test is written once, at the best epoch, which may be an early one; a resumed run writes it again."""
        return 0 if split == "test" else self._first_step

    def _open(self, directory: Path, first_step: int) -> EventFile:
        if directory not in self._files:
            self._files[directory] = EventFile(directory, first_step)
        return self._files[directory]
