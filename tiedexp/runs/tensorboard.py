"""What a run writes for TensorBoard, in event files of its own.

    tensorboard/                 the run as a whole: hyperparameters and final metrics, text, the layout
    tensorboard/train/           the series of each split, under the same tags
    tensorboard/validation/
    tensorboard/test/

The files are written record by record with TensorBoard's own protocol buffers and without TensorFlow: nothing is
queued, a flush brings all to the disk, and a full disk is an `OSError` where it happened.

A session of the HParams tab is the directory that holds its hyperparameters, and metrics in directories below it are
not found when that directory is the log directory itself. So the metrics of that tab are scalars beside the
hyperparameters; then both `tensorboard --logdir RUN/tensorboard` and a directory of many runs list them.
"""

from __future__ import annotations

import math
import os
import re
import struct
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from tensorboard.compat.proto import event_pb2, summary_pb2, types_pb2
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.custom_scalar import metadata as layout_metadata
from tensorboard.plugins.histogram import metadata as histogram_metadata
from tensorboard.plugins.hparams import api_pb2, plugin_data_pb2
from tensorboard.plugins.hparams import metadata as hparams_metadata
from tensorboard.plugins.hparams import summary_v2 as hparams_summary
from tensorboard.plugins.image import metadata as image_metadata
from tensorboard.plugins.scalar.summary_v2 import scalar_pb
from tensorboard.plugins.text.summary_v2 import text_pb
from tensorboard.summary.writer.record_writer import RecordWriter
from tensorboard.util.tensor_util import make_tensor_proto

from tiedexp.atomic import sync

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
TAGS = ("loss", "accuracy", "learning_rate", "images_per_second")
HPARAMS_METRICS = ("test accuracy", "validation accuracy")
SHOWN_HPARAMS = 5
HISTOGRAM_BUCKETS = 30

