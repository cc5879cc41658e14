"""The comparison: one row per variant, with what its seeds say and what it costs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from tiedexp.compare.grouping import Group, group_runs
from tiedexp.compare.reading import Collection, RunRecord
from tiedexp.compare.statistics import (
    MAX_SEEDS,
    Difference,
    Estimate,
    compare_pairs,
    correct_holm,
    count_needed_pairs,
    estimate_mean,
    find_dominating,
)
from tiedexp.errors import RunError, SpecError
from tiedexp.labels import PATTERN

LOWER_IS_BETTER = ("loss", "calibration_error")
LEVEL = 0.05
TOLERANCE = 0.05  # budgets within 5% of each other count as equal
ENOUGH_PAIRS = 3


@dataclass(frozen=True)
class Row:
    """A variant.

    Args:
        group: its runs, its label and settings.
        selection: the metric on validation, by which a variant is chosen; None without validation images.
        metric: the metric that is reported.
        difference: of the reported metric to the baseline's, paired; None of the baseline, and without one.
        p: of the difference, after Holm; None where there is none.
        needed: pairs that would about resolve a difference of this size; None where that cannot be said.
        unique_weights: trainable weights, mean over the runs, as the following.
        macs_dense: multiply-adds of one image, forward, every cell counted.
        macs_tied: the same, each group of tied cells counted once.
        epoch_seconds: seconds per epoch, without the first of each process; None if no run has another.
        equal_budgets: those of weights, macs and time that are the baseline's; None without a baseline.
        dominated_by: the label of a variant that is no worse on validation with no more weights; None on the front.
    """

    group: Group
    selection: Estimate | None
    metric: Estimate
    difference: Difference | None
    p: float | None
    needed: int | None
    unique_weights: float
    macs_dense: float
    macs_tied: float
    epoch_seconds: float | None
    equal_budgets: tuple[str, ...] | None = None
    dominated_by: str | None = None

    @property
    def label(self) -> str:
        """What it is called."""
        return self.group.label

    @property
    def is_resolved(self) -> bool:
        """Whether the difference is significant at 5% after Holm."""
        return self.p is not None and self.p < LEVEL

    @property
    def has_other_budget(self) -> bool:
        """Whether it has neither the weights, nor the multiply-adds, nor the time of the baseline."""
        return self.equal_budgets == ()

    @property
    def missing_seeds(self) -> int | None:
        """About how many more seeds would resolve the difference; None where that cannot be said."""
        if self.needed is None or self.difference is None:
            return None
        return max(self.needed - self.difference.estimate.count, 1)


@dataclass(frozen=True)
class Note:
    """A sentence below the table.

    Args:
        text: the sentence.
        columns: the keys of the columns that it explains, one of which must be shown; empty if it is about the table.
    """

    text: str
    columns: tuple[str, ...] = ()


@dataclass(frozen=True)
class Comparison:
    """All variants.

    Args:
        metric: what is reported, `test/accuracy`.
        selection: what variants are chosen by, `validation/accuracy`; None without validation images.
        baseline: the label of the variant that the others are compared with.
        axes: the dotted keys in which variants differ.
        rows: in order.
        order: the heading of the column that the rows are sorted by.
        notes: what a reader must know.
    """

    metric: str
    selection: str | None
    baseline: str | None
    axes: tuple[str, ...]
    rows: tuple[Row, ...]
    order: str
    notes: tuple[Note, ...]

    @property
    def lower_is_better(self) -> bool:
        """Whether a small value of the metric is a good one."""
        return is_lower_better(self.metric)

    @property
    def baseline_row(self) -> Row | None:
        """The row of the baseline."""
        return next((row for row in self.rows if row.label == self.baseline), None)


def is_lower_better(metric: str) -> bool:
    """Whether a small value of a metric is a good one."""
    return metric.rpartition("/")[2] in LOWER_IS_BETTER


def build_comparison(
    found: Collection,
    runs: Sequence[RunRecord],
    *,
    metric: str = "test/accuracy",
    baseline: str | None = None,
    by: Sequence[str] = (),
) -> Comparison:
    """Compare runs.

    Args:
        found: where they are from.
        runs: those of them to compare.
        metric: `test/accuracy`, `validation/loss` and so on.
        baseline: label or name of a variant; None for the sweeps', if they agree on one, or else the only untied one.
        by: the dotted keys that make a variant; all that differ if empty.

    Raises:
        RunError: no run is finished.
        SpecError: a metric, baseline or key that the runs do not have.
    """
    if not runs:
        raise RunError("none of the runs is finished, so there is nothing to compare")
    known = sorted({key for run in runs for key in run.metrics})
    if metric not in known:
        raise SpecError(f"--metric {metric}: the runs have {', '.join(known)}")
    groups = [group for group in group_runs(runs, by) if _values(group, metric)]
    base = _find_baseline(groups, baseline)
    selection: str | None = f"validation/{metric.rpartition('/')[2]}"
    if not all(_values(group, str(selection)) for group in groups):
        selection = None
    rows = [_build_row(group, base, metric, selection) for group in groups]
    rows = _correct(rows)
    rows = _mark_dominated(rows, selection or metric, by_selection=selection is not None)
    rows = _order(rows, selection or metric, by_selection=selection is not None)
    label = None if base is None else base.label
    axes = tuple(groups[0].settings)
    comparison = Comparison(metric, selection, label, axes, tuple(rows), selection or metric, ())
    return replace(comparison, notes=tuple(_list_notes(comparison, found)))


def _values(group: Group, metric: str) -> dict[tuple[object, ...], float]:
    return {pair: run.metrics[metric] for pair, run in group.runs.items() if metric in run.metrics}


def _find_baseline(groups: Sequence[Group], wanted: str | None) -> Group | None:
    if wanted is not None:
        fits = [group for group in groups if wanted in (group.label, group.name, *map(str, group.settings.values()))]
        if len(fits) != 1:
            problem = "no variant has this name" if not fits else "several variants fit"
            labels = ", ".join(group.label for group in groups)
            raise SpecError(f"--baseline {wanted}: {problem}; the variants are {labels}")
        return fits[0]
    if any(sweep is not None and sweep.record.baseline is not None for group in groups for sweep in group.sweeps):
        planned = [group for group in groups if group.is_planned_baseline]
        return planned[0] if len(planned) == 1 else None
    untied = [group for group in groups if group.settings.get(PATTERN) in ("none", "full")]
    return untied[0] if len(untied) == 1 else None


def _build_row(group: Group, base: Group | None, metric: str, selection: str | None) -> Row:
    runs = group.runs.values()
    values = _values(group, metric)
    difference = budgets = None
    if base is not None and base is not group:
        theirs = _values(base, metric)
        common = [pair for pair in values if pair in theirs]
        if common:
            difference = compare_pairs([values[pair] for pair in common], [theirs[pair] for pair in common])
        budgets = _match_budgets(group, base)
    seconds = [run.epoch_seconds for run in runs if run.epoch_seconds is not None]
    return Row(
        group=group,
        selection=None if selection is None else estimate_mean(list(_values(group, selection).values())),
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


def _match_budgets(group: Group, base: Group) -> tuple[str, ...]:
    """In what two variants are equal, by counts; of the time only their sweep knows, for that of two runs is noise."""
    counts = {"weights": "unique_weights", "macs": "macs_tied"}
    equal = []
    for budget, key in counts.items():
        ours, theirs = (fmean(getattr(run, key) for run in each.runs.values()) for each in (group, base))
        if abs(ours - theirs) <= TOLERANCE * theirs:
            equal.append(budget)
    sweeps = group.sweeps | base.sweeps
    is_timed = len(sweeps) == 1 and all(sweep is not None and sweep.record.match == "time" for sweep in sweeps)
    return (*equal, "time") if is_timed else tuple(equal)


def _correct(rows: Sequence[Row]) -> list[Row]:
    """Holm's correction over all differences, and how many seeds each would need."""
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
        replace(row, dominated_by=None if place is None else rows[place].label)
        for row, place in zip(rows, find_dominating(points), strict=True)
    ]


