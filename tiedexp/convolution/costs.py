"""What each step of a tied convolution costs: multiplications, additions and elements moved, from sizes alone.

The steps are those of expanded.py and native.py, weighed by what they cost on a CPU.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from tiedexp.convolution.factoring import Factoring
from tiedexp.patterns.grid import Pattern

BATCH = 64  # images, where the batch is not known
SIDE = 32  # pixels, where the size of the images is not known

# Costs relative to one multiply-add of a dense convolution, fitted to measurements of `tiedexp bench` on two cores of
# an AMD EPYC 9005 with oneDNN, float32 (see experiments/speed).
SMALL_CONVOLUTION = 1.0 / 3.0  # what each of the first four taps of a convolution costs more
OUTPUT = 15.0  # an element of the output of a dense convolution
LANES = 16  # fewer filters cost as much
NATIVE_TAP = 1.15  # a multiply-add of the compiled code, which costs besides,
NATIVE_INPUT = 50.0  # an element of the padded input,
NATIVE_ADDED = 1.3  # one that is added, and
NATIVE_OUTPUT = 27.0  # one of the output
NATIVE_BUFFER = 98_304  # elements of the input and its sums that are kept in the cache,
NATIVE_CHANNELS = 16  # of at least so many channels
NATIVE_GROUP = 700.0  # each pixel of a group of channels, if there are several
# For each channel on its own, an element of the output costs so much, and so much more for each cell of the kernel.
DEPTHWISE_FORWARD = 35.0, 1.6
DEPTHWISE_INPUT_GRADIENT = 35.0, 2.6
DEPTHWISE_WEIGHT_GRADIENT = 35.0, 20.0
DEPTHWISE_DILATED = 120.0  # for TensorFlow, which reorders the pixels
DEPTHWISE_SMALL = 9  # cells; TensorFlow computes the weight gradient of fewer as fast as the output
# The compiled code's, for each tap; and how many taps an element of a sum image costs that is read or written, of which
# there are more than of the output for the padding.
NATIVE_DEPTHWISE = 45.0, 2.1
NATIVE_DEPTHWISE_GRADIENT = 45.0, 3.1
DEPTHWISE_ADDED = 1.3
DEPTHWISE_PADDED = 1.2  # where the size of the images is not known
NATIVE_CALL = 5_000_000  # starting the compiled code
NATIVE_THREAD = 32_768  # less is not worth a thread of its own, which then does nothing
NATIVE_COPY = 64.0  # a weight in a thread's own copy of the gradient, of which there are several if channels are few


@dataclass(frozen=True)
class ConvSize:
    """Sizes of a convolution.

    Args:
        batch: images.
        input_size: (rows, cols) of the input, in pixels.
        output_size: (rows, cols) of the output.
        in_channels: channels that come in.
        filters: channels that go out.
        strides, dilation: (down, across).
        groups: groups of channels.
        threads: that compute it.
    """

    batch: int
    input_size: tuple[int, int]
    output_size: tuple[int, int]
    in_channels: int
    filters: int
    strides: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    threads: int = 1

    @property
    def is_depthwise(self) -> bool:
        """Whether each channel has a filter of its own."""
        return 1 < self.groups == self.in_channels == self.filters

    @property
    def products(self) -> int:
        """Weights of a tap: a multiply-add each for every pixel of the output."""
        return self.in_channels * self.filters // self.groups

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
    """What a computation does: multiply-adds of convolutions and products, additions, and elements moved by them.

    `cost` is the whole of it in multiply-adds of a dense convolution.
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
    """Reads and writes for each element of a depthwise output, with so many pixels of a sum image for each."""
    summed = sum(len(image) + 1 for image in factoring.images)
    return len(factoring.taps) + DEPTHWISE_ADDED * pixels * summed


def cost_dense(pattern: Pattern, size: ConvSize, depthwise: tuple[float, float]) -> Work:
    """The expanded kernel; `depthwise` is what an element and a cell cost for each channel on its own."""
    rows, cols = pattern.shape
    if size.is_depthwise:
        dilated = DEPTHWISE_DILATED if size.dilation != (1, 1) else 0.0
        return _depthwise(rows * cols, rows * cols, size, (depthwise[0] + dilated, depthwise[1]))
    return _convolution(rows * cols, size) + Work(cost=OUTPUT * _pixels(size.output_size, size) * size.filters)


def _depthwise(reads: float, taps: int, size: ConvSize, costs: tuple[float, float]) -> Work:
    outputs = _pixels(size.output_size, size) * size.filters
    inputs = _pixels(size.input_size, size) * size.in_channels
    cost = (costs[0] + costs[1] * reads) * outputs
    return Work(multiplications=taps * outputs, elements_moved=inputs + outputs, cost=cost)


