"""The comparison: one row per variant, with what its seeds say and what it costs."""

from __future__ import annotations

from dataclasses import dataclass

from tiedexp.compare.statistics import MAX_SEEDS, Estimate, PairedDifference
from tiedexp.compare.variants import ComparedVariant

LOWER_IS_BETTER = ("loss", "calibration_error")
LEVEL = 0.05
TOLERANCE = 0.05  # budgets within 5% of each other count as equal
ENOUGH_PAIRS = 3


@dataclass(frozen=True)
class Row:
    """A variant.

    Args:
        variant: its runs, its label and settings.
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

    variant: ComparedVariant
    selection: Estimate | None
    metric: Estimate
    difference: PairedDifference | None
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
        return self.variant.label

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
