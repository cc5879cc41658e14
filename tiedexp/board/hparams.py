"""The columns of the HParams tab for a sweep: the hyperparameters in which its runs differ, and their values."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from tiedexp.keys import look_up
from tiedexp.runs.records import Manifest
from tiedexp.runs.summaries import HParam, HParamValue
from tiedexp.runs.sweeps import PlannedRun, SweepRecord, Variant
from tiedexp.runs.tensorboard import SHOWN_HPARAMS

COSTS = ("unique_weights", "macs_tied", "expanded_weights", "macs_dense")
MAX_CHECKBOXES = 9  # with more values, the tab filters numbers by an interval, and texts by a regular expression
MAX_LENGTH = 200
_TYING = ("model.tying", "model.tying.pattern")


def describe_columns(record: SweepRecord, manifests: Mapping[str, Manifest]) -> list[HParam]:
    """The hyperparameters in which runs differ, and their values.

    Args:
        record: the record of the sweep.
        manifests: the manifest of one run of each variant that has started, by the variant's name. What is not known of
            other variants is assumed to differ.
    """
    values: dict[str, list[HParamValue]] = {name: [] for name in [*_name_axes(record), "seed", *COSTS]}
    open_names: set[str] = set()
    values["seed"] = [str(seed) for seed in dict.fromkeys(run.seed for run in record.runs)]
    for variant in record.variants:
        known = _values_of(record, variant, manifests.get(variant.name))
        for name in values.keys() - {"seed"}:
            if name in known:
                values[name].append(known[name])
            else:
                open_names.add(name)
    names = [name for name in values if name == "seed" or name in open_names or len(set(values[name])) > 1]
    return [_column(name, values[name], position, name in open_names) for position, name in enumerate(names)]


def read_hparams(
    columns: Iterable[HParam], record: SweepRecord, planned: PlannedRun, manifest: Manifest
) -> dict[str, HParamValue]:
    """A run's values of these columns."""
    variant = next(variant for variant in record.variants if variant.name == planned.variant)
    known = {**_values_of(record, variant, manifest), "seed": str(planned.seed)}  # a name, not a quantity
    return {column.name: _fit(known[column.name], column.kind) for column in columns}


def _name_axes(record: SweepRecord) -> dict[str, str]:
    """The short name of each axis, and its key. The name is the last part of the key, if no other key ends in it."""
    keys = list(record.axes)
    if len({variant.width for variant in record.variants}) > 1 and "model.width" not in keys:
        keys.append("model.width")  # `match` adjusted it to a budget
    if any(key in _TYING for key in keys):
        keys = [_TYING[1], *(key for key in keys if key not in _TYING)]
    short = {key: key.rpartition(".")[2] for key in keys}
    taken = Counter([*short.values(), "seed", *COSTS])
    return {_clean(short[key] if taken[short[key]] == 1 else key): key for key in keys}


def _values_of(record: SweepRecord, variant: Variant, manifest: Manifest | None) -> dict[str, HParamValue]:
    """What is known of a variant: everything once it has started, before that what the sweep sets."""
    found: dict[str, HParamValue] = {}
    for name, key in _name_axes(record).items():
        if key == "model.width":
            found[name] = variant.width
        elif manifest is not None:
            found[name] = _plain(manifest.pattern if key in _TYING else look_up(manifest.spec, key))
        elif key in _TYING:
            given = variant.settings.get(key, variant.settings.get(_TYING[0], {}))
            if given is None or isinstance(given, str):
                found[name] = _plain(given)
        elif key in variant.settings:
            found[name] = _plain(variant.settings[key])
    if manifest is not None:
        found |= {name: float(getattr(manifest, name)) for name in COSTS}
    return found


def _column(name: str, values: list[HParamValue], position: int, is_open: bool) -> HParam:
    kinds = {bool if isinstance(value, bool) else str if isinstance(value, str) else float for value in values}
    kind = float if name in COSTS else kinds.pop() if len(kinds) == 1 else str
    distinct = list(dict.fromkeys(_fit(value, kind) for value in values))
    shown, interval = position < SHOWN_HPARAMS, None
    if kind is float:
        distinct.sort()
        if len(distinct) > MAX_CHECKBOXES:
            interval = None if is_open else (float(distinct[0]), float(distinct[-1]))
            distinct = []
    return HParam(name, kind, shown, tuple(distinct), interval)


def _fit(value: HParamValue, kind: type) -> HParamValue:
    return value if kind is not str or isinstance(value, str) else json.dumps(value)


def _plain(value: Any) -> HParamValue:
    """A JSON value as TensorBoard accepts it."""
    if isinstance(value, bool):
        return value
    # The browser receives whole numbers as doubles.
    if isinstance(value, int | float) and math.isfinite(value) and abs(value) <= 2**53:
        return value
    return _clean("none" if value is None else value if isinstance(value, str) else json.dumps(value))


def _clean(text: str) -> str:
    """A text that can be encoded: JSON can contain lone surrogates."""
    return text.encode("utf-8", "replace").decode()[:MAX_LENGTH]
