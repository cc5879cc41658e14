"""Widths for equal budgets."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tiedexp.experiment.preparation import plan_experiment
from tiedexp.spec.schema import ExperimentSpec
from tiedexp.sweep.matching import MAX_WIDTH, count_macs, count_weights, match_count, match_time, with_width


def make_spec(pattern: str | None, width: int = 16) -> ExperimentSpec:
    tying = None if pattern is None else {"pattern": pattern}
    model = {"depth": 3, "width": width, "kernel_size": 5, "tying": tying}
    return ExperimentSpec.model_validate({"name": "a", "dataset": {"name": "digits"}, "model": model})


@pytest.mark.parametrize("pattern", ["block", "rings", "checkerboard", None])
@pytest.mark.parametrize(("count", "name"), [(count_weights, "unique_weights"), (count_macs, "macs_tied")])
def test_no_other_width_is_nearer(pattern, count, name):
    target = getattr(plan_experiment(make_spec(None)).cost, name)
    matched = match_count(make_spec(pattern, 3), lambda spec: count(spec, None), target)
    costs = [getattr(plan_experiment(with_width(matched, width)).cost, name) for width in range(1, 200)]
    nearest = min(costs, key=lambda cost: abs(cost - target))
    assert getattr(plan_experiment(matched).cost, name) == nearest
    if pattern is None:
        assert matched.model.width == 16


def test_budgets_that_no_width_has():
    assert match_count(make_spec("block"), lambda spec: count_weights(spec, None), 1).model.width == 1
    assert match_count(make_spec("block"), lambda spec: spec.model.width, 10**9).model.width == MAX_WIDTH


@settings(max_examples=500)
@example(start=1, wanted=131, power=1.0)
@example(start=400, wanted=1, power=2.0)
@given(start=st.integers(1, 400), wanted=st.integers(1, 400), power=st.floats(1.0, 2.0))
def test_times_that_grow_as_a_power_are_met_in_few_measurements(start, wanted, power):
    measured = []

    def measure(spec):
        measured.append(spec.model.width)
        return 1e-4 * spec.model.width**power

    matched = match_time(make_spec("block", start), measure, 1e-4 * wanted**power)
    assert len(measured) <= 6
    assert matched.model.width == pytest.approx(wanted, rel=0.02, abs=1)
