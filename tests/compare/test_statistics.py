"""Statistics agree with scipy and with results by hand, and are right as often as they say."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from tiedexp.compare.statistics import (
    compare_pairs,
    correct_holm,
    count_needed_pairs,
    estimate_mean,
    find_dominating,
)

SAMPLES = st.lists(st.floats(0, 1), min_size=2, max_size=30)


class TestAgainstScipy:
    @given(SAMPLES)
    def test_intervals(self, values):
        estimate = estimate_mean(values)
        assert estimate.mean == pytest.approx(np.mean(values))
        if np.ptp(values) > 1e-6:
            low, high = scipy.stats.t.interval(0.95, len(values) - 1, np.mean(values), scipy.stats.sem(values))
            assert estimate.interval == pytest.approx((low, high), rel=1e-9)

    @given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=2, max_size=30))
    def test_paired_differences(self, pairs):
        values, baseline = map(list, zip(*pairs, strict=True))
        differences = np.subtract(values, baseline)
        difference = compare_pairs(values, baseline)
        assert difference.estimate.mean == pytest.approx(differences.mean(), abs=1e-12)
        if np.ptp(differences) > 1e-6:
            reference = scipy.stats.ttest_rel(values, baseline)
            assert difference.p == pytest.approx(reference.pvalue, rel=1e-7, abs=1e-12)
            interval = reference.confidence_interval()
            assert difference.estimate.interval == pytest.approx((interval.low, interval.high), rel=1e-9, abs=1e-12)


def test_by_hand():
    """Differences 1, 2, 3, 4 hundredths: mean 0.025; squares of their distances sum to 0.0005, so the standard
    deviation is sqrt(0.0005 / 3) = 0.0129099, of the mean sqrt(0.0005 / 12) = 0.00645497; t = 0.025 / 0.00645497 =
    3.87298. With 3 degrees of freedom t of 97.5% is 3.18245 (any table), so the interval is 0.025 +- 0.0205426, and
    p = 1 - (2 / pi) * (atan(x) + x / (1 + x^2)) with x = t / sqrt(3) = 2.23607 (the closed form for 3 degrees):
    1 - 0.636620 * (1.150262 + 0.372678) = 0.030466.
    """
    difference = compare_pairs([0.91, 0.92, 0.93, 0.94], [0.90, 0.90, 0.90, 0.90])
    assert difference.estimate.mean == pytest.approx(0.025)
    assert difference.deviation == pytest.approx(0.0129099, rel=1e-5)
    assert difference.estimate.half_width == pytest.approx(0.0205426, rel=1e-5)
    assert difference.p == pytest.approx(0.030466, rel=1e-4)


class TestFewSeeds:
    def test_one_has_no_interval(self):
        assert estimate_mean([0.9]).interval is None
        difference = compare_pairs([0.9], [0.8])
        assert (difference.p, difference.deviation, difference.estimate.half_width) == (None, None, None)

    def test_two_have_a_wide_one(self):
        """12.706 times the standard error, which is half their distance."""
        assert estimate_mean([0.90, 0.92]).half_width == pytest.approx(12.7062 * 0.01, rel=1e-5)

    @pytest.mark.parametrize("values", [[0.9, 0.9, 0.9], [0.1 + 0.2, 0.3, 0.3]])
    def test_equal_values_say_nothing_of_the_spread(self, values):
        assert estimate_mean(values).interval is None
        assert compare_pairs(values, [0.5] * len(values)).p is None


def simulate(draw, cases, seeds, effect=0.0):
    """p, and whether the interval contains the effect, for pairs that share the effect of their seed."""
    ps, covered = [], 0
    for _ in range(cases):
        shared = draw.normal(0.9, 0.02, seeds)
        left, right = (shared + draw.normal(0, 0.005, seeds) for _ in range(2))
        difference = compare_pairs((left + effect).tolist(), right.tolist())
        low, high = difference.estimate.interval
        ps.append(difference.p)
        covered += low <= effect <= high
    return np.array(ps), covered / cases


@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_two_variants_that_are_the_same(seeds):
    """1,000 A/A comparisons: p is below 5% in 5% +- 2% of them, intervals contain the true difference in 95% +- 2%."""
    ps, coverage = simulate(np.random.default_rng(seeds), 1000, seeds)
    assert 0.03 <= np.mean(ps < 0.05) <= 0.07
    assert 0.93 <= coverage <= 0.97


def test_pairing_is_used():
    """The effect of a seed on both variants cancels: a difference of a quarter of the seeds' spread is found."""
    draw = np.random.default_rng(0)
    shared = draw.normal(0.9, 0.02, 8)
    left, right = shared + 0.005 + draw.normal(0, 0.001, 8), shared
    assert compare_pairs(left.tolist(), right.tolist()).p < 0.001
    assert scipy.stats.ttest_ind(left, right).pvalue > 0.5


