"""What variants are called: short words for what differs between them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from tiedexp.experiment.plan import name_pattern
from tiedexp.spec.document import show
from tiedexp.spec.schema import ExperimentSpec

MAX_NAME = 60
_SHORT = {"model.depth": "d{}", "model.width": "w{}", "dataset.name": "{}"}


def make_label(spec: ExperimentSpec, keys: Sequence[str]) -> str:
    """What differs, short: `block d4 batch_size=64`."""
    words = []
    for key in keys:
        if key == "model.tying.pattern" and "model.tying" in keys:
            continue
        if key in ("model.tying", "model.tying.pattern"):
            words.append("untied" if spec.model.tying is None else name_pattern(spec.model))
        elif key == "model.kernel_size":
            size = spec.model.kernel_size
            words.append("x".join(map(str, (size, size) if isinstance(size, int) else size)))
        else:
            value: Any = spec.model_dump(mode="json")
            for step in key.split("."):
                value = value[int(step)] if isinstance(value, list) else (value or {}).get(step)
            words.append(_SHORT.get(key, f"{key.rpartition('.')[2]}={{}}").format(show(value).strip("'")))
    return " ".join(words) or "base"


def make_name(label: str) -> str:
    """A label as a name of runs."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", label)[:MAX_NAME].strip("-._") or "variant"
