"""The sentences below the table, which a reader needs to understand it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from tiedexp.compare.columns import Column
from tiedexp.compare.comparison import ENOUGH_PAIRS, LEVEL, TOLERANCE, Comparison, Note, Row
from tiedexp.compare.reading import FoundRuns


def list_notes(comparison: Comparison, columns: Sequence[Column]) -> list[str]:
    """The notes on these columns and on the table, one or two sentences each."""
    keys = {column.key for column in columns}
    notes = [note.text for note in comparison.notes if not note.columns or keys & set(note.columns)]
    return [f"Rows are sorted by {comparison.order}.", *notes]


def write_notes(comparison: Comparison, found: FoundRuns) -> Iterator[Note]:
    """All notes on a comparison of the runs that were found."""
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
            f"The difference is the variant minus {comparison.baseline}, paired by seed; its interval is not corrected "
            "for the number of comparisons.",
            ("difference",),
        )
        yield Note(
            f"p is from a paired t-test, with Holm's correction for {count} comparison{'s' * (count != 1)}; better and "
            f"worse mean that p is below {LEVEL:.0%}.",
            ("p", "verdict"),
        )
    elif len(rows) > 1:
        yield Note(f"There is no baseline, so no differences are shown; name one, e.g. --baseline '{rows[0].label}'.")
    if any(row.has_other_budget for row in rows):
        yield Note(
            f"† marks another budget: neither the weights nor the multiply-adds are within {TOLERANCE:.0%} of the "
            "baseline's.",
            ("difference",),
        )
    yield Note(
        f"Pareto: * is on the front of mean {selection or metric} and weights; the other rows name the best variant "
        "that is at least as good in both.",
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
            f"The variants have {min(seeds)} to {max(seeds)} runs; a difference uses the seeds that both variants have."
        )
    if found.unfinished:
        runs = "run is" if found.unfinished == 1 else "runs are"
        yield Note(f"{found.unfinished} {runs} not finished and not in the table.")
    if found.left_out:
        runs = "run is" if len(found.left_out) == 1 else "runs are"
        yield Note(f"{len(found.left_out)} {runs} left out: {found.left_out[0]}{' ...' * (len(found.left_out) > 1)}")
