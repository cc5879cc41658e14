"""Which way to compute a tied convolution is the fastest: an estimate from the pattern and the sizes alone.

Forward, gradient with respect to the input and gradient with respect to the weights are chosen apart, each among the
expanded kernel and the pattern's factorings. The estimate counts multiplications, additions and the elements moved
through memory by each step of `tiedexp.layers.factored` and `tiedexp.native`, and weighs them by what they cost on a
CPU. It is a pure function, so that a deterministic run makes the same choice everywhere; `tiedexp.layers.measuring`
refines it by the clock where that is allowed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import Any

from tiedexp.errors import PatternError
from tiedexp.patterns.factoring import (
    Box,
    Factoring,
    Lattice,
    as_terms,
    factor,
    factor_cells,
    factor_rotated,
    factor_rotated_cells,
)
from tiedexp.patterns.grid import Pattern

EXPAND = "expand"
NATIVE = "native"  # by compiled code, from the sums of the groups
BATCH = 64  # images, where the batch is not known
SIDE = 32  # pixels, where the size of the images is not known

# Costs relative to one multiply-add of a dense convolution, fitted to measurements of `tiedexp bench` on two cores of
# an AMD EPYC 9005 with oneDNN, float32 (see experiments/speed).
ELEMENT_MOVED = 20.0  # an element read or written by padding, pooling, concatenation or cropping
ELEMENT_ADDED = 13.0  # one read or written by an addition
MATMUL = 1.25  # a multiply-add in a matrix product; more where it has few columns:
MATMUL_COLUMNS = 8.0  # divided by their number
SMALL_CONVOLUTION = 1.0 / 3.0  # what each of the first four taps of a convolution costs more
FILTER_GRADIENT = 1.5  # a multiply-add in the filter gradient of a convolution of few taps, which costs besides
FILTER_GRADIENT_CALL = 0.8  # taps
OUTPUT = 15.0  # an element of the output of a dense convolution
LANES = 16  # fewer filters cost as much
NATIVE_TAP = 1.15  # a multiply-add of the compiled code, which costs besides,
NATIVE_INPUT = 50.0  # an element of the padded input,
NATIVE_ADDED = 1.3  # one that is added, and
NATIVE_OUTPUT = 27.0  # one of the output
NATIVE_BUFFER = 98_304  # elements of the input and its sums that are kept in the cache,
NATIVE_CHANNELS = 16  # of at least so many channels
NATIVE_GROUP = 700.0  # each pixel of a group of channels, if there are several
NATIVE_GRADIENTS = 1_000_000  # with so many weights in a group their gradient costs twice as much: they leave the cache
# For each channel on its own, an element of the output costs so much, and so much more for each cell of the kernel.
DEPTHWISE_FORWARD = 35.0, 1.8
DEPTHWISE_INPUT_GRADIENT = 35.0, 2.6
DEPTHWISE_WEIGHT_GRADIENT = 35.0, 20.0
DEPTHWISE_DILATED = 120.0  # for TensorFlow, which reorders the pixels
DEPTHWISE_SMALL = 9  # cells; TensorFlow computes the weight gradient of fewer as fast as the output
# The compiled code's for each tap, and for each element of a sum image that is read or written, padding included.
NATIVE_DEPTHWISE = 45.0, 2.1
NATIVE_DEPTHWISE_GRADIENT = 45.0, 3.1
DEPTHWISE_ADDED = 1.5
CALL = 5_000_000  # starting an operation, once for every part of the batch
# The batch is computed in parts, so that the sum images of one part are in memory at a time: up to so many, of at least
# so many elements each.
MAX_PARTS = 4
MIN_PART = 250_000
# An estimate must promise this much before the expanded kernel is left, as it is a little wrong.
MARGIN = 0.88


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
        groups: groups of channels; more than one are convolved with the expanded kernel or by compiled code.
    """

    batch: int
    input_size: tuple[int, int]
    output_size: tuple[int, int]
    in_channels: int
    filters: int
    strides: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1

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

    def bytes_moved(self, itemsize: int = 4) -> float:
        """Bytes read and written, of elements of `itemsize` bytes."""
        return self.elements_moved * itemsize

    def _values(self) -> tuple[float, float, float, float]:
        return self.multiplications, self.additions, self.elements_moved, self.cost


