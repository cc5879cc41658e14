"""What can go wrong, as one tree.

TiedexpError                   exit code 1
├── PatternError               exit code 2   a grid or preset that is no pattern (a ValueError too)
├── SpecError                  exit code 2   a spec, or a command's input, that cannot be meant
├── BackendError               exit code 2   Keras has another backend than TensorFlow (an ImportError too)
├── DatasetError               exit code 1   data that is missing, unprepared or damaged
└── RunError                   exit code 1   a run that failed, or a run directory that cannot be used
    ├── DivergenceError        exit code 1   a model whose loss, weights or outputs are no numbers any more
    ├── RunLockedError         exit code 1   a run that another process is in
    └── RunInterruptedError    exit code 130 a run stopped by a signal, its last checkpoint kept
"""

from __future__ import annotations

from collections.abc import Sequence


class TiedexpError(Exception):
    """Base of every error that tiedexp raises on purpose; its text is meant for the user, whole."""

    exit_code = 1


class PatternError(TiedexpError, ValueError):
    """A grid, preset or option that does not make a tying pattern."""

    exit_code = 2


class SpecError(TiedexpError, ValueError):
    """A spec that cannot be run: the text has one line a problem, each with its place in the file.

    Args:
        problems: one message for each problem, in the order of the file.
    """

    exit_code = 2

    def __init__(self, problems: str | Sequence[str]):
        self.problems = (problems,) if isinstance(problems, str) else tuple(problems)
        super().__init__("\n".join(self.problems))


class BackendError(TiedexpError, ImportError):
    """Keras computes with another backend than TensorFlow."""

    exit_code = 2


class DatasetError(TiedexpError):
    """A dataset that is unknown, not prepared, incomplete or damaged."""


class RunError(TiedexpError):
    """A run that failed, or a run directory that is absent, locked or damaged."""


class DivergenceError(RunError):
    """A model whose loss, weights or outputs became NaN or infinite; the same training would come to the same."""


class RunLockedError(RunError):
    """A run that another process is in, and only one may be."""


class RunInterruptedError(RunError):
    """A run that was asked to stop and did, with its last checkpoint kept."""

    exit_code = 130


def explain_os_error(error: OSError) -> str:
    """What the system refused, and of which file: `No space left on device: runs/a/metrics.jsonl`."""
    return f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}"
