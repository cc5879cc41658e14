"""Times of several functions on a machine that others use, too."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Timing:
    """Times of one function, in milliseconds, one a round; round k of all functions was run in turn."""

    milliseconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """In milliseconds."""
        return statistics.median(self.milliseconds)

    def times_as_fast_as(self, other: Timing) -> tuple[float, float, float]:
        """The ratio of the other's time to this one's, round by round: median, lower and upper quartile."""
        ratios = [theirs / ours for ours, theirs in zip(self.milliseconds, other.milliseconds, strict=True)]
        if len(ratios) < 2:
            return ratios[0], ratios[0], ratios[0]
        low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive")
        return middle, low, high


def time_in_turns(functions: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, Timing]:
    """Run each function once a round, after one round that does not count.

    A function must return when its work is done. What slows the machine down for a while slows down all of them, so
    ratios within a round hold where the times themselves do not.
    """
    times: dict[str, list[float]] = {name: [] for name in functions}
    for function in functions.values():
        function()
    for _ in range(rounds):
        for name, function in functions.items():
            begin = time.perf_counter()
            function()
            times[name].append(1000 * (time.perf_counter() - begin))
    return {name: Timing(tuple(values)) for name, values in times.items()}
