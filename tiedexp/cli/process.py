"""The process of a command that runs TensorFlow: its noise and its signals."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryFile
from types import FrameType

from tiedexp.errors import RunError


@contextmanager
def quiet_tensorflow() -> Iterator[None]:
    """Import TensorFlow here, without the notices that its C++ code prints before it reads any log level.

    If the import fails, what it printed is printed after all. Warnings that TensorFlow and TFDS log about themselves
    are dropped, errors are not.

    Raises:
        RunError: TensorFlow cannot be imported.
    """
    logging.getLogger("absl").setLevel(logging.ERROR)
    if "tensorflow" not in sys.modules:
        sys.stderr.flush()
        stderr = os.dup(2)
        with TemporaryFile() as printed:
            os.dup2(printed.fileno(), 2)
            try:
                import tensorflow as tf  # noqa: F401
            except ImportError as error:
                printed.seek(0)
                os.write(stderr, printed.read())
                reason = str(error).strip().splitlines()[0]
                raise RunError(f"TensorFlow cannot be imported: {reason}; `tiedexp doctor` checks the rest") from error
            finally:
                os.dup2(stderr, 2)
                os.close(stderr)
    yield


@contextmanager
def interruptible() -> Iterator[None]:
    """Let SIGTERM, as cluster schedulers send it, end the block as Ctrl-C does."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
