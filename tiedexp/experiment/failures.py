"""What stops a run, turned into one message that its directory keeps."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from tiedexp.errors import RunError, RunInterruptedError, RunLockedError, TiedexpError, explain_os_error
from tiedexp.runs.directory import RunDirectory

REMEDY = "the same spec would fail again, so change it: a smaller learning_rate, a warm-up or gradient_clipping"


@contextmanager
def record_failure(run: RunDirectory) -> Iterator[None]:
    """Write into the run's directory why the block failed."""
    try:
        with system_failures():
            yield
    except (RunLockedError, RunInterruptedError):
        raise
    except TiedexpError as error:
        if not run.finished:
            with suppress(OSError, RunError):  # perhaps the disk is full
                run.write_failure(str(error))
        raise


@contextmanager
def system_failures() -> Iterator[None]:
    """Turn what the operating system refuses into RunError."""
    try:
        yield
    except MemoryError as error:
        raise RunError(f"out of memory{f': {error}' if str(error) else ''}") from error
    except OSError as error:
        raise RunError(explain_os_error(error)) from error
