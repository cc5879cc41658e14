"""A factored tied convolution in TensorFlow: sum images, and taps that read them.

Two lowerings, because two things are fast:

- Boxes: each image is one average pooling (its window size goes into the weights), each lattice of taps one dilated
  convolution, and the results are added up. An image is padded or cropped before it is pooled to exactly what its taps
  read, so nothing is computed twice and nothing thrown away.
- Sums: the padded input as one long list of pixels, in which a shift by rows and columns is a shift by a number of
  pixels. Slices of that list copy nothing, so a sum image is one pass over memory; the images side by side, as
  channels, times the taps' weights is one matrix product. Zeros between rows and images keep neighbours apart.

`SumImages` holds the images of one tensor. What they serve is the same for a forward convolution and for the gradient
with respect to its input (a convolution of the output's gradient with the kernel turned by 180 degrees), and both
convolve the images; the gradient with respect to the weights correlates them with the other tensor.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import tensorflow as tf

from tiedexp.layers.support import is_supported
from tiedexp.patterns.factoring import Box, Factoring, Lattice, as_terms


@dataclass(frozen=True)
class Window:
    """Where a convolution reads its input: sizes are pixels, whole numbers or scalar tensors.

    Args:
        padding: zeros (above, left); negative where the first rows and columns are not read.
        output_size: (rows, cols) of what is computed.
        strides: (down, across).
        dilation: (down, across), pixels from cell to cell of the kernel.
    """

    padding: tuple[Any, Any]
    output_size: tuple[Any, Any]
    strides: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)


class SumImages(ABC):
    """The sum images of one tensor, (batch, rows, cols, channels).

    With groups of channels, each group's filters, which lie one after the other, read its channels alone.
    """

    def __init__(self, factoring: Factoring, image: Any, window: Window, groups: int = 1):
        self.factoring = factoring
        self.image = image
        self.window = window
        self.groups = groups

    @abstractmethod
    def convolve(self, weights: Any) -> Any:
        """Taps' weights (taps, channels // groups, filters) to the output, (batch, *output_size, filters)."""

    @abstractmethod
    def correlate(self, other: Any) -> Any:
        """The gradient of `convolve` for its weights, given that of its output: (taps, channels // groups, filters)."""


def build_sum_images(factoring: Factoring, image: Any, window: Window) -> SumImages:
    """The images of a tensor, in the lowering that suits the factoring."""
    if all(isinstance(part, Box) for part in factoring.images) and window.dilation == (1, 1):
        return BoxImages(factoring, image, window)
    return PixelSums(factoring, image, window)


class BoxImages(SumImages):
    """Images by pooling, taps by convolution; of one group of channels."""

    def __init__(self, factoring: Factoring, image: Any, window: Window):
        super().__init__(factoring, image, window)
        self._read: dict[Lattice, Any] = {}

    def _lattices(self, dilated: bool) -> list[Lattice]:
        """The lattices of taps; those with holes between the taps in single ones if there is no such convolution."""
        if dilated and self.window.strides == (1, 1):  # strides and dilation exclude each other
            return list(self.factoring.lattices)
        return [
            part
            for lattice in self.factoring.lattices
            for part in (lattice.split() if lattice.steps != (1, 1) else [lattice])
        ]

    def _pool(self, lattice: Lattice) -> Any:
        """The image of a lattice where its taps read it, divided by the size of its box."""
        if lattice not in self._read:
            self._read[lattice] = self._compute(lattice)
        return self._read[lattice]

    def _compute(self, lattice: Lattice) -> Any:
        box = Box(1, 1) if lattice.image < 0 else self.factoring.images[lattice.image]
        assert isinstance(box, Box)
        bounds = []
        for axis, (first, size, step, extent) in enumerate(
            zip((lattice.row, lattice.col), lattice.size, lattice.steps, (box.rows, box.cols), strict=True)
        ):
            start = first - self.window.padding[axis]
            reach = (self.window.output_size[axis] - 1) * self.window.strides[axis]
            bounds += [start, start + (size - 1) * step + reach + extent]
        part = _cut(self.image, *bounds)
        signs = _signs(part, box)
        if signs is not None:
            part = part * signs
        if (box.rows, box.cols) != (1, 1):
            part = tf.nn.avg_pool2d(part, (box.rows, box.cols), 1, "VALID")
        if signs is not None:
            part = part * signs[:, : tf.shape(part)[1], : tf.shape(part)[2]]
        return part

    def _scale(self, weights: Any) -> Any:
        """The taps' weights times the number of cells of their boxes."""
        images = self.factoring.images
        boxes = [image.rows * image.cols for image in images if isinstance(image, Box)]
        sizes = [1 if tap.image < 0 else boxes[tap.image] for tap in self.factoring.taps]
        if set(sizes) == {1}:
            return weights
        return weights * tf.constant(np.reshape(sizes, (-1, 1, 1)), weights.dtype)

    def convolve(self, weights: Any) -> Any:
        weights = self._scale(weights)
        with_zero = tf.concat([weights, tf.zeros_like(weights[:1])], 0)  # tap -1 is no tap
        output = None
        # The direct one is faster, but where its filter gradient is missing it has no second-order gradient.
        convolution = tf.nn.conv2d if _has_dilated_filter_gradient(weights.dtype) else tf.nn.convolution
        for lattice in self._lattices(dilated=True):
            kernel = tf.gather(with_zero, np.mod(lattice.taps, len(self.factoring.taps) + 1))
            part = convolution(self._pool(lattice), kernel, self.window.strides, "VALID", dilations=lattice.steps)
            output = part if output is None else output + part
        return output

    def correlate(self, other: Any) -> Any:
        gradients: dict[int, Any] = {}
        for lattice in self._lattices(dilated=_has_dilated_filter_gradient(other.dtype)):
            image = self._pool(lattice)
            channels, filters = image.shape[-1], other.shape[-1]
            kernel = tf.raw_ops.Conv2DBackpropFilter(
                input=image,
                filter_sizes=(*lattice.size, channels, filters),
                out_backprop=other,
                strides=[1, *self.window.strides, 1],
                dilations=[1, *lattice.steps, 1],
                padding="VALID",
            )
            kernel = tf.reshape(kernel, (-1, channels, filters))
            for place, tap in enumerate(np.ravel(lattice.taps)):
                if tap >= 0:
                    gradients[int(tap)] = kernel[place]
        return self._scale(tf.stack([gradients[tap] for tap in range(len(gradients))]))


