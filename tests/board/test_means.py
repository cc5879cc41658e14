"""Means and deviations over seeds, compared with Python's and with results by hand."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiedexp.board.means import Spread, spread_series, spread_tests

TAGS = ("loss", "accuracy")
runs = st.lists(
    st.dictionaries(st.integers(1, 6), st.fixed_dictionaries({tag: st.floats(-1e3, 1e3) for tag in TAGS}), max_size=6),
    max_size=5,
)


@given(runs)
def test_each_step_is_over_the_seeds_that_have_it(series):
    spreads = spread_series(series)
    for step in range(1, 7):
        at = [each[step] for each in series if step in each]
        if len(at) < 2:
            assert step not in spreads
            continue
        assert spreads[step].seeds == len(at)
        for tag in TAGS:
            values = [each[tag] for each in at]
            assert spreads[step].mean[tag] == pytest.approx(statistics.fmean(values), abs=1e-9)
            assert spreads[step].std[tag] == pytest.approx(statistics.stdev(values), abs=1e-9)
    assert list(spreads) == sorted(spreads)


def test_by_hand():
    series = [{1: {"loss": 1.0}, 2: {"loss": 5.0}}, {1: {"loss": 2.0}}, {1: {"loss": 3.0}}]
    assert spread_series(series) == {1: Spread(3, {"loss": 2.0}, {"loss": 1.0})}


def test_one_seed_has_no_mean():
    assert spread_series([{1: {"loss": 1.0}}]) == spread_series([]) == {}


def test_only_tags_that_all_have():
    assert spread_series([{1: {"loss": 1.0, "rate": 2.0}}, {1: {"loss": 1.0}}])[1].mean == {"loss": 1.0}


def test_what_is_not_finite_stays_so():
    spread = spread_series([{1: {"loss": math.inf, "accuracy": math.nan}}, {1: {"loss": 1.0, "accuracy": 1.0}}])[1]
    assert spread.mean["loss"] == math.inf
    np.testing.assert_array_equal([spread.mean["accuracy"], spread.std["loss"]], math.nan)


def test_tests_of_different_epochs_are_one():
    tests = [{3: {"accuracy": 0.2}}, {5: {"accuracy": 0.4}}, {}]
    spread = spread_tests(tests)
    assert list(spread) == [5]
    assert spread[5].seeds == 2
    assert spread[5].mean["accuracy"] == pytest.approx(0.3)
    assert spread_tests([{}, {3: {"accuracy": 0.2}}]) == {}
