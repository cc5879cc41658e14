"""The sentences below the table: what a reader must know of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from tiedexp.compare.columns import Column
from tiedexp.compare.comparison import ENOUGH_PAIRS, LEVEL, TOLERANCE, Comparison, Note, Row
from tiedexp.compare.reading import FoundRuns


def list_notes(comparison: Comparison, columns: Sequence[Column]) -> list[str]:
    """What a reader of these columns must know, one sentence or two each."""
    keys = {column.key for column in columns}
    notes = [note.text for note in comparison.notes if not note.columns or keys & set(note.columns)]
    return [f"Rows are sorted by {comparison.order}.", *notes]


def write_notes(comparison: Comparison, found: FoundRuns) -> Iterator[Note]:
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


def _list_notes_on_runs(rows: Sequence[Row], found: FoundRuns) -> Iterator[Note]:
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