def _order(rows: Sequence[Row], metric: str, *, by_selection: bool) -> list[Row]:
    return sorted(rows, key=lambda row: -_quality(row, metric, by_selection=by_selection))


def _list_notes(comparison: Comparison, found: Collection) -> Iterator[Note]:
    rows, metric, selection = comparison.rows, comparison.metric, comparison.selection
    if selection is None:
        yield Note(
            f"There is no validation to choose a variant by: the one with the best {metric} looks better than it is."
        )
    elif selection != metric:
        yield Note(f"Choose a variant by {selection}: the one with the best {metric} looks better than it is.")
    yield Note(
        "± is half the width of the 95% confidence interval (t) over seeds.", ("selection", "metric", "difference")
    )
    if comparison.baseline is not None:
        count = sum(row.p is not None for row in rows)
        yield Note(
            f"The difference is to {comparison.baseline}, paired by seed; its interval is not corrected for the number "
            "of comparisons.",
            ("difference",),
        )
        yield Note(
            f"p is from the paired t test, with Holm's correction for {count} comparison{'s' * (count != 1)}; better "
            f"and worse mean that it is below {LEVEL:.0%}.",
            ("p", "verdict"),
        )
    elif len(rows) > 1:
        yield Note(
            f"There is no baseline, so there are no differences; --baseline '{rows[0].label}' would make it one."
        )
    if any(row.has_other_budget for row in rows):
        yield Note(
            f"† has neither the weights nor the multiply-adds of the baseline (within {TOLERANCE:.0%}): not the same "
            "budget.",
            ("difference",),
        )
    yield Note(
        f"Pareto: * is on the front of {selection or metric} (mean) and weights; the others name the best variant that "
        "is as good or better in both.",
        ("pareto",),
    )
    yield from _list_notes_on_runs(rows, found)