@dataclass(frozen=True)
class Choice:
    """How each part of a training step is computed: "expand", the name of a factoring, or "native".

    "native" is the factoring "sums" in compiled code; where that cannot run, the kernel is expanded.

    Args:
        forward: the output.
        input_gradient: the gradient with respect to the input.
        weight_gradient: the gradient with respect to the free weights.
        weight_gradient_of: which tensor's sum images serve for it, "input" or "output" (then shared with the
            gradient with respect to the input, if that has the same factoring).
    """

    forward: str = EXPAND
    input_gradient: str = EXPAND
    weight_gradient: str = EXPAND
    weight_gradient_of: str = "input"

    @classmethod
    def of(cls, value: Mapping[str, Any], pattern: Pattern) -> Choice:
        """A choice from its mapping, checked against the factorings the pattern has.

        Raises:
            PatternError: unknown keys, or no such factoring.
        """
        fields = asdict(cls())
        unknown = set(value) - set(fields)
        if unknown:
            raise PatternError(f"unknown keys {sorted(unknown)} in `implementation`; there are {', '.join(fields)}")
        names = (EXPAND, *_names(factor(pattern), native=True))
        rotated_names = (EXPAND, *_names(factor_rotated(pattern), native=True))
        choice = cls(**{**fields, **value})
        allowed = {
            "forward": names,
            "input_gradient": rotated_names,
            "weight_gradient": names if choice.weight_gradient_of == "input" else rotated_names,
            "weight_gradient_of": ("input", "output"),
        }
        for key, options in allowed.items():
            if getattr(choice, key) not in options:
                raise PatternError(
                    f"`implementation`: {key} is '{getattr(choice, key)}', but this pattern has {', '.join(options)}"
                )
        return choice

    @property
    def is_expanded(self) -> bool:
        """Whether nothing is factored."""
        return self.forward == self.input_gradient == self.weight_gradient == EXPAND

    def fit(self, size: ConvSize) -> Choice:
        """The same with the expanded kernel in place of what cannot be at a size."""
        fields = self.as_dict()
        if size.groups > 1:  # sum images in memory know none
            fields.update(
                (key, EXPAND) for key in ("forward", "input_gradient", "weight_gradient") if fields[key] != NATIVE
            )
        if not can_factor_backward(size):
            fields["input_gradient"] = EXPAND
            if self.weight_gradient_of == "output":
                fields.update(weight_gradient=EXPAND, weight_gradient_of="input")
        return Choice(**fields)

    def __str__(self) -> str:
        if self.forward == self.input_gradient == self.weight_gradient:
            return self.forward
        return f"{self.forward} | {self.input_gradient} | {self.weight_gradient}"

    def as_dict(self) -> dict[str, str]:
        """The fields, as text."""
        return asdict(self)


