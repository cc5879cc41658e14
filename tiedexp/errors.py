"""The errors that tiedexp raises, as one tree.

TiedexpError                   exit code 1
├── PatternError               exit code 2   a grid or preset that is not a pattern (also a ValueError)
├── SpecError                  exit code 2   an invalid spec or command (also a ValueError)
├── BackendError               exit code 2   Keras has a backend other than TensorFlow (also an ImportError)
├── DatasetError               exit code 1   a dataset that is missing, not prepared or damaged
└── RunError                   exit code 1   a run that failed, or a run directory that cannot be used
    ├── DivergenceError        exit code 1   a model whose loss, weights or outputs are NaN or infinite
    ├── RunLockedError         exit code 1   a run that another process is using
    └── RunInterruptedError    exit code 130 a run that a signal stopped; its last checkpoint is kept
"""

from __future__ import annotations

from collections.abc import Sequence


class TiedexpError(Exception):
    """The base of all errors that tiedexp raises on purpose. The user sees the whole message."""

    exit_code = 1


class PatternError(TiedexpError, ValueError):
    """A grid, preset or option that does not define a pattern."""

    exit_code = 2


class SpecError(TiedexpError, ValueError):
    """A spec that cannot be run. The message has one line per problem, with its location in the file.

    Args:
        problems: one message per problem, in the order of the file.
    """

    exit_code = 2

    def __init__(self, problems: str | Sequence[str]):
        self.problems = (problems,) if isinstance(problems, str) else tuple(problems)
        super().__init__("\n".join(self.problems))


class BackendError(TiedexpError, ImportError):
    """Keras uses a backend other than TensorFlow."""

    exit_code = 2


class DatasetError(TiedexpError):
    """A dataset that is unknown, not prepared, incomplete or damaged."""


class RunError(TiedexpError):
    """A run that failed, or a run directory that is missing, locked or damaged."""


class DivergenceError(RunError):
    """A model whose loss, weights or outputs became NaN or infinite; repeating the training would not help."""


class RunLockedError(RunError):
    """A run that another process is using; only one process at a time can use a run."""


class RunInterruptedError(RunError):
    """A run that was interrupted; its last checkpoint is kept."""

    exit_code = 130


def explain_os_error(error: OSError) -> str:
    """The message of the system and its file, e.g. `No space left on device: runs/a/metrics.jsonl`."""
    return f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}"
