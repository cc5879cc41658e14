"""The process of a command that runs TensorFlow: its noise and its signals."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from tempfile import TemporaryFile
from types import FrameType

from tiedexp.backend import require_tensorflow
from tiedexp.errors import RunError

SHOW_CURSOR = b"\x1b[?25h"  # the progress bar hides it


@contextmanager
def quiet_tensorflow() -> Iterator[None]:
    """Import TensorFlow here, without the notices that its C++ code prints before it reads any log level.

    If the import fails, what it printed is printed after all. Warnings that TensorFlow and TFDS log about themselves
    are dropped, errors are not.

    Raises:
        BackendError: Keras has another backend.
        RunError: TensorFlow cannot be imported.
    """
    require_tensorflow()
    for name in ("absl", "tensorflow"):
        logging.getLogger(name).setLevel(logging.ERROR)
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
def stop_on_signals() -> Iterator[Callable[[], bool]]:
    """Ctrl-C, or SIGTERM as cluster schedulers send it: the first asks the block to stop, the second ends the process.

    Yields:
        whether it was asked to.
    """
    asked = False

    def ask(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        asked = True

    # Python runs a signal's handler only once C++ code comes back, which while TensorFlow compiles may take long. The
    # number of each signal is written to this pipe at once, and a thread reads it.
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    watcher = threading.Thread(target=_end_at_second_signal, args=(reader,), daemon=True)
    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    before_descriptor = signal.set_wakeup_fd(writer)
    watcher.start()
    try:
        yield lambda: asked
    finally:
        signal.set_wakeup_fd(before_descriptor)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(writer)
        watcher.join()
        os.close(reader)


def _end_at_second_signal(reader: int) -> None:
    count = 0
    while received := os.read(reader, 16):
        count += sum(number in (signal.SIGINT, signal.SIGTERM) for number in received)
        if count == 1 and sys.stderr.isatty():
            os.write(2, b"\nstopping after this step, with a checkpoint; once more ends at once\n")
        if count > 1:
            if sys.stdout.isatty():
                os.write(1, SHOW_CURSOR)
            os.write(2, b"\nerror: interrupted at once; the same command goes on from the last checkpoint\n")
            os._exit(130)