def _list_notes_on_runs(rows: Sequence[Row], found: Collection) -> Iterator[Note]:
    few = [row.label for row in rows if row.metric.count < ENOUGH_PAIRS]
    if few:
        which = "all variants" if len(few) == len(rows) and len(rows) > 1 else ", ".join(few)
        yield Note(f"Too few seeds (fewer than {ENOUGH_PAIRS}) to say much: {which}.")
    seeds = Counter(row.metric.count for row in rows)
    if len(seeds) > 1:
        yield Note(
            f"The variants have from {min(seeds)} to {max(seeds)} runs; a difference uses the seeds that both have."
        )
    if found.unfinished:
        runs = "run is" if found.unfinished == 1 else "runs are"
        yield Note(f"{found.unfinished} {runs} not finished, and not in the table.")
    if found.left_out:
        runs = "run is" if len(found.left_out) == 1 else "runs are"
        yield Note(f"{len(found.left_out)} {runs} left out: {found.left_out[0]}{' ...' * (len(found.left_out) > 1)}")


def describe_verdict(row: Row, comparison: Comparison, *, briefly: bool = False) -> str:
    """What the difference says, in a few words; briefly, in at most 16 characters."""
    if row.label == comparison.baseline:
        return "baseline"
    if row.difference is None:
        return "" if comparison.baseline is None else "no common seed"
    mean, pairs = row.difference.estimate.mean, row.difference.estimate.count
    if row.is_resolved:
        return "worse" if (mean > 0) == comparison.lower_is_better else "better"
    if row.p is None:
        equal = "equal" if briefly else "equal in every pair"
        return equal if pairs > 1 and not mean else "too few seeds"
    missing = row.missing_seeds
    if briefly:
        return f">{MAX_SEEDS:,} seeds" if missing is None else f"~{missing} more seed{'s' * (missing != 1)}"
    few = "too few seeds" if pairs < ENOUGH_PAIRS else "open"
    if missing is None:
        return f"{few}, over {MAX_SEEDS:,} seeds needed"
    return f"{few}, about {missing} more seed{'s' * (missing != 1)} needed"
