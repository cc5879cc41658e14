"""The convolution with an expanded kernel and its gradients, each by TensorFlow's fastest operation.

The difficulty is channel groups. Keras compiles their convolution with XLA, because TensorFlow's own gradients exist
only on some devices. Where they exist, they take a hundredth of the time; elsewhere each group is convolved on its own.
Groups of one channel are a depthwise convolution, which has operations of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import tensorflow as tf


@dataclass(frozen=True)
class ExpandedConvolution:
    """A convolution of images (batch, rows, cols, channels) with kernels.

    A kernel is (rows, cols, channels // channel_groups, filters); it determines the number of channel groups.

    Args:
        strides, dilation: (down, across).
        padding: "valid" or "same".
    """

    strides: tuple[int, int]
    dilation: tuple[int, int]
    padding: str

    def __call__(self, images: Any, kernel: Any) -> Any:
        """The output."""
        # Without `data_format` there are no second-order gradients outside of a graph.
        options = {"padding": self.padding.upper(), "dilations": self.dilation, "data_format": "NHWC"}
        if self._is_depthwise(images, kernel):
            return tf.nn.depthwise_conv2d(images, _by_channel(kernel, images), (1, *self.strides, 1), **options)
        output = tf.nn.convolution(images, kernel, self.strides, **options)
        if not self._has_groups(images, kernel):
            return output
        # With channel groups and an empty batch, oneDNN returns the shape of the input.
        return tf.reshape(output, (find_size(images, 0), *self._output_size(images, kernel), kernel.shape[3]))

    def gradients(
        self, images: Any, kernel: Any, upstream: Any, of_images: bool = True, of_kernel: bool = True
    ) -> tuple[Any, Any]:
        """The gradients with respect to images and kernel, given that of the output; one not asked for can be None."""
        if images.dtype == tf.bfloat16 and self._has_groups(images, kernel):
            # oneDNN leaves the gradient of a cell that sees only padding uninitialized.
            images, kernel, upstream = (tf.cast(tensor, tf.float32) for tensor in (images, kernel, upstream))
            found = self.gradients(images, kernel, upstream, of_images, of_kernel)
            of_input, of_filter = (None if one is None else tf.cast(one, tf.bfloat16) for one in found)
            return of_input, of_filter
        images_gradient, kernel_gradient = self._compute_gradients(images, kernel, upstream, of_images, of_kernel)
        if of_kernel and not images.shape[0]:  # TensorFlow leaves a depthwise kernel's uninitialized for no images
            kernel_gradient = tf.where(tf.shape(images)[0] > 0, kernel_gradient, tf.zeros_like(kernel_gradient))
        return images_gradient, kernel_gradient

    def _compute_gradients(
        self, images: Any, kernel: Any, upstream: Any, of_images: bool, of_kernel: bool
    ) -> tuple[Any, Any]:
        depthwise = self._is_depthwise(images, kernel)
        # On a CPU the operations have no dilation; `tf.nn` works around that.
        if self.dilation != (1, 1) or not self._has_gradients(images, kernel):
            return self._differentiate(images, kernel, upstream)
        raw, shape = tf.raw_ops, tf.shape(kernel)
        by_input, by_filter = raw.Conv2DBackpropInput, raw.Conv2DBackpropFilter
        if depthwise:
            by_input, by_filter = raw.DepthwiseConv2dNativeBackpropInput, raw.DepthwiseConv2dNativeBackpropFilter
            kernel = _by_channel(kernel, images)
        options = {"strides": [1, *self.strides, 1], "padding": self.padding.upper(), "out_backprop": upstream}
        images_gradient = kernel_gradient = None
        if of_images:
            images_gradient = by_input(input_sizes=tf.shape(images), filter=kernel, **options)
        if of_kernel:
            kernel_gradient = tf.reshape(by_filter(input=images, filter_sizes=tf.shape(kernel), **options), shape)
        return images_gradient, kernel_gradient

    def _differentiate(self, images: Any, kernel: Any, upstream: Any) -> tuple[Any, Any]:
        with tf.GradientTape() as tape:
            tape.watch((images, kernel))
            if self._has_gradients(images, kernel):
                output = self(images, kernel)
            else:
                parts = [tf.split(tensor, images.shape[-1] // kernel.shape[2], -1) for tensor in (images, kernel)]
                output = tf.concat([self(*part) for part in zip(*parts, strict=True)], -1)
        gradients: tuple[Any, Any] = tape.gradient(output, (images, kernel), upstream)
        return gradients

    def _output_size(self, images: Any, kernel: Any) -> list[Any]:
        """(rows, cols): numbers, or scalar tensors."""
        return [
            find_output_length(
                find_size(images, axis + 1),
                (kernel.shape[axis] - 1) * self.dilation[axis] + 1,
                self.strides[axis],
                self.padding,
            )
            for axis in (0, 1)
        ]

    def _has_groups(self, images: Any, kernel: Any) -> bool:
        """Whether there are channel groups that depthwise operations do not convolve."""
        return bool(images.shape[-1] != kernel.shape[2]) and not self._is_depthwise(images, kernel)

    def _is_depthwise(self, images: Any, kernel: Any) -> bool:
        """Whether depthwise operations can compute it."""
        if kernel.shape[2] != 1 or images.shape[-1] == 1 or self.strides[0] != self.strides[1]:
            return False
        return self.strides == (1, 1) or self.dilation == (1, 1)

    def _has_gradients(self, images: Any, kernel: Any) -> bool:
        """Whether TensorFlow's operations have gradients here."""
        return not self._has_groups(images, kernel) or _has_gradients_of_groups(images.dtype)


def find_size(tensor: Any, axis: int) -> Any:
    """The length of an axis: a number if it is known, otherwise a scalar tensor."""
    return tensor.shape[axis] if tensor.shape[axis] is not None else tf.shape(tensor)[axis]


def find_output_length(size: Any, extent: int, stride: int, padding: str) -> Any:
    """Pixels of the output along an axis, of the type of `size`.

    Args:
        size: pixels of the input, a number or a scalar tensor.
        extent: pixels that the kernel covers, dilation included.
        stride: in pixels.
        padding: "valid" or "same".
    """
    if padding == "same":
        return (size + stride - 1) // stride
    return (size - extent) // stride + 1


def _by_channel(kernel: Any, images: Any) -> Any:
    """A kernel of one channel per group, reshaped for depthwise operations: (rows, cols, channels, multiplier)."""
    rows, cols, _, filters = kernel.shape
    return tf.reshape(kernel, (rows, cols, images.shape[-1], filters // images.shape[-1]))


@lru_cache
def _has_gradients_of_groups(dtype: Any) -> bool:
    """Whether the device has gradients for channel groups in a dtype: found by trying, as CPUs need oneDNN."""
    ones = np.ones((1, 2, 2, 4))
    with tf.init_scope():  # runs at once, outside any graph that is being built
        try:
            tf.raw_ops.Conv2DBackpropInput(
                input_sizes=ones.shape,
                filter=tf.constant(ones[:1, :1, :2], dtype),
                out_backprop=tf.constant(ones, dtype),
                strides=[1, 1, 1, 1],
                padding="VALID",
            )
        except (tf.errors.InvalidArgumentError, tf.errors.UnimplementedError):
            return False
    return True
