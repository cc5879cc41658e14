"""What a few seeds say: means, paired differences, and how sure they are.

The spread is over seeds: initial weights, order, split and augmentation together. All intervals are Student's t.
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
    """A mean, and its interval.

    Args:
        mean: of the values.
        half_width: of the 95% interval about it; None where the values do not say (one alone, or all equal).
        count: how many values.
    """

    mean: float
    half_width: float | None
    count: int

    @property
    def interval(self) -> tuple[float, float] | None:
        """(low, high)."""
        return None if self.half_width is None else (self.mean - self.half_width, self.mean + self.half_width)


@dataclass(frozen=True)
class PairedDifference:
    """A variant less the baseline, over pairs of runs with the same seed.

    Args:
        estimate: of the mean difference; its count is the number of pairs.
        deviation: standard deviation of the differences; None of one pair.
        p: two-sided, of the paired t test; None where there is no interval.
    """

    estimate: Estimate
    deviation: float | None
    p: float | None


def estimate_mean(values: Sequence[float]) -> Estimate:
    """The mean of one value or more, with its t interval."""
    half_width = None
    if has_spread(values):
        quantile = float(stdtrit(len(values) - 1, (1 + CONFIDENCE) / 2))
        half_width = quantile * stdev(values) / math.sqrt(len(values))
    return Estimate(fmean(values), half_width, len(values))


def compare_pairs(values: Sequence[float], baseline: Sequence[float]) -> PairedDifference:
    """The paired difference of values to those of the baseline, pair by pair in the same order."""
    differences = [value - base for value, base in zip(values, baseline, strict=True)]
    deviation = stdev(differences) if len(differences) > 1 else None
    p = None
    if deviation is not None and has_spread(differences):
        t = fmean(differences) / (deviation / math.sqrt(len(differences)))
        p = 2 * float(stdtr(len(differences) - 1, -abs(t)))
    return PairedDifference(estimate_mean(differences), deviation, p)


def has_spread(values: Sequence[float]) -> bool:
    """Whether values differ by more than rounding, so that a spread can be estimated from them."""
    if len(values) < 2:
        return False
    return max(values) - min(values) > 1e-12 * max(1.0, *map(abs, values))


def correct_holm(ps: Sequence[float | None]) -> list[float | None]:
    """Holm's correction (1979) of a family of tests; None stays None and is not counted."""
    order = sorted((place for place, p in enumerate(ps) if p is not None), key=lambda place: ps[place] or 0.0)
    corrected: list[float | None] = [None] * len(ps)
    largest = 0.0
    for rank, place in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * (ps[place] or 0.0)))
        corrected[place] = largest
    return corrected


def count_needed_pairs(difference: PairedDifference, comparisons: int) -> int | None:
    """About how many pairs would show a difference of the size seen, with a power of 80%.

    The level is 5% divided by the number of comparisons (the first step of Holm's). The usual approximation, in which
    the quantiles of the test's level and of its power add up.

    Returns:
        The number, at most `MAX_SEEDS`; None where more are needed, or where there is no difference or no spread.
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
    """Of points (quality, cost), the Pareto front, and who dominates the others.

    Returns:
        None for a point on the front; for another, the place of the best point that has no less quality at no more
        cost, and more of the one or less of the other.
    """
    dominating: list[int | None] = [None] * len(points)
    best: int | None = None
    for place in sorted(range(len(points)), key=lambda place: (points[place][1], -points[place][0])):
        if best is None or points[place][0] > points[best][0]:
            best = place
        elif points[place] != points[best]:
            dominating[place] = best
    return dominating
