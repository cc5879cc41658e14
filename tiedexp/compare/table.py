"""From runs to a comparison: means, differences from the baseline, and the order of the rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean

from tiedexp.compare.comparison import TOLERANCE, Comparison, Row, is_lower_better
from tiedexp.compare.notes import write_notes
from tiedexp.compare.reading import ComparedRun, FoundRuns
from tiedexp.compare.statistics import (
    compare_pairs,
    correct_holm,
    count_needed_pairs,
    estimate_mean,
    find_dominating,
)
from tiedexp.compare.variants import ComparedVariant, build_variants
from tiedexp.errors import RunError, SpecError
from tiedexp.labels import PATTERN


def build_comparison(
    found: FoundRuns,
    runs: Sequence[ComparedRun],
    *,
    metric: str = "test/accuracy",
    baseline: str | None = None,
    by: Sequence[str] = (),
) -> Comparison:
    """Compare runs.

    Args:
        found: all runs that were found.
        runs: those of them to compare.
        metric: the metric to report, e.g. `test/accuracy` or `validation/loss`.
        baseline: the label or name of a variant. If None, it is the sweeps' baseline, provided that they agree on one;
            if no sweep has one, it is the only untied variant.
        by: the dotted keys that define a variant; if empty, all keys that differ.

    Raises:
        RunError: no run is finished.
        SpecError: the runs do not have the metric, baseline or key.
    """
    if not runs:
        raise RunError("none of the runs is finished, so there is nothing to compare")
    known = sorted({key for run in runs for key in run.metrics})
    if metric not in known:
        raise SpecError(f"--metric {metric}: the runs have {', '.join(known)}")
    variants = [variant for variant in build_variants(runs, by) if _values(variant, metric)]
    base = _find_baseline(variants, baseline)
    selection: str | None = f"validation/{metric.rpartition('/')[2]}"
    if not all(_values(variant, str(selection)) for variant in variants):
        selection = None
    rows = [_build_row(variant, base, metric, selection) for variant in variants]
    rows = _correct(rows)
    rows = _mark_dominated(rows, selection or metric, by_selection=selection is not None)
    rows = _order(rows, selection or metric, by_selection=selection is not None)
    label = None if base is None else base.label
    axes = tuple(variants[0].settings)
    comparison = Comparison(metric, selection, label, axes, tuple(rows), selection or metric, ())
    return replace(comparison, notes=tuple(write_notes(comparison, found)))


def _values(variant: ComparedVariant, metric: str) -> dict[tuple[object, ...], float]:
    return {pair: run.metrics[metric] for pair, run in variant.runs.items() if metric in run.metrics}


def _find_baseline(variants: Sequence[ComparedVariant], wanted: str | None) -> ComparedVariant | None:
    if wanted is not None:
        fits = [
            variant
            for variant in variants
            if wanted in (variant.label, variant.name, *map(str, variant.settings.values()))
        ]
        if len(fits) != 1:
            problem = "no variant has this name" if not fits else "several variants fit"
            labels = ", ".join(variant.label for variant in variants)
            raise SpecError(f"--baseline {wanted}: {problem}; the variants are {labels}")
        return fits[0]
    if any(sweep is not None and sweep.record.baseline is not None for variant in variants for sweep in variant.sweeps):
        planned = [variant for variant in variants if variant.is_planned_baseline]
        return planned[0] if len(planned) == 1 else None
    untied = [variant for variant in variants if variant.settings.get(PATTERN) in ("none", "full")]
    return untied[0] if len(untied) == 1 else None


def _build_row(variant: ComparedVariant, base: ComparedVariant | None, metric: str, selection: str | None) -> Row:
    runs = variant.runs.values()
    values = _values(variant, metric)
    difference = budgets = None
    if base is not None and base is not variant:
        theirs = _values(base, metric)
        common = [pair for pair in values if pair in theirs]
        if common:
            difference = compare_pairs([values[pair] for pair in common], [theirs[pair] for pair in common])
        budgets = _match_budgets(variant, base)
    seconds = [run.epoch_seconds for run in runs if run.epoch_seconds is not None]
    return Row(
        variant=variant,
        selection=None if selection is None else estimate_mean(list(_values(variant, selection).values())),
        metric=estimate_mean(list(values.values())),
        difference=difference,
        p=None if difference is None else difference.p,
        needed=None,
        unique_weights=fmean(run.unique_weights for run in runs),
        macs_dense=fmean(run.macs_dense for run in runs),
        macs_tied=fmean(run.macs_tied for run in runs),
        epoch_seconds=fmean(seconds) if seconds else None,
        equal_budgets=budgets,
    )


def _match_budgets(variant: ComparedVariant, base: ComparedVariant) -> tuple[str, ...]:
    """The budgets that two variants share. Measured times are too noisy to compare: only their sweep can match them."""
    counts = {"weights": "unique_weights", "macs": "macs_tied"}
    equal = []
    for budget, key in counts.items():
        ours, theirs = (fmean(getattr(run, key) for run in each.runs.values()) for each in (variant, base))
        if abs(ours - theirs) <= TOLERANCE * theirs:
            equal.append(budget)
    sweeps = variant.sweeps | base.sweeps
    is_timed = len(sweeps) == 1 and all(sweep is not None and sweep.record.match == "time" for sweep in sweeps)
    return (*equal, "time") if is_timed else tuple(equal)


def _correct(rows: Sequence[Row]) -> list[Row]:
    """Apply Holm's correction to all differences, and estimate how many pairs each of them needs."""
    corrected = correct_holm([row.p for row in rows])
    comparisons = sum(p is not None for p in corrected)
    return [
        replace(row, p=p, needed=None if row.difference is None else count_needed_pairs(row.difference, comparisons))
        for row, p in zip(rows, corrected, strict=True)
    ]


def _quality(row: Row, metric: str, *, by_selection: bool) -> float:
    estimate = row.selection if by_selection and row.selection is not None else row.metric
    return -estimate.mean if is_lower_better(metric) else estimate.mean


def _mark_dominated(rows: Sequence[Row], metric: str, *, by_selection: bool) -> list[Row]:
    points = [(_quality(row, metric, by_selection=by_selection), row.unique_weights) for row in rows]
    return [
        replace(row, dominated_by=None if better is None else rows[better].label)
        for row, better in zip(rows, find_dominating(points), strict=True)
    ]


def _order(rows: Sequence[Row], metric: str, *, by_selection: bool) -> list[Row]:
    return sorted(rows, key=lambda row: -_quality(row, metric, by_selection=by_selection))