class PixelSums(SumImages):
    """Images as sums of shifted lists of pixels, taps by one matrix product, with groups of channels one a group."""

    def __init__(self, factoring: Factoring, image: Any, window: Window, groups: int = 1):
        super().__init__(factoring, image, window, groups)
        self._plane = self._plane_size()

    def _plane_size(self) -> tuple[Any, Any]:
        """(rows, cols) of an image with the zeros that keep its pixels apart from the next row's and image's."""
        sides = []
        for axis in (0, 1):
            before = self.window.padding[axis]
            length = before + find_size(self.image, axis + 1)
            extent = (self.factoring.shape[axis] - 1) * self.window.dilation[axis] + 1
            end = (self.window.output_size[axis] - 1) * self.window.strides[axis] + extent
            # The zeros before the next row serve as those after this one.
            sides.append(maximum(maximum(length, end - before), extent))
        return sides[0], sides[1]

    @cached_property
    def _side_by_side(self) -> Any:
        """The images as their taps read them, (pixels, taps x channels).

        The pixels are those of the planes, or with strides those of the output.
        """
        batch = find_size(self.image, 0)
        above, left = self.window.padding
        rows, cols = self._plane
        image = _cut(self.image, -above, rows - above, -left, cols - left, extra_image=True)
        channels = image.shape[-1]
        pixels = batch * rows * cols
        # Every list is kept with the number of its pixels that are right.
        base = tf.reshape(image, (-1, channels)), (batch + 1) * rows * cols

        def shift(row: int, col: int) -> Any:
            return row * self.window.dilation[0] * cols + col * self.window.dilation[1]

        lists: list[tuple[Any, Any]] = []
        for step in self.factoring.images:
            sources = [
                (base if term.image < 0 else lists[term.image], shift(term.row, term.col), term.sign)
                for term in as_terms(step)
            ]
            length = None
            for (_, pixels_of), offset, _ in sources:
                length = pixels_of - offset if length is None else minimum(length, pixels_of - offset)
            plus = [values[offset : offset + length] for (values, _), offset, sign in sources if sign > 0]
            minus = [values[offset : offset + length] for (values, _), offset, sign in sources if sign < 0]
            total = _add(plus) if plus else None
            if minus:
                total = -_add(minus) if total is None else total - _add(minus)
            lists.append((total, length))
        read = []
        for tap in self.factoring.taps:
            values, _ = base if tap.image < 0 else lists[tap.image]
            offset = shift(tap.row, tap.col)
            read.append(values[offset : offset + pixels])
        together = tf.concat(read, -1) if len(read) > 1 else read[0]
        if self.window.strides == (1, 1):
            return together
        return tf.reshape(self._crop(together), (-1, together.shape[-1]))

    def _crop(self, pixels: Any) -> Any:
        """From planes to the pixels of the output."""
        planes = tf.reshape(pixels, (-1, *self._plane, pixels.shape[-1]))
        (down, across), (rows, cols) = self.window.strides, self.window.output_size
        return planes[:, : (rows - 1) * down + 1 : down, : (cols - 1) * across + 1 : across]

    def convolve(self, weights: Any) -> Any:
        taps, channels, filters = weights.shape
        if self.groups == 1:
            output = tf.matmul(self._side_by_side, tf.reshape(weights, (taps * channels, filters)))
        else:
            weights = tf.reshape(weights, (taps, channels, self.groups, filters // self.groups))
            pixels = tf.reshape(self._side_by_side, (-1, taps, self.groups, channels))
            output = tf.reshape(tf.einsum("ptgc,tcgf->pgf", pixels, weights), (-1, filters))
        if self.window.strides == (1, 1):
            return self._crop(output)
        return tf.reshape(output, (-1, *self.window.output_size, filters))

    def correlate(self, other: Any) -> Any:
        taps, channels, filters = len(self.factoring.taps), self.image.shape[-1] // self.groups, other.shape[-1]
        if self.window.strides == (1, 1):  # what lies outside the output meets zeros
            rows, cols = (self._plane[axis] - self.window.output_size[axis] for axis in (0, 1))
            other = tf.pad(other, [[0, 0], [0, rows], [0, cols], [0, 0]])
        if self.groups == 1:
            product = tf.matmul(self._side_by_side, tf.reshape(other, (-1, filters)), transpose_a=True)
        else:
            other = tf.reshape(other, (-1, self.groups, filters // self.groups))
            pixels = tf.reshape(self._side_by_side, (-1, taps, self.groups, channels))
            product = tf.einsum("ptgc,pgf->tcgf", pixels, other)
        return tf.reshape(product, (taps, channels, filters))


@lru_cache
def _has_dilated_filter_gradient(dtype: Any) -> bool:
    """Whether the device has this kernel: of CPUs those where TensorFlow uses oneDNN, and for its dtypes."""
    ones = np.ones((1, 3, 3, 1))
    return is_supported(
        lambda: tf.raw_ops.Conv2DBackpropFilter(
            input=tf.constant(ones, dtype),
            filter_sizes=(2, 2, 1, 1),
            out_backprop=tf.constant(ones[:, :1, :1], dtype),
            strides=[1, 1, 1, 1],
            dilations=[1, 2, 2, 1],
            padding="VALID",
        )
    )


def _add(values: Sequence[Any]) -> Any:
    return values[0] if len(values) == 1 else tf.add_n(list(values))


def find_size(image: Any, axis: int) -> Any:
    """The length of an axis: a number where it is known, else a scalar tensor."""
    return image.shape[axis] if image.shape[axis] is not None else tf.shape(image)[axis]


def maximum(a: Any, b: Any) -> Any:
    """Of whole numbers or scalar tensors: a number if both are."""
    return max(a, b) if isinstance(a, int) and isinstance(b, int) else tf.maximum(a, b)


def minimum(a: Any, b: Any) -> Any:
    """Of whole numbers or scalar tensors: a number if both are."""
    return min(a, b) if isinstance(a, int) and isinstance(b, int) else tf.minimum(a, b)


def _cut(image: Any, top: Any, bottom: Any, left: Any, right: Any, extra_image: bool = False) -> Any:
    """Rows `top` to `bottom` and columns `left` to `right` of images, with zeros where those are outside."""
    inside, padding = [slice(None)], [[0, int(extra_image)]]
    for axis, first, last in ((1, top, bottom), (2, left, right)):
        size = find_size(image, axis)
        # All of it may be outside, when the image is smaller than half the kernel.
        begin, end = (minimum(maximum(bound, 0), size) for bound in (first, last))
        before = minimum(maximum(-first, 0), last - first)
        inside.append(slice(begin, end))
        padding.append([before, (last - first) - (end - begin) - before])
    cropped = image[tuple(inside)]
    numbers = [number for pair in padding for number in pair]
    if all(isinstance(number, int) for number in numbers) and not any(numbers):
        return cropped
    return tf.pad(cropped, [*padding, [0, 0]])


def _signs(image: Any, box: Box) -> Any:
    """Alternating signs for every pixel, (1, rows, cols, 1); None where there are none."""
    if not (box.alternate_rows or box.alternate_cols):
        return None
    down = tf.range(tf.shape(image)[1]) * int(box.alternate_rows)
    across = tf.range(tf.shape(image)[2]) * int(box.alternate_cols)
    odd = tf.cast((down[:, None] + across[None, :]) % 2, image.dtype)
    return (1 - 2 * odd)[None, :, :, None]
