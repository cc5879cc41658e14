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
    """What is known of a variant.

    Args:
        variant: its runs, label and settings.
        selection: the metric on validation images, by which a variant is chosen; None without validation images.
        metric: the metric that is reported.
        difference: the reported metric minus the baseline's, paired; None for the baseline, or if there is none.
        p: the p-value of the difference after Holm's correction; None if there is none.
        needed: about how many pairs would resolve a difference of this size; None if unknown.
        unique_weights: trainable weights; like the next three, the mean over the runs.
        macs_dense: multiply-adds of one image, forward, counting every cell.
        macs_tied: multiply-adds of one image, forward, counting each group of tied cells once.
        epoch_seconds: seconds per epoch, without the first epoch of each process; None if there are no others.
        equal_budgets: which of weights, macs and time equal the baseline's; None if it is, or there is none.
        dominated_by: the label of a variant that is at least as good with at most as many weights; None on the Pareto
            front.
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
        """The label of the variant."""
        return self.variant.label

    @property
    def is_resolved(self) -> bool:
        """Whether the difference is significant at 5% after Holm's correction."""
        return self.p is not None and self.p < LEVEL

    @property
    def has_other_budget(self) -> bool:
        """Whether weights, multiply-adds and time all differ from the baseline's."""
        return self.equal_budgets == ()

    @property
    def missing_seeds(self) -> int | None:
        """About how many more seeds would resolve the difference; None if unknown."""
        if self.needed is None or self.difference is None:
            return None
        return max(self.needed - self.difference.estimate.count, 1)


@dataclass(frozen=True)
class Note:
    """A sentence below the table.

    Args:
        text: the sentence.
        columns: the keys of the columns that it explains; it is shown with any of them. Empty if it is about the table.
    """

    text: str
    columns: tuple[str, ...] = ()


@dataclass(frozen=True)
class Comparison:
    """All variants, compared.

    Args:
        metric: the metric that is reported, e.g. `test/accuracy`.
        selection: the metric by which variants are chosen, e.g. `validation/accuracy`; None without validation images.
        baseline: the label of the variant that the others are compared with; None if there is none.
        axes: the dotted keys in which variants differ.
        rows: one per variant, in order.
        order: the heading of the column by which the rows are sorted.
        notes: the sentences below the table.
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
        """Whether smaller values of the metric are better."""
        return is_lower_better(self.metric)

    @property
    def baseline_row(self) -> Row | None:
        """The row of the baseline; None if there is none."""
        return next((row for row in self.rows if row.label == self.baseline), None)


def is_lower_better(metric: str) -> bool:
    """Whether smaller values of a metric are better."""
    return metric.rpartition("/")[2] in LOWER_IS_BETTER


def describe_verdict(row: Row, comparison: Comparison, *, briefly: bool = False) -> str:
    """What a row's difference shows, in a few words; if briefly, in at most 16 characters."""
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
