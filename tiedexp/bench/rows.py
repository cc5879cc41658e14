"""What a benchmark says: rows of a table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from tiedexp.bench.timing import Timing
from tiedexp.patterns.grid import Pattern


@dataclass(frozen=True)
class Row:
    """One method on one pattern and shape.

    Args:
        pattern: what the user called it.
        grid: the pattern's text.
        free, cells: free weights, and cells, of a kernel for each pair of channel and filter; 0 for a model.
        shape: sizes of the layer, as text.
        method: the layer that was timed.
        computed: for ours, how: output, input gradient and weight gradient; otherwise the kernel's size.
        part: "forward", or "step": forward and the gradients of input and weights.
        milliseconds: median time.
        ratio: how many times as fast as the reference; median of the rounds, and its quartiles.
        reference: the method that has ratio 1.
    """

    pattern: str
    grid: str
    free: int
    cells: int
    shape: str
    method: str
    computed: str
    part: str
    milliseconds: float
    ratio: float
    ratio_low: float
    ratio_high: float
    reference: str

    def as_dict(self) -> dict[str, Any]:
        """For JSON; three digits."""
        return {key: round(value, 3) if isinstance(value, float) else value for key, value in asdict(self).items()}


def build_rows(
    name: str,
    pattern: Pattern | None,
    shape: str,
    part: str,
    timings: Mapping[str, Timing],
    computed: Mapping[str, str],
    *,
    reference: str,
) -> Iterator[Row]:
    """A row for every method that was timed in turns."""
    for method, timing in timings.items():
        yield Row(
            name,
            "" if pattern is None else str(pattern),
            0 if pattern is None else pattern.num_groups,
            0 if pattern is None else pattern.index.size,
            shape,
            method,
            computed[method],
            part,
            timing.median,
            *timing.times_as_fast_as(timings[reference]),
            reference,
        )
