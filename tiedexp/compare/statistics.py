"""Statistics over a few seeds: means, paired differences, and their uncertainty.

Seeds vary the initial weights, the order, the split and the augmentation together. All intervals are Student's t.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from scipy.special import stdtr, stdtrit

CONFIDENCE = 0.95
POWER = 0.8
MAX_SEEDS = 1000


@dataclass(frozen=True)
class Estimate:
    """A mean and its interval.

    Args:
        mean: the mean of the values.
        half_width: half the width of its 95% interval; None if there is one value, or all are equal.
        count: the number of values.
    """

    mean: float
    half_width: float | None
    count: int

    @property
    def interval(self) -> tuple[float, float] | None:
        """(low, high); None if there is no interval."""
        return None if self.half_width is None else (self.mean - self.half_width, self.mean + self.half_width)


@dataclass(frozen=True)
class PairedDifference:
    """A variant minus the baseline, over pairs of runs with the same seed.

    Args:
        estimate: the mean difference; its count is the number of pairs.
        deviation: the standard deviation of the differences; None if there is only one pair.
        p: the two-sided p-value of the paired t-test; None if there is no interval.
    """

    estimate: Estimate
    deviation: float | None
    p: float | None


def estimate_mean(values: Sequence[float]) -> Estimate:
    """The mean of one or more values, with its t interval."""
    half_width = None
    if has_spread(values):
        quantile = float(stdtrit(len(values) - 1, (1 + CONFIDENCE) / 2))
        half_width = quantile * stdev(values) / math.sqrt(len(values))
    return Estimate(fmean(values), half_width, len(values))


def compare_pairs(values: Sequence[float], baseline: Sequence[float]) -> PairedDifference:
    """The paired difference of values from those of the baseline, which are in the same order."""
    differences = [value - base for value, base in zip(values, baseline, strict=True)]
    deviation = stdev(differences) if len(differences) > 1 else None
    p = None
    if deviation is not None and has_spread(differences):
        t = fmean(differences) / (deviation / math.sqrt(len(differences)))
        p = 2 * float(stdtr(len(differences) - 1, -abs(t)))
    return PairedDifference(estimate_mean(differences), deviation, p)


def has_spread(values: Sequence[float]) -> bool:
    """Whether values differ by more than rounding errors, so that their spread can be estimated."""
    if len(values) < 2:
        return False
    return max(values) - min(values) > 1e-12 * max(1.0, *map(abs, values))


def correct_holm(ps: Sequence[float | None]) -> list[float | None]:
    """Holm's correction (1979) of the p-values of a family of tests; None stays None and does not count."""
    order = sorted((at for at, p in enumerate(ps) if p is not None), key=lambda at: ps[at] or 0.0)
    corrected: list[float | None] = [None] * len(ps)
    largest = 0.0
    for rank, at in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * (ps[at] or 0.0)))
        corrected[at] = largest
    return corrected


def count_needed_pairs(difference: PairedDifference, comparisons: int) -> int | None:
    """About how many pairs would resolve a difference of the observed size, with a power of 80%.

    The level is 5% divided by the number of comparisons (the first step of Holm's correction). This is the usual
    approximation, which adds the quantiles of the test's level and of its power.

    Returns:
        The number of pairs; None if more than `MAX_SEEDS` are needed, or if there is no difference or no spread.
    """
    mean, deviation = abs(difference.estimate.mean), difference.deviation
    if not mean or not deviation or difference.p is None:
        return None
    tail = 1 - (1 - CONFIDENCE) / (2 * max(comparisons, 1))
    for count in range(2, MAX_SEEDS + 1):
        quantiles = float(stdtrit(count - 1, tail)) + float(stdtrit(count - 1, POWER))
        if quantiles * deviation / math.sqrt(count) <= mean:
            return count
    return None


def find_dominating(points: Sequence[tuple[float, float]]) -> list[int | None]:
    """Find which points (quality, cost) are dominated, i.e. not on the Pareto front, and by which.

    Returns:
        For each point None if it is on the front, or else the index of the best point that dominates it: one that is
        at least as good in quality and in cost, and better in one of them.
    """
    dominating: list[int | None] = [None] * len(points)
    best: int | None = None
    for at in sorted(range(len(points)), key=lambda at: (points[at][1], -points[at][0])):
        if best is None or points[at][0] > points[best][0]:
            best = at
        elif points[at] != points[best]:
            dominating[at] = best
    return dominating
