"""What a tied convolution costs by each method: multiplications, additions and elements moved, from sizes alone.

The methods are those of expanded.py and native.py; their steps are weighted by what they cost on a CPU.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from tiedexp.convolution.factoring import Factoring
from tiedexp.patterns.grid import Pattern

BATCH = 64  # images, if the batch size is unknown
SIDE = 32  # pixels, if the size of the images is unknown

# Costs relative to one multiply-add of a dense convolution, fitted to measurements of `tiedexp bench` on two cores of
# an AMD EPYC 9005 with oneDNN, float32 (see experiments/speed).

# A dense convolution:
SMALL_CONVOLUTION = 1.0 / 3.0  # the extra cost of each of the first four taps
OUTPUT = 15.0  # an element of the output
LANES = 16  # fewer filters per channel group cost as much as this many

# Compiled code:
NATIVE_TAP = 1.15  # a multiply-add
NATIVE_INPUT = 50.0  # an element of the padded input
NATIVE_ADDED = 1.3  # an element that is added to a sum
NATIVE_OUTPUT = 27.0  # an element of the output
NATIVE_BUFFER = 98_304  # elements of the input and its sums that stay in the cache,
NATIVE_CHANNELS = 16  # for at least this many channels
NATIVE_GROUP = 700.0  # a pixel of a channel group, if there are several
NATIVE_CALL = 5_000_000  # starting the compiled code
NATIVE_THREAD = 32_768  # less work than this is not worth a thread of its own, which then idles
NATIVE_COPY = 64.0  # a weight in a thread's own copy of the gradient; threads need copies if channels are few

# A depthwise convolution: for an element of the output, and for each cell of the kernel in addition.
DEPTHWISE_FORWARD = 35.0, 1.6
DEPTHWISE_INPUT_GRADIENT = 35.0, 2.6
DEPTHWISE_WEIGHT_GRADIENT = 35.0, 20.0
DEPTHWISE_DILATED = 120.0  # an element of the output in addition, because TensorFlow reorders the pixels
DEPTHWISE_SMALL = 9  # cells; up to here TensorFlow computes the weight gradient as fast as the output
# The same for compiled code: for an element of the output, and for each tap in addition.
NATIVE_DEPTHWISE = 45.0, 2.1
NATIVE_DEPTHWISE_GRADIENT = 45.0, 3.1
DEPTHWISE_ADDED = 1.3  # reading or writing an element of a sum, in taps
DEPTHWISE_PADDED = 1.2  # elements of a sum for each of the output, padding included, if the size is unknown


@dataclass(frozen=True)
class ConvSize:
    """The sizes of a convolution.

    Args:
        batch: number of images.
        input_size: (rows, cols) of the input, in pixels.
        output_size: (rows, cols) of the output, in pixels.
        in_channels: channels of the input.
        filters: channels of the output.
        strides, dilation: (down, across).
        channel_groups: the `groups` of `keras.layers.Conv2D`.
        threads: number of threads that compute it.
    """

    batch: int
    input_size: tuple[int, int]
    output_size: tuple[int, int]
    in_channels: int
    filters: int
    strides: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    channel_groups: int = 1
    threads: int = 1

    @property
    def is_depthwise(self) -> bool:
        """Whether each channel has a filter of its own."""
        return 1 < self.channel_groups == self.in_channels == self.filters

    @property
    def products(self) -> int:
        """Weights of one tap, each a multiply-add for every pixel of the output."""
        return self.in_channels * self.filters // self.channel_groups

    def reversed(self) -> ConvSize:
        """The convolution that computes the gradient with respect to the input, at stride 1."""
        return replace(
            self,
            input_size=self.output_size,
            output_size=self.input_size,
            in_channels=self.filters,
            filters=self.in_channels,
        )


@dataclass(frozen=True)
class Work:
    """What a computation does.

    Args:
        multiplications: multiply-adds.
        additions: of the sums alone.
        elements_moved: elements of the input and output, as often as they are read or written.
        cost: all of it, in multiply-adds of a dense convolution.
    """

    multiplications: float = 0
    additions: float = 0
    elements_moved: float = 0
    cost: float = 0

    def __add__(self, other: Work) -> Work:
        return Work(*(a + b for a, b in zip(self._values(), other._values(), strict=True)))

    def _values(self) -> tuple[float, float, float, float]:
        return self.multiplications, self.additions, self.elements_moved, self.cost


def count_reads(factoring: Factoring, pixels: float) -> float:
    """Reads and writes for each element of a depthwise output, in taps; a sum has `pixels` times as many elements."""
    summed = sum(len(terms) + 1 for terms in factoring.sums)
    return len(factoring.taps) + DEPTHWISE_ADDED * pixels * summed


def cost_dense(pattern: Pattern, size: ConvSize, depthwise: tuple[float, float]) -> Work:
    """The work by the expanded kernel; `depthwise` is the cost of an element and a cell if it is depthwise."""
    taps = pattern.index.size
    if size.is_depthwise:
        dilated = DEPTHWISE_DILATED if size.dilation != (1, 1) else 0.0
        return _depthwise(taps, taps, size, (depthwise[0] + dilated, depthwise[1]))
    inputs = _pixels(size.input_size, size) * size.in_channels
    outputs = _pixels(size.output_size, size) * size.filters
    per_tap = _pixels(size.output_size, size) * size.products
    multiplied = (taps + min(taps, 4) * SMALL_CONVOLUTION) * per_tap * _fill_lanes(size)
    return Work(
        multiplications=taps * per_tap,
        elements_moved=inputs + outputs,
        cost=multiplied + inputs + outputs + OUTPUT * outputs,
    )


def _depthwise(reads: float, taps: int, size: ConvSize, costs: tuple[float, float]) -> Work:
    outputs = _pixels(size.output_size, size) * size.filters
    inputs = _pixels(size.input_size, size) * size.in_channels
    cost = (costs[0] + costs[1] * reads) * outputs
    return Work(multiplications=taps * outputs, elements_moved=inputs + outputs, cost=cost)


def _pixels(sides: tuple[int, int], size: ConvSize) -> int:
    return size.batch * sides[0] * sides[1]


def cost_native(factoring: Factoring, size: ConvSize) -> Work:
    """The work of the output by compiled code, to which what stays in the cache costs little."""
    work = _native_work(factoring, size, NATIVE_DEPTHWISE)
    return replace(work, cost=_share(work.cost, size) + NATIVE_CALL)


def cost_native_gradient(factoring: Factoring, size: ConvSize) -> Work:
    """The work of the gradient of the taps' weights by compiled code."""
    work = _native_work(factoring, size, NATIVE_DEPTHWISE_GRADIENT)
    weights = len(factoring.taps) * size.products
    # Threads divide the channels and filters; if there are too few of them, some threads need copies of the gradient.
    portions = -(-size.in_channels // NATIVE_CHANNELS) * -(-size.filters // size.channel_groups // LANES)
    copies = max(1.0, _count_threads(work.cost, size) / portions)
    return replace(work, cost=_share(work.cost + NATIVE_COPY * copies * weights, size) + NATIVE_CALL)


def _count_threads(cost: float, size: ConvSize) -> float:
    """The number of threads that have work."""
    return min(max(cost / NATIVE_THREAD, 1), size.threads)


def _share(cost: float, size: ConvSize) -> float:
    """The cost, including that of the threads that idle meanwhile."""
    return cost * size.threads / _count_threads(cost, size)


def _native_work(factoring: Factoring, size: ConvSize, depthwise: tuple[float, float]) -> Work:
    if size.is_depthwise:
        pixels = math.prod(_native_extent(factoring, size, axis) / size.output_size[axis] for axis in (0, 1))
        return _depthwise(count_reads(factoring, pixels), len(factoring.taps), size, depthwise)
    outputs = _pixels(size.output_size, size) * size.filters
    at_a_time = _native_rows(factoring, size)
    per_row = size.batch * _native_extent(factoring, size, 1) * size.in_channels * -(-size.output_size[0] // at_a_time)
    inputs, *sums = (per_row * rows for rows in _native_reads(factoring, size, at_a_time))
    added = sum(len(terms) * pixels for terms, pixels in zip(factoring.sums, sums, strict=True))
    count = len(factoring.taps) * _pixels(size.output_size, size) * size.products
    moved = NATIVE_INPUT * inputs + NATIVE_ADDED * added + NATIVE_OUTPUT * outputs
    split = NATIVE_GROUP * _pixels(size.output_size, size) * size.channel_groups if size.channel_groups > 1 else 0
    return Work(
        multiplications=count,
        additions=added,
        elements_moved=inputs + outputs,
        cost=NATIVE_TAP * count * _fill_lanes(size) + moved + split,
    )


def _native_extent(factoring: Factoring, size: ConvSize, axis: int) -> int:
    """Rows or columns of the padded input that the output needs."""
    reach = (size.output_size[axis] - 1) * size.strides[axis]
    return reach + (factoring.shape[axis] - 1) * size.dilation[axis] + 1


def _native_reads(factoring: Factoring, size: ConvSize, out_rows: int) -> list[int]:
    """Rows of the input and of each sum that are needed for this many rows of the output."""
    reach = (out_rows - 1) * size.strides[0] + 1
    return [(last - first) * size.dilation[0] + reach for first, last in factoring.row_spans]


def _native_rows(factoring: Factoring, size: ConvSize) -> int:
    """Rows of the output that are computed at a time: the more sums, the fewer rows."""
    channels = size.in_channels // size.channel_groups
    most = max(1, channels // NATIVE_CHANNELS)
    parts = next(parts for parts in range(most, 0, -1) if channels % parts == 0)
    line = _native_extent(factoring, size, 1) * (channels // parts)
    room = NATIVE_BUFFER // line - sum(_native_reads(factoring, size, 1))  # beyond what one row needs
    more = room // (size.strides[0] * len(factoring.row_spans))
    return max(1, min(size.output_size[0], 1 + more))


def _fill_lanes(size: ConvSize) -> float:
    """The factor on the cost of a multiply-add if filters are too few to fill the processor's vectors."""
    return max(1.0, LANES * size.channel_groups / size.filters)
