"""Sorting runs into variants, which are runs that differ only in their seed, and labelling these."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tiedexp.compare.reading import ComparedRun, ComparedSweep
from tiedexp.errors import SpecError
from tiedexp.labels import PATTERN, Setting, make_label
from tiedexp.terminal import clean_text
from tiedexp.text import shorten

WIDTH = "model.width"
_MAX_LABEL = 48

Pair = tuple[Any, ...]


@dataclass(frozen=True)
class ComparedVariant:
    """A variant with its runs.

    Args:
        name: its name in the sweep, or else in the specs of its runs.
        label: what makes it differ from other variants, in words.
        settings: what makes it differ from other variants, by dotted keys.
        runs: its runs by what pairs them with runs of other variants: the seed, and the axes that are averaged over.
    """

    name: str
    label: str
    settings: Mapping[str, Setting]
    runs: Mapping[Pair, ComparedRun]

    @property
    def sweeps(self) -> set[ComparedSweep | None]:
        """The sweeps of its runs; None for runs that are of no sweep."""
        return {run.sweep for run in self.runs.values()}

    @property
    def is_planned_baseline(self) -> bool:
        """Whether it is the baseline of a sweep."""
        return any(run.sweep and run.variant == run.sweep.record.baseline for run in self.runs.values())


def build_variants(runs: Sequence[ComparedRun], by: Sequence[str] = ()) -> list[ComparedVariant]:
    """Sort runs into variants.

    Args:
        runs: the runs. Those of sweeps get the labels of their sweeps, with the sweep's title if two are the same.
        by: the dotted keys that define a variant; if empty, all keys that differ.

    Raises:
        SpecError: the runs do not differ in a key of `by`.
    """
    axes = _list_axes(runs)
    for key in by:
        if key not in axes:
            raise SpecError(f"--by {key}: the runs do not differ in it; they differ in {', '.join(axes) or 'nothing'}")
    keys = tuple(by) or axes
    matched = all(run.sweep is not None and run.sweep.record.match for run in runs)
    rest = [axis for axis in axes if axis not in keys and not (matched and axis == WIDTH)]
    members: dict[Pair, dict[Pair, ComparedRun]] = {}
    for run in runs:
        settings = _settings_of(run)
        pair = (run.seed, *(settings.get(axis) for axis in rest))
        members.setdefault(tuple(settings.get(key) for key in keys), {})[pair] = run
    labels = {} if by else _list_labels(runs)
    variants = []
    for values, of_variant in members.items():
        first = next(iter(of_variant.values()))
        settings = dict(zip(keys, values, strict=True))
        label = labels.get((first.sweep, first.variant)) or make_label(settings) or first.name
        variants.append(ComparedVariant(first.variant or first.name, label, settings, of_variant))
    return _name_apart(variants if by else _add_titles(variants))


def _list_labels(runs: Iterable[ComparedRun]) -> dict[tuple[ComparedSweep | None, str | None], str]:
    """The labels that sweeps give to their variants."""
    sweeps = {run.sweep for run in runs if run.sweep is not None}
    return {(sweep, each.name): clean_text(each.label) for sweep in sweeps for each in sweep.record.variants}


def _add_titles(variants: list[ComparedVariant]) -> list[ComparedVariant]:
    """The same variants, with the sweep's title added to labels that several sweeps use."""
    sweeps = [next(iter(variant.runs.values())).sweep for variant in variants]  # whose labels they have
    count = Counter(
        label for _, label in {(sweep, variant.label) for sweep, variant in zip(sweeps, variants, strict=True)}
    )
    return [
        variant
        if sweep is None or count[variant.label] == 1
        else replace(variant, label=f"{sweep.title}: {variant.label}")
        for sweep, variant in zip(sweeps, variants, strict=True)
    ]


def find_axes(runs: Iterable[Mapping[str, Setting]]) -> tuple[str, ...]:
    """The keys that tell runs apart: those with several values, and those missing in some runs, if they are needed.

    E.g. `training.optimizer.momentum`, which only sgd has, adds nothing to `training.optimizer.name`.
    """
    every = list(runs)
    values: dict[str, set[Setting]] = {}
    for settings in every:
        for key, value in settings.items():
            values.setdefault(key, set()).add(value)
    axes = [key for key, found in values.items() if len(found) > 1]
    lacked = [key for key, found in values.items() if len(found) == 1 and not all(key in each for each in every)]
    for key in lacked:
        having = {tuple(each.get(axis) for axis in axes) for each in every if key in each}
        lacking = {tuple(each.get(axis) for axis in axes) for each in every if key not in each}
        if having & lacking:
            axes.append(key)
    order = list(values)
    return tuple(sorted(axes, key=lambda axis: (axis != PATTERN, order.index(axis))))


def _list_axes(runs: Sequence[ComparedRun]) -> tuple[str, ...]:
    """The keys in which runs differ, and the name of the variant if these do not tell all runs apart."""
    axes = find_axes([run.settings for run in runs])
    distinct = {(run.seed, *(run.settings.get(axis) for axis in axes)) for run in runs}
    return axes if len(distinct) == len(runs) else (*axes, "name")


def _settings_of(run: ComparedRun) -> Mapping[str, Setting]:
    return {**run.settings, "name": run.variant or run.name}


def _name_apart(variants: list[ComparedVariant]) -> list[ComparedVariant]:
    """The same variants, with labels that are short and all different."""
    taken: set[str] = set()
    apart = []
    for variant in variants:
        label = shorten(variant.label, _MAX_LABEL)
        if label in taken:
            label = f"{label} ({variant.name})"
        number = 2
        while label in taken:
            label, number = f"{variant.label[:_MAX_LABEL]} #{number}", number + 1
        taken.add(label)
        apart.append(ComparedVariant(variant.name, label, variant.settings, variant.runs))
    return apart
