"""What the variants of a sweep are called."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tiedexp.experiment.preparation import name_pattern
from tiedexp.keys import look_up
from tiedexp.labels import PATTERN, Setting, make_label
from tiedexp.spec.document import show
from tiedexp.spec.schema import ExperimentSpec

MAX_NAME = 60


def label_variant(spec: ExperimentSpec, keys: Sequence[str]) -> str:
    """What differs in these keys of the spec, short: `block d4 batch_size=64`."""
    settings = {PATTERN if key == "model.tying" else key: _find(spec, key) for key in keys}
    return make_label(settings) or "base"


def _find(spec: ExperimentSpec, key: str) -> Setting:
    if key in ("model.tying", PATTERN):
        return name_pattern(spec.model)
    return show(look_up(spec.model_dump(mode="json"), key)).strip("'")


def make_name(label: str) -> str:
    """A label as a name of runs."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", label)[:MAX_NAME].strip("-._") or "variant"
