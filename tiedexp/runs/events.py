"""Event files, from which TensorBoard reads everything.

They are written record by record with TensorBoard's own protocol buffers, without TensorFlow. So nothing is queued, a
flush writes everything to the disk, and a full disk raises an `OSError` at the write that did not fit.
"""

from __future__ import annotations

import os
import re
import struct
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from tensorboard.compat.proto import event_pb2
from tensorboard.summary.writer.record_writer import RecordWriter

from tiedexp.files.atomic import sync

_NAME = re.compile(r"events\.out\.tfevents\.[0-9]{6}\.[0-9]+")


class EventFile:
    """A new event file, which TensorBoard reads after those already in the directory.

    Args:
        directory: where the file is made.
        first_step: TensorBoard forgets what earlier files have at this step and later.
    """

    def __init__(self, directory: Path, first_step: int = 0):
        directory.mkdir(parents=True, exist_ok=True)
        earlier = list_event_files(directory)
        number = int(earlier[-1].name.split(".")[3]) + 1 if earlier else 1  # a clock can go back, a number cannot
        self._file = (directory / f"events.out.tfevents.{number:06d}.{time.time_ns()}").open("xb")
        self._records = RecordWriter(self._file)
        self._write(event_pb2.Event(wall_time=time.time(), file_version="brain.Event:2"))
        # A TensorBoard that is still open drops what it has read from this step on.
        start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        self._write(event_pb2.Event(wall_time=time.time(), step=first_step, session_log=start))
        sync(directory)
        sync(directory.parent)

    def write(self, step: int, summary: Any) -> None:
        """Write a summary, made by `tiedexp.runs.summaries`, at a step."""
        self._write(event_pb2.Event(wall_time=time.time(), step=step, summary=summary))

    def _write(self, event: Any) -> None:
        self._records.write(event.SerializeToString())

    def flush(self) -> None:
        """Write everything so far to the disk."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def list_event_files(directory: Path) -> list[Path]:
    """Our event files in a directory, in the order in which they were written; other files are left out."""
    return sorted(
        path
        for path in directory.glob("events.out.tfevents.*")
        if _NAME.fullmatch(path.name) and path.is_file() and not path.is_symlink()
    )


def remove_events(paths: Iterable[Path], first_step: int = 0) -> None:
    """Cut each file before its first summary at `first_step` or later; a file without earlier summaries is deleted."""
    for path in paths:
        end, has_summary = 0, False
        for event, event_end in read_events(path):
            if event.step >= first_step and event.HasField("summary"):
                break
            end, has_summary = event_end, has_summary or event.HasField("summary")
        if not has_summary:
            path.unlink()
        elif end < path.stat().st_size:
            with path.open("r+b") as file:  # in place, so that a TensorBoard that has it open sees nothing twice
                file.truncate(end)
                os.fsync(file.fileno())


def read_events(path: Path) -> Iterator[tuple[event_pb2.Event, int]]:
    """Each event of a file with the offset where its record ends; stops at a record that is cut off or damaged.

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
