"""Equal budgets: the width at which a variant has as much of something as the baseline."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

from tiedexp.experiment.preparation import plan_experiment
from tiedexp.spec.schema import ExperimentSpec

MAX_WIDTH = 4096
MAX_MEASUREMENTS = 6


def with_width(spec: ExperimentSpec, width: int) -> ExperimentSpec:
    """The same experiment with another `model.width`."""
    return spec.model_copy(update={"model": spec.model.model_copy(update={"width": width})})


def count_weights(spec: ExperimentSpec, data_dir: Path | None) -> int:
    """Trainable weights of a model, each group of tied cells counted once."""
    return plan_experiment(_as_expanded(spec), data_dir=data_dir).cost.unique_weights


def count_macs(spec: ExperimentSpec, data_dir: Path | None) -> int:
    """Multiply-adds of one image, forward, each group of tied cells counted once."""
    return plan_experiment(_as_expanded(spec), data_dir=data_dir).cost.macs_tied


def match_count(spec: ExperimentSpec, count: Callable[[ExperimentSpec], float], target: float) -> ExperimentSpec:
    """The width whose count, which grows with the width, is nearest to the target."""
    low, high = 1, MAX_WIDTH  # count(low) <= target < count(high), if any does
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if count(with_width(spec, middle)) <= target else (low, middle)
    return with_width(spec, min((low, high), key=lambda width: abs(count(with_width(spec, width)) - target)))


def match_time(spec: ExperimentSpec, measure: Callable[[ExperimentSpec], float], target: float) -> ExperimentSpec:
    """The width whose step takes the time nearest to the target, in few measurements.

    The time of a step grows about as a power of the width between one and two: at first it is taken for 1.5, then for
    what the last two measurements say. A measurement is noisy, so it stops at 2% or after six.
    """
    width, power, tried = spec.model.width, 1.5, dict[int, float]()
    while width not in tried and len(tried) < MAX_MEASUREMENTS:
        seconds = measure(with_width(spec, width))
        if tried:
            before, took = list(tried.items())[-1]
            power = min(2.0, max(1.0, math.log(seconds / took) / math.log(width / before)))
        tried[width] = seconds
        if abs(seconds / target - 1) <= 0.02:
            break
        width = min(MAX_WIDTH, max(1, round(width * (target / seconds) ** (1 / power))))
    return with_width(spec, min(tried, key=lambda width: abs(tried[width] - target)))


def _as_expanded(spec: ExperimentSpec) -> ExperimentSpec:
    """The same costs, without estimating how each conv is computed."""
    if spec.model.tying is None:
        return spec
    tying = spec.model.tying.model_copy(update={"implementation": "expand"})
    return spec.model_copy(update={"model": spec.model.model_copy(update={"tying": tying})})
