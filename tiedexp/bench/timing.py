"""Times of several functions on a machine that others use, too."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Timing:
    """Times of one function in milliseconds, one per round; in each round all functions took turns."""

    milliseconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """The median time in milliseconds."""
        return statistics.median(self.milliseconds)

    def speedup_over(self, other: Timing) -> tuple[float, float, float]:
        """The other's time divided by this one's in the same round: median, lower and upper quartile."""
        ratios = [theirs / ours for ours, theirs in zip(self.milliseconds, other.milliseconds, strict=True)]
        if len(ratios) < 2:
            return ratios[0], ratios[0], ratios[0]
        low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive")
        return middle, low, high


def time_in_turns(functions: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, Timing]:
    """Run each function once per round, after a first round that does not count.

    A function must return when its work is done. What slows the machine down for a while slows down all functions, so
    ratios within a round can be trusted where the times themselves cannot.
    """
    times: dict[str, list[float]] = {name: [] for name in functions}
    for function in functions.values():
        function()
    for _ in range(rounds):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            times[name].append(1000 * (time.perf_counter() - start))
    return {name: Timing(tuple(values)) for name, values in times.items()}
