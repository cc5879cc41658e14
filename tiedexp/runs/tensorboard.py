"""What a run writes for TensorBoard, in event files of its own.

    tensorboard/                 the run as a whole: hyperparameters and final metrics, text, the layout
    tensorboard/train/           the series of each split, under the same tags
    tensorboard/validation/
    tensorboard/test/

A session of the HParams tab is the directory that holds its hyperparameters, and metrics in directories below it are
not found when that directory is the log directory itself. So the metrics of that tab are scalars beside the
hyperparameters; then both `tensorboard --logdir RUN/tensorboard` and a directory of many runs list them.
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

    Steps may count epochs or updates; those of a split may repeat but not go down. What describes the run as a whole
    (`hparams`, `text`, `layout`) is kept from no earlier process: whoever opens a log writes it.

    Args:
        directory: where the log is, made if need be; nothing else may write there at the same time.
        resume_step: the first step that may be written from now on, so N + 1 after a checkpoint at step N. What an
            earlier process wrote at that step or later is removed, and what it wrote before stays, but for the test
            split, which is written once, at the end. With None the log starts over.

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
            while self._files:  # closed they are in any case
                with suppress(OSError):
                    self._files.popitem()[1].close()
            if kind is None:
                raise  # else what came first is what the user should hear of

    # The series of a split

    def scalars(self, split: Split, step: int, values: Mapping[str, float]) -> None:
        """Write one number a tag; NaN and infinities as they are, TensorBoard marks them in the curve."""
        self._write_series(split, step, [summaries.scalar_summary(tag, value) for tag, value in values.items()])

    def image(self, split: Split, tag: str, step: int, png: bytes) -> None:
        """Write a picture, an encoded PNG."""
        self._write_series(split, step, [summaries.image_summary(tag, png)])

    def histogram(self, split: Split, tag: str, step: int, values: npt.ArrayLike) -> None:
        """Write the distribution of an array of any shape; values that are not finite are left out."""
        self._write_series(split, step, [summaries.histogram_summary(tag, values)])

    # The run as a whole

    def hparams(self, values: Mapping[str, HParamValue], *, group_name: str = "") -> None:
        """Begin the run's session in the HParams tab.

        Args:
            values: what the run was made with; at first the tab shows the columns of the first five only. Runs that
                are to be compared should all have the same names: TensorBoard takes the columns from any one of them.
            group_name: runs of one group are shown as one row with mean metrics. By default each has its own row,
                named by its directory.

        Raises:
            TypeError: a value is None or of any other type.
        """
        session = summaries.session_summary(values, group_name)
        columns = [
            HParam.of(name, summaries.spell(value), shown=place < SHOWN_HPARAMS)
            for place, (name, value) in enumerate(values.items())
        ]
        self._write_run(0, summaries.experiment_summary(columns, [Metric(tag) for tag in HPARAMS_METRICS]))
        self._write_run(0, session)
        self._is_session = True

    def hparams_metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Write metrics of the HParams tab, which shows the last of each; names are of `HPARAMS_METRICS`."""
        for tag, value in values.items():
            if tag not in HPARAMS_METRICS:
                raise ValueError(f"the metrics of the HParams tab are {HPARAMS_METRICS}. Received: {tag!r}")
            self._write_run(step, summaries.scalar_summary(tag, value))

    def text(self, tag: str, step: int, markdown: str) -> None:
        """Write a text, such as the spec; TensorBoard renders it as Markdown."""
        self._write_run(step, summaries.text_summary(tag, markdown))

    def layout(self) -> None:
        """Write the layout of the Custom Scalars tab: a chart a tag, in which the splits lie over each other."""
        self._write_run(0, summaries.layout_summary({"Training": TRAINING_CHARTS}))

    # The files

    def flush(self) -> None:
        """Bring everything written so far to the disk: a checkpoint of an epoch must not outlive its events."""
        for file in self._files.values():
            file.flush()

    def close(self) -> None:
        """Flush and close the files, and leave the session open: the HParams tab shows the run as running."""
        while self._files:
            self._files.popitem()[1].close()

    def _write_series(self, split: Split, step: int, written: Iterable[Any]) -> None:
        if split not in SPLITS:
            raise ValueError(f"a split is one of {SPLITS}. Received: {split!r}")
        directory = self._directory / split
        last = self._last_steps.get(directory, self._first_step_of(split))
        if step < last:  # resuming cuts a file at a step, which would lose what is out of order
            raise ValueError(f"the steps of a split do not go down: {split} was at {last}. Received: step={step}")
        self._last_steps[directory] = step
        file = self._open(directory, self._first_step_of(split))
        for summary in written:
            file.write(step, summary)

    def _write_run(self, step: int, summary: Any) -> None:
        self._open(self._directory, 0).write(step, summary)

    def _first_step_of(self, split: Split) -> int:
        """The test is done once, of the best epoch, which may be any: a run that goes on does it anew."""
        return 0 if split == "test" else self._first_step

    def _open(self, directory: Path, first_step: int) -> EventFile:
        if directory not in self._files:
            self._files[directory] = EventFile(directory, first_step)
        return self._files[directory]
