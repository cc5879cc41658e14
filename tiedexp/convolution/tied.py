"""A tied convolution whose output, input gradient and weight gradient are each computed by the chosen method.

The gradient is written out, so that each part can have a method of its own:

- The gradient with respect to the input is a convolution of the output's gradient with the kernel rotated by 180
  degrees, which is tied as well.
- The gradient with respect to the weight of a tap is the correlation of the tap's sum with the output's gradient.

All of it consists of differentiable operations, so gradients of gradients are exact, too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import tensorflow as tf

from tiedexp.convolution.choosing import NATIVE, Choice, find_factoring, find_rotated_factoring
from tiedexp.convolution.expanded import ExpandedConvolution, find_output_length, find_size
from tiedexp.convolution.factoring import Factoring
from tiedexp.convolution.kernel import expand_kernel
from tiedexp.convolution.native import NativeConvolution, Window, can_run
from tiedexp.patterns.grid import Pattern


@dataclass(frozen=True)
class TiedConvolution:
    """A tied convolution of images (batch, rows, cols, channels), without bias.

    The number of channel groups follows from the shapes of the images and the free weights.

    Args:
        pattern: how the kernel is tied.
        choice: the method for each part.
        strides, dilation: (down, across).
        padding: "valid" or "same".
        gradient: "sum" or "mean": the gradient of a free weight is the sum or the mean of its cells' gradients.
    """

    pattern: Pattern
    choice: Choice
    strides: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    padding: str = "valid"
    gradient: str = "sum"

    def __call__(self, images: Any, free: Any) -> Any:
        """Images and free weights (tied_groups, channels // channel_groups, filters) to the output."""
        images, free = tf.convert_to_tensor(images), tf.convert_to_tensor(free)
        # Resolved once: what builds the backward pass may not know the context of the forward pass, e.g. XLA.
        ready = replace(self, choice=resolve(self.choice, images.dtype))

        @tf.custom_gradient
        def convolve(images: Any, free: Any) -> tuple[Any, Callable[[Any], tuple[Any, Any]]]:
            output = ready.forward(images, free)
            return output, lambda upstream: ready.backward(images, free, tf.ensure_shape(upstream, output.shape))

        return convolve(images, free)

    def forward(self, images: Any, free: Any) -> Any:
        """The output, without the gradient."""
        if self.choice.forward != NATIVE:
            return self._expanded()(images, expand_kernel(free, self.pattern))
        factoring, convolution = self._native(images, free)
        return convolution(images, _mix(factoring, free))

    def backward(self, images: Any, free: Any, upstream: Any) -> tuple[Any, Any]:
        """The gradients with respect to images and free weights, given `upstream`, that of the output."""
        of_images = of_free = None
        if self.choice.input_gradient == NATIVE:
            of_images = self._native_input_gradient(images, free, upstream)
        if self.choice.weight_gradient == NATIVE:
            factoring, convolution = self._native(images, free)
            of_free = _unmix(factoring, convolution.weight_gradient(images, upstream))
        if of_images is None or of_free is None:
            dense = self._dense_gradients(images, free, upstream, of_images is None, of_free is None)
            of_images = dense[0] if of_images is None else of_images
            of_free = dense[1] if of_free is None else of_free
        if self.gradient == "mean":
            sizes = np.reshape(self.pattern.group_sizes, (-1, 1, 1))
            of_free = of_free / tf.constant(sizes, of_free.dtype)
        return tf.ensure_shape(of_images, images.shape), of_free

    def _native(self, images: Any, free: Any) -> tuple[Factoring, NativeConvolution]:
        channel_groups = _count_channel_groups(images, free)
        factoring = find_factoring(self.pattern, _is_depthwise(free, channel_groups), self.strides)
        return factoring, NativeConvolution(factoring, self._window(images), channel_groups)

    def _native_input_gradient(self, images: Any, free: Any, upstream: Any) -> Any:
        channel_groups = _count_channel_groups(images, free)
        factoring = find_rotated_factoring(self.pattern, _is_depthwise(free, channel_groups))
        weights = _swap_channels(_mix(factoring, free), channel_groups)
        return NativeConvolution(factoring, self._rotated_window(images), channel_groups)(upstream, weights)

    def _dense_gradients(
        self, images: Any, free: Any, upstream: Any, of_images: bool, of_free: bool
    ) -> tuple[Any, Any]:
        kernel = expand_kernel(free, self.pattern)
        images_gradient, kernel_gradient = self._expanded().gradients(images, kernel, upstream, of_images, of_free)
        if not of_free:
            return images_gradient, None
        flat = tf.reshape(kernel_gradient, (self.pattern.index.size, -1))  # (cells, rest)
        collapsed = tf.matmul(tf.constant(self.pattern.matrix.T, flat.dtype), flat)  # (tied_groups, rest)
        return images_gradient, tf.reshape(collapsed, free.shape)

    def _expanded(self) -> ExpandedConvolution:
        return ExpandedConvolution(self.strides, self.dilation, self.padding)

    def _window(self, images: Any) -> Window:
        before, output = [], []
        for axis in (0, 1):
            size = find_size(images, axis + 1)
            length = self.output_length(size, axis)
            missing = 0
            if self.padding == "same":
                missing = _maximum((length - 1) * self.strides[axis] + self.extent(axis) - size, 0)
            before.append(missing // 2)
            output.append(length)
        return Window((before[0], before[1]), (output[0], output[1]), self.strides, self.dilation)

    def _rotated_window(self, images: Any) -> Window:
        """Where the gradient with respect to the input reads the gradient of the output, at stride 1."""
        window = self._window(images)
        before = [self.extent(axis) - 1 - window.padding[axis] for axis in (0, 1)]
        return Window((before[0], before[1]), (find_size(images, 1), find_size(images, 2)), (1, 1), self.dilation)

    def output_length(self, size: Any, axis: int) -> Any:
        """Rows (axis 0) or columns (axis 1) of the output, given those of the input: a number, or a scalar tensor."""
        return find_output_length(size, self.extent(axis), self.strides[axis], self.padding)

    def extent(self, axis: int) -> int:
        """Rows (axis 0) or columns (axis 1) that the kernel covers, dilation included."""
        return (self.pattern.shape[axis] - 1) * self.dilation[axis] + 1


def resolve(choice: Choice, dtype: Any) -> Choice:
    """The choice, or the expanded kernel if the graph that is being built may not contain compiled operations."""
    return choice if choice.is_expanded or can_run(dtype) else Choice()


def _count_channel_groups(images: Any, free: Any) -> int:
    return int(images.shape[-1]) // int(free.shape[1])


def _is_depthwise(free: Any, channel_groups: int) -> bool:
    """Whether each channel has a filter of its own."""
    return channel_groups > 1 and int(free.shape[2]) == channel_groups and int(free.shape[1]) == 1


def _swap_channels(weights: Any, channel_groups: int) -> Any:
    """Weights for the input gradient: (taps, channels // groups, filters) to (taps, filters // groups, channels)."""
    if channel_groups == 1:
        return tf.transpose(weights, (0, 2, 1))
    taps, channels, filters = weights.shape
    apart = tf.reshape(weights, (taps, channels, channel_groups, filters // channel_groups))
    return tf.reshape(tf.transpose(apart, (0, 3, 2, 1)), (taps, filters // channel_groups, channels * channel_groups))


def _maximum(a: Any, b: Any) -> Any:
    """The larger of two whole numbers or scalar tensors: a number if both are numbers."""
    return max(a, b) if isinstance(a, int) and isinstance(b, int) else tf.maximum(a, b)


def _mix(factoring: Factoring, free: Any) -> Any:
    """Free weights (tied_groups, channels, filters) to the weights of the taps."""
    return _multiply(factoring.mix, free)


def _unmix(factoring: Factoring, taps: Any) -> Any:
    """The gradient of the taps' weights to the gradient of the free weights."""
    return _multiply(factoring.mix.T, taps)


def _multiply(matrix: Any, weights: Any) -> Any:
    """A constant matrix times weights (columns of the matrix, ...)."""
    if np.array_equal(matrix, np.eye(*matrix.shape)):
        return weights
    product = tf.matmul(tf.constant(matrix, weights.dtype), tf.reshape(weights, (matrix.shape[1], -1)))
    return tf.reshape(product, (matrix.shape[0], *weights.shape[1:]))