def _pixels(sides: tuple[int, int], size: ConvSize) -> int:
    return size.batch * sides[0] * sides[1]


def _convolution(taps: int, size: ConvSize) -> Work:
    outputs = _pixels(size.output_size, size) * size.filters
    inputs = _pixels(size.input_size, size) * size.in_channels
    per_tap = _pixels(size.output_size, size) * size.products
    return Work(
        multiplications=taps * per_tap,
        elements_moved=inputs + outputs,
        cost=(taps + min(taps, 4) * SMALL_CONVOLUTION) * per_tap * _fill_lanes(size) + inputs + outputs,
    )


def cost_native(factoring: Factoring, size: ConvSize) -> Work:
    """The output, by the compiled code: what is in the cache counts little."""
    work = _native_work(factoring, size, NATIVE_DEPTHWISE)
    return replace(work, cost=_share(work.cost, size) + NATIVE_CALL)


def cost_native_gradient(factoring: Factoring, size: ConvSize) -> Work:
    """The gradient of the taps' weights, by the compiled code."""
    work = _native_work(factoring, size, NATIVE_DEPTHWISE_GRADIENT)
    weights = len(factoring.taps) * size.products
    # Threads have portions of the channels and filters, as far as there are any, and else copies of the gradient.
    portions = -(-size.in_channels // NATIVE_CHANNELS) * -(-size.filters // size.groups // LANES)
    copies = max(1.0, _count_threads(work.cost, size) / portions)
    return replace(work, cost=_share(work.cost + NATIVE_COPY * copies * weights, size) + NATIVE_CALL)


def _count_threads(cost: float, size: ConvSize) -> float:
    """Threads that have something to do."""
    return min(max(cost / NATIVE_THREAD, 1), size.threads)


def _share(cost: float, size: ConvSize) -> float:
    """The cost, and that of the threads which have nothing to do meanwhile."""
    return cost * size.threads / _count_threads(cost, size)


def _native_work(factoring: Factoring, size: ConvSize, depthwise: tuple[float, float]) -> Work:
    if size.is_depthwise:
        pixels = math.prod(_native_extent(factoring, size, axis) / size.output_size[axis] for axis in (0, 1))
        return _depthwise(count_reads(factoring, pixels), len(factoring.taps), size, depthwise)
    outputs = _pixels(size.output_size, size) * size.filters
    at_a_time = _native_rows(factoring, size)
    per_row = size.batch * _native_extent(factoring, size, 1) * size.in_channels * -(-size.output_size[0] // at_a_time)
    inputs, *sums = (per_row * rows for rows in _native_reads(factoring, size, at_a_time))
    added = sum(len(image) * pixels for image, pixels in zip(factoring.images, sums, strict=True))
    count = len(factoring.taps) * _pixels(size.output_size, size) * size.products
    moved = NATIVE_INPUT * inputs + NATIVE_ADDED * added + NATIVE_OUTPUT * outputs
    parting = NATIVE_GROUP * _pixels(size.output_size, size) * size.groups if size.groups > 1 else 0
    return Work(
        multiplications=count,
        additions=added,
        elements_moved=inputs + outputs,
        cost=NATIVE_TAP * count * _fill_lanes(size) + moved + parting,
    )


def _native_extent(factoring: Factoring, size: ConvSize, axis: int) -> int:
    """Rows or columns of the input, padding included, that the output needs."""
    reach = (size.output_size[axis] - 1) * size.strides[axis]
    return reach + (factoring.shape[axis] - 1) * size.dilation[axis] + 1


def _native_reads(factoring: Factoring, size: ConvSize, out_rows: int) -> list[int]:
    """Rows of the input and of each sum image that so many rows of the output need."""
    reach = (out_rows - 1) * size.strides[0] + 1
    return [(last - first) * size.dilation[0] + reach for first, last in factoring.row_spans]


def _native_rows(factoring: Factoring, size: ConvSize) -> int:
    """Rows of the output that are computed at a time: fewer where there are many sums."""
    channels = size.in_channels // size.groups
    most = max(1, channels // NATIVE_CHANNELS)
    parts = next(parts for parts in range(most, 0, -1) if channels % parts == 0)
    line = _native_extent(factoring, size, 1) * (channels // parts)
    room = NATIVE_BUFFER // line - sum(_native_reads(factoring, size, 1))  # beside what one row needs
    more = room // (size.strides[0] * len(factoring.row_spans))
    return max(1, min(size.output_size[0], 1 + more))


def _fill_lanes(size: ConvSize) -> float:
    """How much more a multiply-add costs where filters are too few for the processor's vectors."""
    return max(1.0, LANES * size.groups / size.filters)