_NAME = re.compile(r"events\.out\.tfevents\.[0-9]{6}\.[0-9]+")
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


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
        self._files: dict[Path, _EventFile] = {}
        self._last_steps: dict[Path, int] = {}
        self._is_session = False
        _remove_events(_event_files(directory))
        for split in SPLITS:
            _remove_events(_event_files(directory / split), self._first_step_of(split))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if self._is_session:
                self._end_session(succeeded=kind is None)
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
        self._write_series(split, step, [scalar_pb(tag, value) for tag, value in values.items()])

    def image(self, split: Split, tag: str, step: int, png: bytes) -> None:
        """Write a picture, an encoded PNG."""
        self._write_series(split, step, [_image_summary(tag, png)])

    def histogram(self, split: Split, tag: str, step: int, values: npt.ArrayLike) -> None:
        """Write the distribution of an array of any shape; values that are not finite are left out."""
        self._write_series(split, step, [_histogram_summary(tag, values)])

    # The run as a whole

    def hparams(self, values: Mapping[str, bool | int | float | str], *, group_name: str = "") -> None:
        """Begin the run's session in the HParams tab.

        Args:
            values: what the run was made with; at first the tab shows the columns of the first five only. Runs that
                are to be compared should all have the same names: TensorBoard takes the columns from any one of them.
            group_name: runs of one group are shown as one row with mean metrics. By default each has its own row,
                named by its directory.

        Raises:
            TypeError: a value is None or of any other type.
        """
        for name, value in values.items():
            if not isinstance(value, bool | int | float | str):
                raise TypeError(f"a hyperparameter is a bool, int, float or str. Received: {name}={value!r}")
        # TensorBoard cannot send a NaN or an infinity among the hyperparameters, and would show none at all.
        shown = {name: str(v) if isinstance(v, float) and not math.isfinite(v) else v for name, v in values.items()}
        self._write_run(0, _experiment_summary(shown))
        self._write_run(0, hparams_summary.hparams_pb(shown, trial_id=group_name))
        self._is_session = True

    def hparams_metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Write metrics of the HParams tab, which shows the last of each; names are of `HPARAMS_METRICS`."""
        for tag, value in values.items():
            if tag not in HPARAMS_METRICS:
                raise ValueError(f"the metrics of the HParams tab are {HPARAMS_METRICS}. Received: {tag!r}")
            self._write_run(step, scalar_pb(tag, value))

    def text(self, tag: str, step: int, markdown: str) -> None:
        """Write a text, such as the spec; TensorBoard renders it as Markdown."""
        self._write_run(step, text_pb(tag, markdown))

    def layout(self) -> None:
        """Write the layout of the Custom Scalars tab: a chart a tag, in which the splits lie over each other."""
        self._write_run(0, _layout_summary())

    # The files

    def flush(self) -> None:
        """Bring everything written so far to the disk: a checkpoint of an epoch must not outlive its events."""
        for file in self._files.values():
            file.flush()

    def close(self) -> None:
        """Flush and close the files, and leave the session open: the HParams tab shows the run as running."""
        while self._files:
            self._files.popitem()[1].close()

    def _end_session(self, *, succeeded: bool) -> None:
        status = api_pb2.STATUS_SUCCESS if succeeded else api_pb2.STATUS_FAILURE
        end = plugin_data_pb2.SessionEndInfo(status=status, end_time_secs=time.time())
        data = plugin_data_pb2.HParamsPluginData(session_end_info=end)
        self._write_run(0, _hparams_data_summary(hparams_metadata.SESSION_END_INFO_TAG, data))

    def _write_series(self, split: Split, step: int, summaries: Iterable[summary_pb2.Summary]) -> None:
        if split not in SPLITS:
            raise ValueError(f"a split is one of {SPLITS}. Received: {split!r}")
        directory = self._directory / split
        last = self._last_steps.get(directory, self._first_step_of(split))
        if step < last:  # resuming cuts a file at a step, which would lose what is out of order
            raise ValueError(f"the steps of a split do not go down: {split} was at {last}. Received: step={step}")
        self._last_steps[directory] = step
        file = self._open(directory, self._first_step_of(split))
        for summary in summaries:
            file.write(event_pb2.Event(wall_time=time.time(), step=step, summary=summary))

    def _write_run(self, step: int, summary: summary_pb2.Summary) -> None:
        self._open(self._directory, 0).write(event_pb2.Event(wall_time=time.time(), step=step, summary=summary))

    def _first_step_of(self, split: Split) -> int:
        """The test is done once, of the best epoch, which may be any: a run that goes on does it anew."""
        return 0 if split == "test" else self._first_step

    def _open(self, directory: Path, first_step: int) -> _EventFile:
        if directory not in self._files:
            self._files[directory] = _EventFile(directory, first_step)
        return self._files[directory]


class _EventFile:
    """A new event file, which TensorBoard reads after those already in the directory."""

    def __init__(self, directory: Path, first_step: int):
        directory.mkdir(parents=True, exist_ok=True)
        earlier = _event_files(directory)
        number = int(earlier[-1].name.split(".")[3]) + 1 if earlier else 1  # clocks may go back, numbers do not
        self._file = (directory / f"events.out.tfevents.{number:06d}.{time.time_ns()}").open("xb")
        self._records = RecordWriter(self._file)
        self.write(event_pb2.Event(wall_time=time.time(), file_version="brain.Event:2"))
        # A TensorBoard that was open all the time drops what it had read from this step on.
        start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        self.write(event_pb2.Event(wall_time=time.time(), step=first_step, session_log=start))
        sync(directory)
        sync(directory.parent)

    def write(self, event: event_pb2.Event) -> None:
        self._records.write(event.SerializeToString())

    def flush(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()


def _event_files(directory: Path) -> list[Path]:
    """Our event files in a directory, in the order in which they were written; whatever else is there is left alone."""
    return sorted(
        path
        for path in directory.glob("events.out.tfevents.*")
        if _NAME.fullmatch(path.name) and path.is_file() and not path.is_symlink()
    )


def _remove_events(paths: Iterable[Path], first_step: int = 0) -> None:
    """Cut each file before its first event of `first_step` or later, or delete it if no summary comes before."""
    for path in paths:
        end, has_summary = 0, False
        for event, event_end in _read_events(path):
            if event.step >= first_step and event.HasField("summary"):
                break
            end, has_summary = event_end, has_summary or event.HasField("summary")
        if not has_summary:
            path.unlink()
        elif end < path.stat().st_size:
            with path.open("r+b") as file:  # in place: a TensorBoard that is reading the file sees nothing twice
                file.truncate(end)
                os.fsync(file.fileno())


def _read_events(path: Path) -> Iterator[tuple[event_pb2.Event, int]]:
    """Each event of a file and where its record ends, up to one that was cut off or damaged.

    A record is a length (8 bytes), its checksum (4), the event and its checksum (4):
    https://www.tensorflow.org/tutorials/load_data/tfrecord#tfrecords_format_details
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        while header := file.read(12):
            end = file.tell() + struct.unpack("<Q", header[:8])[0] + 4 if len(header) == 12 else size + 1
            if end > size:
                return
            try:
                event = event_pb2.Event.FromString(file.read(end - 4 - file.tell()))
            except DecodeError:
                return
            yield event, file.seek(end)


