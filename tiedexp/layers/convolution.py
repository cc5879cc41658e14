"""A tied convolution whose output, input gradient and weight gradient are each computed in their own way.

The gradient is written out, because automatic differentiation of sums and slices is slower than the dense convolution:

- with respect to the input it is a convolution of the output's gradient with the kernel turned by 180 degrees, which is
  tied as well and has factorings of its own;
- with respect to the weight of a tap it is the correlation of the tap's sum image with the output's gradient; or, the
  other way round, of the input with a sum image of the output's gradient, which the input gradient has made already.

All of it consists of differentiable operations, so gradients of gradients are exact, too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from tiedexp.layers.factored import Window, build_sum_images
from tiedexp.layers.tied_kernel import expand_kernel
from tiedexp.patterns.choosing import EXPAND, Choice, find_factoring, find_rotated_factoring
from tiedexp.patterns.factoring import Factoring
from tiedexp.patterns.grid import Pattern


@dataclass(frozen=True)
class TiedConvolution:
    """A tied convolution of images (batch, rows, cols, channels) without bias.

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
        """Free weights (groups, channels, filters) and images to the output."""

        @tf.custom_gradient
        def convolve(images: Any, free: Any) -> tuple[Any, Callable[[Any], tuple[Any, Any]]]:
            return self.forward(images, free), lambda upstream: self.backward(images, free, upstream)

        return convolve(tf.convert_to_tensor(images), tf.convert_to_tensor(free))

    def forward(self, images: Any, free: Any) -> Any:
        """The output, without the gradient."""
        if self.choice.forward == EXPAND:
            return self._dense(images, expand_kernel(free, self.pattern))
        factoring = find_factoring(self.pattern, self.choice.forward)
        return build_sum_images(factoring, images, self._window(images)).convolve(_mix(factoring, free))

    def backward(self, images: Any, free: Any, upstream: Any) -> tuple[Any, Any]:
        """The gradients with respect to images and free weights, given that of the output."""
        choice = self.choice
        turned = None  # the sum images of the output's gradient
        images_gradient = free_gradient = None
        if choice.input_gradient != EXPAND:
            factoring = find_rotated_factoring(self.pattern, choice.input_gradient)
            turned = build_sum_images(factoring, upstream, self._turned_window(images))
            images_gradient = turned.convolve(tf.transpose(_mix(factoring, free), (0, 2, 1)))
        if choice.weight_gradient != EXPAND and choice.weight_gradient_of == "output":
            if turned is None or choice.weight_gradient != choice.input_gradient:
                factoring = find_rotated_factoring(self.pattern, choice.weight_gradient)
                turned = build_sum_images(factoring, upstream, self._turned_window(images))
            free_gradient = _unmix(turned.factoring, tf.transpose(turned.correlate(images), (0, 2, 1)))
        elif choice.weight_gradient != EXPAND:
            factoring = find_factoring(self.pattern, choice.weight_gradient)
            taps = build_sum_images(factoring, images, self._window(images)).correlate(upstream)
            free_gradient = _unmix(factoring, taps)
        if images_gradient is None or free_gradient is None:
            dense = self._dense_gradients(images, free, upstream, images_gradient is None, free_gradient is None)
            images_gradient = dense[0] if images_gradient is None else images_gradient
            free_gradient = dense[1] if free_gradient is None else free_gradient
        if self.gradient == "mean":
            sizes = np.reshape(self.pattern.group_sizes, (-1, 1, 1))
            free_gradient = free_gradient / tf.constant(sizes, free_gradient.dtype)
        return tf.ensure_shape(images_gradient, images.shape), free_gradient

    def _dense(self, images: Any, kernel: Any) -> Any:
        padding = self.padding.upper()
        return tf.nn.convolution(images, kernel, self.strides, padding, dilations=self.dilation)

    def _dense_gradients(
        self, images: Any, free: Any, upstream: Any, of_images: bool, of_free: bool
    ) -> tuple[Any, Any]:
        kernel = expand_kernel(free, self.pattern)
        images_gradient = kernel_gradient = None
        if self.dilation == (1, 1):
            options = {"strides": [1, *self.strides, 1], "padding": self.padding.upper()}
            if of_images:
                images_gradient = tf.raw_ops.Conv2DBackpropInput(
                    input_sizes=tf.shape(images), filter=kernel, out_backprop=upstream, **options
                )
            if of_free:
                kernel_gradient = tf.raw_ops.Conv2DBackpropFilter(
                    input=images, filter_sizes=tf.shape(kernel), out_backprop=upstream, **options
                )
        else:  # off a GPU those know no dilation, and `tf.nn.convolution` finds a way around
            with tf.GradientTape() as tape:
                tape.watch((images, kernel))
                output = self._dense(images, kernel)
            images_gradient, kernel_gradient = tape.gradient(output, (images, kernel), upstream)
        if kernel_gradient is None:
            return images_gradient, None
        flat = tf.reshape(kernel_gradient, (self.pattern.index.size, -1))
        groups = tf.matmul(tf.constant(self.pattern.matrix.T, flat.dtype), flat)
        return images_gradient, tf.reshape(groups, free.shape)

    def _window(self, images: Any) -> Window:
        before, output = [], []
        for axis in (0, 1):
            size = images.shape[axis + 1] if images.shape[axis + 1] is not None else tf.shape(images)[axis + 1]
            stride, extent = self.strides[axis], self._extent(axis)
            if self.padding == "same":
                length = (size + stride - 1) // stride
                missing = (length - 1) * stride + extent - size
                missing = max(missing, 0) if isinstance(missing, int) else tf.maximum(missing, 0)
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
        sizes = [images.shape[axis] if images.shape[axis] is not None else tf.shape(images)[axis] for axis in (1, 2)]
        return Window((before[0], before[1]), (sizes[0], sizes[1]), (1, 1), self.dilation)

    def _extent(self, axis: int) -> int:
        return (self.pattern.shape[axis] - 1) * self.dilation[axis] + 1


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
