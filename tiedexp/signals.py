"""What Ctrl-C and SIGTERM do to a command."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import NoReturn

SIGNALS = (signal.SIGINT, signal.SIGTERM)
SHOW_CURSOR = b"\x1b[?25h"  # the progress bar hides it


class Interrupted(BaseException):
    """Ctrl-C or SIGTERM while there is nothing to finish first.

    This is not a `KeyboardInterrupt`, because Typer and click handle those themselves.
    """


@contextmanager
def interrupt_on_signals() -> Iterator[None]:
    """Raise `Interrupted` in the block on Ctrl-C and SIGTERM."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise Interrupted

    before = {number: signal.signal(number, interrupt) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def stop_on_signals() -> Iterator[Callable[[], bool]]:
    """Handle Ctrl-C and SIGTERM, which cluster schedulers send: the first asks the block to stop, the second exits.

    Until the block first checks whether to stop, e.g. while TensorFlow loads, there is nothing to finish, so the first
    signal already ends the process.

    Yields:
        a function that returns whether the block was asked to stop.
    """
    asked = listening = False

    def ask(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        asked = True

    def should_stop() -> bool:
        nonlocal listening
        listening = True
        return asked

    # Python runs the handler of a signal only after C++ code returns, which can take long while TensorFlow loads or
    # compiles. But it writes the number of each signal to this pipe immediately, and a thread reads it.
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    stderr = os.dup(2)  # because 2 is redirected while TensorFlow is imported
    watcher = threading.Thread(target=_watch_signals, args=(reader, stderr, lambda: listening), daemon=True)
    before = {number: signal.signal(number, ask) for number in SIGNALS}
    before_descriptor = signal.set_wakeup_fd(writer)
    watcher.start()
    try:
        yield should_stop
    finally:
        signal.set_wakeup_fd(before_descriptor)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(writer)
        watcher.join()
        os.close(reader)
        os.close(stderr)


def _watch_signals(reader: int, stderr: int, is_listening: Callable[[], bool]) -> None:
    count = 0
    while received := os.read(reader, 16):
        count += sum(number in SIGNALS for number in received)
        if count and not is_listening():
            _end(stderr, b"interrupted\n")
        if count == 1 and os.isatty(stderr):
            os.write(stderr, b"\nstopping after this step, with a checkpoint; press Ctrl-C again to stop immediately\n")
        if count > 1:
            _end(stderr, b"\nerror: interrupted immediately; the same command resumes from the last checkpoint\n")


def _end(stderr: int, message: bytes) -> NoReturn:
    """End the process, whatever its other threads are doing."""
    with suppress(OSError):  # the terminal is gone
        if os.isatty(1):
            os.write(1, SHOW_CURSOR)
        os.write(stderr, message)
    os._exit(130)
