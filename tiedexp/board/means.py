"""Means and standard deviations over the seeds of a variant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tiedexp.board.history import Series


@dataclass(frozen=True)
class Spread:
    """One step of several runs.

    Args:
        seeds: how many runs have this step.
        mean: the mean of each tag that all of them have.
        std: the sample standard deviation (n - 1) of each tag.
    """

    seeds: int
    mean: Mapping[str, float]
    std: Mapping[str, float]


def spread_series(series: Sequence[Series]) -> dict[int, Spread]:
    """The spread at each step that two or more runs have, in order."""
    found = {}
    for step in sorted(set().union(*series)):
        at = [each[step] for each in series if step in each]
        if len(at) > 1:
            tags = [tag for tag in at[0] if all(tag in values for values in at)]
            table = np.array([[values[tag] for tag in tags] for values in at], dtype=np.float64)  # (seeds, tags)
            with np.errstate(all="ignore"):  # a loss can be infinite
                means, stds = table.mean(axis=0), table.std(axis=0, ddof=1)
            found[step] = Spread(
                len(at), dict(zip(tags, means.tolist(), strict=True)), dict(zip(tags, stds.tolist(), strict=True))
            )
    return found


def spread_tests(tests: Sequence[Series]) -> dict[int, Spread]:
    """The spread of the tests of several runs, of whatever epoch each is, at the latest of these epochs."""
    last = max((step for test in tests for step in test), default=0)
    return spread_series([{last: values} for test in tests for values in test.values()])