def count_parts(batch: int, elements: int) -> int:
    """In how many parts a batch is computed; `elements` are those of its images, or of its outputs if they are more."""
    return max(1, min(MAX_PARTS, elements // MIN_PART, batch // 2))


def find_factoring(
    pattern: Pattern, name: str, depthwise: bool = False, strides: tuple[int, int] = (1, 1)
) -> Factoring:
    """The factoring of a pattern with a name, or the one that "native" uses.

    For each channel on its own (`depthwise`) that is the cells themselves where sums would be no less work.
    """
    found = _find(factor(pattern), name)
    return _lighter(found, factor_cells(pattern), strides) if depthwise and name == NATIVE else found


def find_rotated_factoring(pattern: Pattern, name: str, depthwise: bool = False) -> Factoring:
    """The same of the pattern's kernel turned by 180 degrees."""
    found = _find(factor_rotated(pattern), name)
    return _lighter(found, factor_rotated_cells(pattern), (1, 1)) if depthwise and name == NATIVE else found


def _find(factorings: Sequence[Factoring], name: str) -> Factoring:
    return next(factoring for factoring in factorings if factoring.name == ("sums" if name == NATIVE else name))


def _lighter(sums: Factoring, cells: Factoring, strides: tuple[int, int]) -> Factoring:
    return sums if _count_reads(sums, strides) < _count_reads(cells, strides) else cells


def _count_reads(factoring: Factoring, strides: tuple[int, int]) -> float:
    """Reads and writes for each element of a depthwise output, which take the time there."""
    summed = sum(len(as_terms(image)) + 1 for image in factoring.images)
    return len(factoring.taps) + DEPTHWISE_ADDED * strides[0] * strides[1] * summed


def _names(factorings: Sequence[Factoring], native: bool) -> list[str]:
    """Ways to use factorings, the compiled one among them if it may be."""
    names = [factoring.name for factoring in factorings]
    return [*names, NATIVE] if native and "sums" in names else names


def _usable(factorings: Sequence[Factoring], size: ConvSize, native: bool) -> list[str]:
    """Ways to use factorings at a size: sum images in memory know no groups of channels."""
    names = _names(factorings, native)
    return names if size.groups == 1 else [name for name in names if name == NATIVE]


def can_factor_backward(size: ConvSize) -> bool:
    """Whether the sum images of the output's gradient serve: not with strides, which spread it out."""
    return size.strides == (1, 1)


def estimate_forward(pattern: Pattern, size: ConvSize, name: str) -> Work:
    """The work of the output, in the way of `name`."""
    if name == EXPAND:
        return _dense(pattern, size, DEPTHWISE_FORWARD)
    factoring = find_factoring(pattern, name, size.is_depthwise, size.strides)
    if name == NATIVE:
        return _native(factoring, size)
    return _images(factoring, size) + _convolve(factoring, size)


def estimate_backward(pattern: Pattern, size: ConvSize, choice: Choice) -> Work:
    """The work of both gradients."""
    turned = size.reversed()
    work = Work()
    shared = False
    if choice.input_gradient == EXPAND:
        work += _dense(pattern, size, DEPTHWISE_INPUT_GRADIENT)
    elif choice.input_gradient == NATIVE:
        work += _native(find_rotated_factoring(pattern, NATIVE, size.is_depthwise), turned)
    else:
        factoring = find_rotated_factoring(pattern, choice.input_gradient)
        work += _images(factoring, turned) + _convolve(factoring, turned)
        shared = choice.weight_gradient_of == "output" and choice.weight_gradient == choice.input_gradient
    if choice.weight_gradient == EXPAND:
        small = pattern.index.size <= DEPTHWISE_SMALL
        return work + _dense(pattern, size, DEPTHWISE_FORWARD if small else DEPTHWISE_WEIGHT_GRADIENT)
    if choice.weight_gradient == NATIVE:
        return work + _native_correlate(find_factoring(pattern, NATIVE, size.is_depthwise, size.strides), size)
    if choice.weight_gradient_of == "output":
        factoring, read = find_rotated_factoring(pattern, choice.weight_gradient), turned
    else:
        factoring, read = find_factoring(pattern, choice.weight_gradient), size
    return work + (Work() if shared else _images(factoring, read)) + _correlate(factoring, read)


def estimate_step(pattern: Pattern, size: ConvSize, choice: Choice) -> Work:
    """The work of a training step of the layer: the output and both gradients."""
    return estimate_forward(pattern, size, choice.forward) + estimate_backward(pattern, size, choice)


def list_forward(pattern: Pattern, size: ConvSize, native: bool = False) -> list[str]:
    """Ways to compute the output, the cheapest first by the estimate; `native` says whether compiled code can run."""
    names = [EXPAND, *_usable(factor(pattern), size, native)]
    return sorted(names, key=lambda name: estimate_forward(pattern, size, name).cost)


def list_backward(pattern: Pattern, size: ConvSize, native: bool = False) -> list[Choice]:
    """Ways to compute the gradients (`forward` is left at "expand"), the cheapest first by the estimate."""
    choices = _backward_choices(pattern, size, native)
    return sorted(choices, key=lambda choice: estimate_backward(pattern, size, choice).cost)


def _backward_choices(pattern: Pattern, size: ConvSize, native: bool) -> Iterator[Choice]:
    yield Choice()
    names = _usable(factor(pattern), size, native)
    rotated = _usable(factor_rotated(pattern), size, native) if can_factor_backward(size) else []
    for input_gradient in (EXPAND, *rotated):
        for weight_gradient in names:
            yield Choice(EXPAND, input_gradient, weight_gradient, "input")
        for weight_gradient in rotated:
            if weight_gradient != NATIVE:  # it has no images to share
                yield Choice(EXPAND, input_gradient, weight_gradient, "output")
        if input_gradient != EXPAND:
            yield Choice(EXPAND, input_gradient, EXPAND)


@lru_cache(maxsize=4096)
def choose(pattern: Pattern, size: ConvSize, implementation: str = "auto", native: bool = False) -> Choice:
    """The cheapest way by the estimate.

    Args:
        pattern: the tying.
        size: sizes of the convolution.
        implementation: "auto"; "expand", the dense kernel; "factored", the cheapest factoring where there is one, even
            if the dense kernel is cheaper.
        native: whether compiled code can run.
    """
    if implementation == EXPAND:
        return Choice()
    forward, backward = list_forward(pattern, size, native), list_backward(pattern, size, native)
    if implementation == "factored":
        best = max(backward, key=lambda way: (_num_factored(way), -estimate_backward(pattern, size, way).cost))
        return replace(best, forward=next((name for name in forward if name != EXPAND), EXPAND))
    chosen = backward[0]
    if estimate_backward(pattern, size, chosen).cost > MARGIN * estimate_backward(pattern, size, Choice()).cost:
        chosen = Choice()
    dense = estimate_forward(pattern, size, EXPAND).cost
    worth = estimate_forward(pattern, size, forward[0]).cost <= MARGIN * dense
    return replace(chosen, forward=forward[0] if worth else EXPAND)


def _num_factored(choice: Choice) -> int:
    return (choice.input_gradient != EXPAND) + (choice.weight_gradient != EXPAND)


# What each step costs


def _dense(pattern: Pattern, size: ConvSize, depthwise: tuple[float, float]) -> Work:
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


def _passes(elements: float, additions: float = 0) -> Work:
    weight = ELEMENT_ADDED if additions else ELEMENT_MOVED
    return Work(additions=additions, elements_moved=elements, cost=weight * elements + additions)


def _calls(count: int, size: ConvSize) -> Work:
    """What it costs to start so many operations for every part of the batch."""
    inputs, outputs = _pixels(size.input_size, size) * size.in_channels, _pixels(size.output_size, size) * size.filters
    return Work(cost=CALL * count * count_parts(size.batch, max(inputs, outputs)))


def _convolution(taps: int, size: ConvSize) -> Work:
    outputs = _pixels(size.output_size, size) * size.filters
    inputs = _pixels(size.input_size, size) * size.in_channels
    per_tap = _pixels(size.output_size, size) * size.products
    return Work(
        multiplications=taps * per_tap,
        elements_moved=inputs + outputs,
        cost=(taps + min(taps, 4) * SMALL_CONVOLUTION) * per_tap * _fill_lanes(size) + inputs + outputs,
    )


def _is_boxes(factoring: Factoring, size: ConvSize) -> bool:
    return size.dilation == (1, 1) and all(isinstance(image, Box) for image in factoring.images)


def _plane(factoring: Factoring, size: ConvSize) -> int:
    """Pixels of the lists that sums are taken of, zeros between rows and images included."""
    rows, cols = (
        max(size.input_size[axis], size.output_size[axis] * size.strides[axis])
        + (factoring.shape[axis] - 1) * size.dilation[axis] // 2
        for axis in (0, 1)
    )
    return size.batch * rows * cols


def _images(factoring: Factoring, size: ConvSize) -> Work:
    """The sum images; for sums with their copy side by side."""
    if _is_boxes(factoring, size):
        pixels = _pixels(size.input_size, size) * size.in_channels
        sides = [size.input_size[axis] + factoring.shape[axis] - 1 for axis in (0, 1)]
        padded = _pixels((sides[0], sides[1]), size) * size.in_channels
        work = Work()
        for lattice in factoring.lattices:
            box = _box(factoring, lattice)
            if box is not None:
                passes = 4 if box.alternate_rows or box.alternate_cols else 2  # padding, signs, pooling
                work += _passes(passes * 2 * (pixels + padded) / 2) + _calls(passes, size)
                work += Work(additions=(box.rows * box.cols - 1) * pixels)
            elif lattice.size != factoring.shape:
                work += _passes(pixels) + _calls(1, size)
        return work
    pixels = _plane(factoring, size) * size.in_channels
    terms = [len(as_terms(image)) for image in factoring.images]
    work = _passes(2 * pixels)
    for count in terms:
        work += _passes((count + 1) * pixels, (count - 1) * pixels)
    return work + _passes(2 * len(factoring.taps) * pixels) + _calls(len(terms) + 2, size)


def _box(factoring: Factoring, lattice: Lattice) -> Box | None:
    image = factoring.images[lattice.image] if lattice.image >= 0 else None
    return image if isinstance(image, Box) else None


def _convolve(factoring: Factoring, size: ConvSize) -> Work:
    """The taps."""
    outputs = _pixels(size.output_size, size) * size.filters
    if _is_boxes(factoring, size):
        work = Work()
        for number, lattice in enumerate(factoring.lattices):
            work += _convolution(lattice.size[0] * lattice.size[1], size)
            if number:
                work += _passes(3 * outputs, outputs)
        return work + _calls(2 * len(factoring.lattices), size)
    return _product(factoring, size) + _passes(2 * outputs) + _calls(2, size)


def _native(factoring: Factoring, size: ConvSize, depthwise: tuple[float, float] = NATIVE_DEPTHWISE) -> Work:
    """The output, by the compiled code: what is in the cache counts little."""
    if size.is_depthwise:
        work = _depthwise(_count_reads(factoring, size.strides), len(factoring.taps), size, depthwise)
        return work + Work(cost=CALL)
    outputs = _pixels(size.output_size, size) * size.filters
    at_a_time = _native_rows(factoring, size)
    per_row = size.batch * _native_cols(factoring, size) * size.in_channels * -(-size.output_size[0] // at_a_time)
    inputs, *sums = (per_row * rows for rows in _native_reads(factoring, size, at_a_time))
    added = sum(len(as_terms(image)) * pixels for image, pixels in zip(factoring.images, sums, strict=True))
    count = len(factoring.taps) * _pixels(size.output_size, size) * size.products
    moved = NATIVE_INPUT * inputs + NATIVE_ADDED * added + NATIVE_OUTPUT * outputs
    parting = NATIVE_GROUP * _pixels(size.output_size, size) * size.groups if size.groups > 1 else 0
    return Work(
        multiplications=count,
        additions=added,
        elements_moved=inputs + outputs,
        cost=NATIVE_TAP * count * _fill_lanes(size) + moved + parting + CALL,
    )


def _native_cols(factoring: Factoring, size: ConvSize) -> int:
    return (size.output_size[1] - 1) * size.strides[1] + (factoring.shape[1] - 1) * size.dilation[1] + 1


def _native_reads(factoring: Factoring, size: ConvSize, out_rows: int) -> list[int]:
    """Rows of the input and of each sum image that so many rows of the output need."""
    reach = (out_rows - 1) * size.strides[0] + 1
    return [(last - first) * size.dilation[0] + reach for first, last in factoring.row_spans]


def _native_rows(factoring: Factoring, size: ConvSize) -> int:
    """Rows of the output that are computed at a time: fewer where there are many sums."""
    channels = size.in_channels // size.groups
    most = max(1, channels // NATIVE_CHANNELS)
    parts = next(parts for parts in range(most, 0, -1) if channels % parts == 0)
    line = _native_cols(factoring, size) * (channels // parts)
    for rows in range(size.output_size[0], 1, -1):
        if sum(_native_reads(factoring, size, rows)) * line <= NATIVE_BUFFER:
            return rows
    return 1


def _native_correlate(factoring: Factoring, size: ConvSize) -> Work:
    """The gradient of the taps' weights, by the compiled code."""
    work = _native(factoring, size, NATIVE_DEPTHWISE_GRADIENT)
    weights = len(factoring.taps) * size.products / size.groups
    return replace(work, cost=work.cost * (1 + weights / NATIVE_GRADIENTS))


def _fill_lanes(size: ConvSize) -> float:
    """How much more a multiply-add costs where filters are too few for the processor's vectors."""
    return max(1.0, LANES * size.groups / size.filters)


def _product(factoring: Factoring, size: ConvSize) -> Work:
    count = len(factoring.taps) * _plane(factoring, size) * size.in_channels * size.filters
    return Work(multiplications=count, cost=(MATMUL + MATMUL_COLUMNS / size.filters) * count)


def _correlate(factoring: Factoring, size: ConvSize) -> Work:
    """The gradient of the taps' weights."""
    outputs = _pixels(size.output_size, size) * size.filters
    if _is_boxes(factoring, size):
        calls = len(factoring.lattices)
        taps = sum(lattice.size[0] * lattice.size[1] for lattice in factoring.lattices)
        per_tap = outputs * size.in_channels
        moved = calls * (outputs + _pixels(size.input_size, size) * size.in_channels)
        cost = (FILTER_GRADIENT * taps + FILTER_GRADIENT_CALL * calls) * per_tap + moved
        return Work(multiplications=taps * per_tap, elements_moved=moved, cost=cost) + _calls(calls, size)
    return _product(factoring, size) + _passes(2 * outputs) + _calls(2, size)
