"""What commands print: one JSON document on stdout, and warnings on stderr."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping
from typing import Any


def print_json(content: Any) -> None:
    """Print one JSON document: in ASCII, so that every terminal shows it and every file name can be read back.

    JSON has no NaN and no infinity, which can come from a stranger's run; they become null.
    """
    print(json.dumps(_replace_non_finite(content), indent=2, allow_nan=False))


def _replace_non_finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _replace_non_finite(below) for key, below in value.items()}
    if isinstance(value, list | tuple):
        return [_replace_non_finite(below) for below in value]
    return value


def warn(text: str) -> None:
    """Print a warning on stderr, which leaves stdout to the result."""
    print(f"warning: {text}", file=sys.stderr)


def format_count(number: int, noun: str) -> str:
    """A number and its noun, e.g. `1 run` or `3 runs`."""
    return f"{number} {noun}{'s' * (number != 1)}"
