"""A tied convolution whose output, input gradient and weight gradient are each computed in their own way.

The gradient is written out, because automatic differentiation of sums and slices is slower than the dense convolution:

- with respect to the input it is a convolution of the output's gradient with the kernel turned by 180 degrees, which is
  tied as well and has factorings of its own;
- with respect to the weight of a tap it is the correlation of the tap's sum image with the output's gradient; or, the
  other way round, of the input with a sum image of the output's gradient, which the input gradient has made already.

All of it consists of differentiable operations, so gradients of gradients are exact, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import tensorflow as tf

from tiedexp.layers.expanded import ExpandedConvolution
from tiedexp.layers.factored import Window, build_sum_images, find_size, maximum
from tiedexp.layers.native_sums import NativeSums, can_run
from tiedexp.layers.tied_kernel import expand_kernel
from tiedexp.patterns.choosing import EXPAND, NATIVE, Choice, find_factoring, find_rotated_factoring
from tiedexp.patterns.costs import count_parts
from tiedexp.patterns.factoring import Factoring
from tiedexp.patterns.grid import Pattern


@dataclass(frozen=True)
class TiedConvolution:
    """A tied convolution of images (batch, rows, cols, channels) without bias.

    The groups of channels follow from the shapes of images and free weights. Only the expanded kernel and compiled code
    know more than one.

    Args:
        pattern: how the kernel is tied.
        choice: how each part is computed.
        strides, dilation: (down, across).
        padding: "valid" or "same".
        gradient: "sum" or "mean", of a group's cells.
    """

    pattern: Pattern
    choice: Choice
    strides: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    padding: str = "valid"
    gradient: str = "sum"

    def __call__(self, images: Any, free: Any) -> Any:
        """Free weights (groups, channels // groups of channels, filters) and images to the output."""

        @tf.custom_gradient
        def convolve(images: Any, free: Any) -> tuple[Any, Callable[[Any], tuple[Any, Any]]]:
            return self.forward(images, free), lambda upstream: self.backward(images, free, upstream)

        return convolve(tf.convert_to_tensor(images), tf.convert_to_tensor(free))

    def forward(self, images: Any, free: Any) -> Any:
        """The output, without the gradient."""
        way = _resolve(self.choice.forward, images)
        if way == EXPAND:
            return self._expanded()(images, expand_kernel(free, self.pattern))
        groups = _count_groups(images, free)
        factoring = find_factoring(self.pattern, way, _is_depthwise(free, groups), self.strides)
        weights = _mix(factoring, free)
        if way == NATIVE:
            return NativeSums(factoring, images, self._window(images), groups).convolve(weights)
        outputs: list[Any] = []
        for (part,) in _parts([images], outputs):
            outputs.append(build_sum_images(factoring, part, self._window(part)).convolve(weights))
        return _join(outputs)

    def backward(self, images: Any, free: Any, upstream: Any) -> tuple[Any, Any]:
        """The gradients with respect to images and free weights, given that of the output."""
        of_images, of_free = self._factored_gradients(images, free, upstream)
        if _resolve(self.choice.weight_gradient, images) == NATIVE:
            of_free = self._native_weight_gradient(images, free, upstream)
        if _resolve(self.choice.input_gradient, images) == NATIVE:
            of_images = self._native_input_gradient(images, free, upstream)
        if of_images is None or of_free is None:
            dense = self._dense_gradients(images, free, upstream, of_images is None, of_free is None)
            of_images = dense[0] if of_images is None else of_images
            of_free = dense[1] if of_free is None else of_free
        if self.gradient == "mean":
            sizes = np.reshape(self.pattern.group_sizes, (-1, 1, 1))
            of_free = of_free / tf.constant(sizes, of_free.dtype)
        return tf.ensure_shape(of_images, images.shape), of_free

    def _native_input_gradient(self, images: Any, free: Any, upstream: Any) -> Any:
        groups = _count_groups(images, free)
        factoring = find_rotated_factoring(self.pattern, NATIVE, _is_depthwise(free, groups))
        weights = _swap_channels(_mix(factoring, free), groups)
        return NativeSums(factoring, upstream, self._turned_window(images), groups).convolve(weights)

    def _native_weight_gradient(self, images: Any, free: Any, upstream: Any) -> Any:
        groups = _count_groups(images, free)
        factoring = find_factoring(self.pattern, NATIVE, _is_depthwise(free, groups), self.strides)
        return _unmix(factoring, NativeSums(factoring, images, self._window(images), groups).correlate(upstream))

    def _factored_gradients(self, images: Any, free: Any, upstream: Any) -> tuple[Any, Any]:
        """Those of the two gradients that are computed from sum images in memory; None for the others."""
        choice, pattern = self.choice, self.pattern
        of_images = of_weights = None
        if choice.input_gradient not in (EXPAND, NATIVE):
            of_images = find_rotated_factoring(pattern, choice.input_gradient)
        if choice.weight_gradient not in (EXPAND, NATIVE):
            find = find_factoring if choice.weight_gradient_of == "input" else find_rotated_factoring
            of_weights = find(pattern, choice.weight_gradient)
        if of_images is None and of_weights is None:
            return None, None
        turned_weights = None if of_images is None else tf.transpose(_mix(of_images, free), (0, 2, 1))
        gradients: list[Any] = []
        taps_gradient = None
        done: list[Any] = []
        for part, upstream_part in _parts([images, upstream], done):
            turned = None  # the sum images of the output's gradient
            if of_images is not None:
                turned = build_sum_images(of_images, upstream_part, self._turned_window(part))
                gradients.append(turned.convolve(turned_weights))
                done.append(gradients[-1])
            if of_weights is not None:
                if choice.weight_gradient_of == "input":
                    taps = build_sum_images(of_weights, part, self._window(part)).correlate(upstream_part)
                else:
                    if turned is None or choice.weight_gradient != choice.input_gradient:
                        turned = build_sum_images(of_weights, upstream_part, self._turned_window(part))
                    taps = tf.transpose(turned.correlate(part), (0, 2, 1))
                taps_gradient = taps if taps_gradient is None else taps_gradient + taps
                done.append(taps_gradient)
        return (
            None if of_images is None else _join(gradients),
            None if of_weights is None else _unmix(of_weights, taps_gradient),
        )

    def _dense_gradients(
        self, images: Any, free: Any, upstream: Any, of_images: bool, of_free: bool
    ) -> tuple[Any, Any]:
        kernel = expand_kernel(free, self.pattern)
        images_gradient, kernel_gradient = self._expanded().gradients(images, kernel, upstream, of_images, of_free)
        if not of_free:
            return images_gradient, None
        flat = tf.reshape(kernel_gradient, (self.pattern.index.size, -1))
        groups = tf.matmul(tf.constant(self.pattern.matrix.T, flat.dtype), flat)
        return images_gradient, tf.reshape(groups, free.shape)

    def _expanded(self) -> ExpandedConvolution:
        return ExpandedConvolution(self.strides, self.dilation, self.padding)

    def _window(self, images: Any) -> Window:
        before, output = [], []
        for axis in (0, 1):
            size = find_size(images, axis + 1)
            stride, extent = self.strides[axis], self._extent(axis)
            if self.padding == "same":
                length = (size + stride - 1) // stride
                missing = maximum((length - 1) * stride + extent - size, 0)
                before.append(missing // 2)
            else:
                length = (size - extent) // stride + 1
                before.append(0)
            output.append(length)
        return Window((before[0], before[1]), (output[0], output[1]), self.strides, self.dilation)

    def _turned_window(self, images: Any) -> Window:
        """Where the gradient with respect to the input reads the gradient of the output, at stride 1."""
        window = self._window(images)
        before = [self._extent(axis) - 1 - window.padding[axis] for axis in (0, 1)]
        return Window((before[0], before[1]), (find_size(images, 1), find_size(images, 2)), (1, 1), self.dilation)

    def _extent(self, axis: int) -> int:
        return (self.pattern.shape[axis] - 1) * self.dilation[axis] + 1


def _count_groups(images: Any, free: Any) -> int:
    """Groups of channels."""
    return int(images.shape[-1]) // int(free.shape[1])


def _is_depthwise(free: Any, groups: int) -> bool:
    """Whether each channel has a filter of its own."""
    return groups > 1 and int(free.shape[2]) == groups and int(free.shape[1]) == 1


def _swap_channels(weights: Any, groups: int) -> Any:
    """Weights (taps, channels // groups, filters) to (taps, filters // groups, channels), for the input gradient."""
    if groups == 1:
        return tf.transpose(weights, (0, 2, 1))
    taps, channels, filters = weights.shape
    apart = tf.reshape(weights, (taps, channels, groups, filters // groups))
    return tf.reshape(tf.transpose(apart, (0, 3, 2, 1)), (taps, filters // groups, channels * groups))


def _resolve(way: str, images: Any) -> str:
    """A way, or the expanded kernel where it is the compiled one and that cannot run here."""
    return EXPAND if way == NATIVE and not can_run(images.dtype) else way


def _parts(tensors: Sequence[Any], done: list[Any]) -> Iterator[list[Any]]:
    """The tensors in parts of the batch, one after the other, so that one part's sum images are in memory at a time.

    A small batch stays whole, and so does one of unknown size: it may be too small, and TensorFlow's convolution of no
    image fails.

    Args:
        tensors: of the same batch.
        done: what the parts before came to; the caller adds to it.
    """
    batch, sizes = tensors[0].shape[0], [tensor.shape.num_elements() for tensor in tensors]
    count = 1 if batch is None or None in sizes else count_parts(batch, max(sizes))
    if count == 1:
        yield list(tensors)
        return
    for first, last in pairwise(batch * part // count for part in range(count + 1)):
        with tf.control_dependencies(done[-2:]):
            yield [tf.identity(tensor[first:last]) for tensor in tensors]


def _join(parts: Sequence[Any]) -> Any:
    return parts[0] if len(parts) == 1 else tf.concat(parts, 0)


def _mix(factoring: Factoring, free: Any) -> Any:
    """Free weights (groups, channels, filters) to the weights of the taps."""
    return _multiply(factoring.mix, free)


def _unmix(factoring: Factoring, taps: Any) -> Any:
    """The gradient of the taps' weights to that of the free weights."""
    return _multiply(factoring.mix.T, taps)


def _multiply(matrix: Any, weights: Any) -> Any:
    """A constant matrix times weights (columns of the matrix, ...)."""
    if np.array_equal(matrix, np.eye(*matrix.shape)):
        return weights
    product = tf.matmul(tf.constant(matrix, weights.dtype), tf.reshape(weights, (matrix.shape[1], -1)))
    return tf.reshape(product, (matrix.shape[0], *weights.shape[1:]))
