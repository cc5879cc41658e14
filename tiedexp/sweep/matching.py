"""Equal budgets: the width at which a variant has the same cost as the baseline."""

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
    """Number of trainable weights of a model; each group of tied cells counts once."""
    return plan_experiment(_as_expanded(spec), data_dir=data_dir).cost.unique_weights


def count_macs(spec: ExperimentSpec, data_dir: Path | None) -> int:
    """Multiply-adds of the forward pass for one image; each group of tied cells counts once."""
    return plan_experiment(_as_expanded(spec), data_dir=data_dir).cost.macs_tied


def match_count(spec: ExperimentSpec, count: Callable[[ExperimentSpec], float], target: float) -> ExperimentSpec:
    """The experiment at the width whose count, which grows with the width, is nearest to the target."""
    low, high = 1, MAX_WIDTH  # count(low) <= target < count(high), if any does
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if count(with_width(spec, middle)) <= target else (low, middle)
    return with_width(spec, min((low, high), key=lambda width: abs(count(with_width(spec, width)) - target)))


def match_time(spec: ExperimentSpec, measure: Callable[[ExperimentSpec], float], target: float) -> ExperimentSpec:
    """The experiment at the width whose step time is nearest to the target, found in few measurements.

    The time of a step grows roughly as a power of the width between 1 and 2. The search assumes a power of 1.5 first,
    then the one that follows from the last two measurements. As measurements are noisy, it stops within 2% of the
    target or after six measurements.
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
    """An experiment with the same costs, for which no estimate chooses how each convolution is computed."""
    if spec.model.tying is None:
        return spec
    tying = spec.model.tying.model_copy(update={"implementation": "expand"})
    return spec.model_copy(update={"model": spec.model.model_copy(update={"tying": tying})})