def _image_summary(tag: str, png: bytes) -> summary_pb2.Summary:
    if png[:8] != _PNG_SIGNATURE or len(png) < 24:
        raise ValueError(f"the image '{tag}' is not an encoded PNG")
    width, height = struct.unpack(">II", png[16:24])
    tensor = make_tensor_proto([str(width).encode(), str(height).encode(), png], dtype=types_pb2.DT_STRING)
    metadata = image_metadata.create_summary_metadata(display_name=None, description=None)
    return _summary(tag, metadata, tensor)


def _histogram_summary(tag: str, values: npt.ArrayLike) -> summary_pb2.Summary:
    finite = np.asarray(values, dtype=np.float64).ravel()
    finite = finite[np.isfinite(finite)]
    counts, edges = np.histogram(finite, bins=HISTOGRAM_BUCKETS)
    buckets = np.stack([edges[:-1], edges[1:], counts], axis=1)  # (buckets, 3): left, right, count
    metadata = histogram_metadata.create_summary_metadata(display_name=None, description=None)
    return _summary(tag, metadata, make_tensor_proto(buckets, dtype=np.float64))


def _experiment_summary(values: Mapping[str, bool | int | float | str]) -> summary_pb2.Summary:
    """What the HParams tab should show: these hyperparameters, and of all scalars only the metrics."""
    # TensorBoard lists those first that are said to differ, then by name, and hides all beyond the fifth.
    experiment = api_pb2.Experiment(
        time_created_secs=time.time(),
        hparam_infos=[
            api_pb2.HParamInfo(name=name, type=_hparam_type(value), differs=place < SHOWN_HPARAMS)
            for place, (name, value) in enumerate(values.items())
        ],
        metric_infos=[api_pb2.MetricInfo(name=api_pb2.MetricName(tag=tag)) for tag in HPARAMS_METRICS],
    )
    data = plugin_data_pb2.HParamsPluginData(experiment=experiment)
    return _hparams_data_summary(hparams_metadata.EXPERIMENT_TAG, data)


def _hparam_type(value: bool | int | float | str) -> Any:
    if isinstance(value, bool):
        return api_pb2.DATA_TYPE_BOOL
    return api_pb2.DATA_TYPE_STRING if isinstance(value, str) else api_pb2.DATA_TYPE_FLOAT64


def _hparams_data_summary(tag: str, data: plugin_data_pb2.HParamsPluginData) -> summary_pb2.Summary:
    return _summary(tag, hparams_metadata.create_summary_metadata(data), hparams_metadata.NULL_TENSOR)


def _layout_summary() -> summary_pb2.Summary:
    charts = [layout_pb2.Chart(title=tag, multiline=layout_pb2.MultilineChartContent(tag=[f"^{tag}$"])) for tag in TAGS]
    layout = layout_pb2.Layout(category=[layout_pb2.Category(title="Training", chart=charts)])
    tensor = make_tensor_proto(layout.SerializeToString(), dtype=types_pb2.DT_STRING)
    return _summary(layout_metadata.CONFIG_SUMMARY_TAG, layout_metadata.create_summary_metadata(), tensor)


def _summary(tag: str, metadata: summary_pb2.SummaryMetadata, tensor: Any) -> summary_pb2.Summary:
    return summary_pb2.Summary(value=[summary_pb2.Summary.Value(tag=tag, metadata=metadata, tensor=tensor)])
