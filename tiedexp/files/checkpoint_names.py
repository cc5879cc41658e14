"""How the files of a checkpoint are named.

epoch-0003.weights.h5, epoch-0003.json                          after three epochs
epoch-0003-step-000120.weights.h5, epoch-0003-step-000120.json  after 120 more steps
"""

from __future__ import annotations

import re

ABOUT, WEIGHTS = ".json", ".weights.h5"
PATTERNS = (f"epoch-*{ABOUT}", f"epoch-*{WEIGHTS}")
_NAME = re.compile(r"epoch-([0-9]{4,9})(?:-step-([0-9]{6,9}))?")

# (completed epochs, completed steps of the next epoch): the order of checkpoints.
Position = tuple[int, int]


def name_checkpoint(position: Position, suffix: str) -> str:
    """The name of a checkpoint's file with one of the two suffixes."""
    epoch, step = position
    return f"epoch-{epoch:04d}" + (f"-step-{step:06d}" if step else "") + suffix


def parse_checkpoint(name: str, suffix: str) -> Position | None:
    """The position of the checkpoint whose file has this name and suffix; None if it is not a checkpoint's name."""
    match = _NAME.fullmatch(name.removesuffix(suffix)) if name.endswith(suffix) else None
    return (int(match[1]), int(match[2] or 0)) if match else None