def test_means_are_covered_too():
    draw = np.random.default_rng(1)
    intervals = [estimate_mean(draw.normal(0.9, 0.01, 4).tolist()).interval for _ in range(1000)]
    assert 0.93 <= np.mean([low <= 0.9 <= high for low, high in intervals]) <= 0.97


class TestHolm:
    def test_by_hand(self):
        """0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1: 0.02, 0.03, 0.06, 0.04, and never less than the one before."""
        assert correct_holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])

    def test_none_is_not_counted(self):
        assert correct_holm([None, 0.02, None, 0.5]) == [None, pytest.approx(0.04), None, 0.5]
        assert correct_holm([]) == []

    @given(st.lists(st.floats(0, 1), max_size=20))
    def test_at_least_itself_and_at_most_bonferroni(self, ps):
        for p, corrected in zip(ps, correct_holm(ps), strict=True):
            assert p <= corrected <= min(1.0, len(ps) * p) + 1e-15


class TestNeededPairs:
    def test_that_many_find_it_four_times_in_five(self):
        difference = compare_pairs([0.91, 0.915, 0.905, 0.93], [0.90, 0.91, 0.91, 0.905])
        effect, deviation = difference.estimate.mean, difference.deviation
        needed = count_needed_pairs(difference, comparisons=1)
        draw = np.random.default_rng(0)
        ps = [compare_pairs(draw.normal(effect, deviation, needed).tolist(), [0.0] * needed).p for _ in range(1000)]
        assert 0.74 <= np.mean(np.array(ps) < 0.05) <= 0.88

    def test_more_comparisons_need_more(self):
        difference = compare_pairs([0.91, 0.915, 0.905, 0.93], [0.90, 0.91, 0.91, 0.905])
        assert count_needed_pairs(difference, 10) > count_needed_pairs(difference, 1) > 4

    def test_what_cannot_be_said(self):
        assert count_needed_pairs(compare_pairs([0.9], [0.8]), 1) is None
        assert count_needed_pairs(compare_pairs([0.9, 0.9], [0.8, 0.8]), 1) is None
        assert count_needed_pairs(compare_pairs([0.9, 0.7], [0.7, 0.9]), 1) is None  # no difference at all
        tiny = compare_pairs([0.9, 0.700001], [0.7, 0.9])
        assert count_needed_pairs(tiny, 1) is None  # more than MAX_SEEDS


@given(st.lists(st.tuples(st.integers(0, 6).map(float), st.integers(0, 6).map(float)), max_size=25))
def test_who_dominates(points):
    """Against the definition, pair by pair."""

    def beats(one, other):
        return one[0] >= other[0] and one[1] <= other[1] and one != other

    for point, by in zip(points, find_dominating(points), strict=True):
        beaters = [other for other in points if beats(other, point)]
        assert (by is None) == (not beaters)
        if by is not None:
            assert points[by] in beaters
            assert points[by][0] == max(quality for quality, _ in beaters)
