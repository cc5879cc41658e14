"""The results of a benchmark: rows of a table."""

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
        pattern: the name that the user gave it.
        grid: the pattern as text.
        free, cells: free weights and cells of a kernel, per channel and filter; 0 for a model.
        shape: sizes of the layer, as text.
        method: the layer that was timed.
        computed: for our layers, the methods for output, input gradient and weight gradient; otherwise the kernel size.
        part: "forward", or "step" for forward and the gradients of input and weights.
        milliseconds: median time.
        ratio: speed-up over the reference: the median of the rounds.
        ratio_low, ratio_high: its quartiles.
        reference: the method whose ratio is 1.
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
        """The fields, for JSON; numbers have three decimals."""
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
    """One row for each method that was timed in turns."""
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
            *timing.speedup_over(timings[reference]),
            reference,
        )
