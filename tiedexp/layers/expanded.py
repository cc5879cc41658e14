"""The convolution with an expanded kernel and its gradients, each by the operation of TensorFlow that is fastest.

Groups of channels are what this is about. Keras compiles their convolution with XLA, since TensorFlow's own gradients
for them exist on some devices only. Where they do, they take a hundredth of the time; elsewhere each group is convolved
on its own. Groups of one channel are a depthwise convolution, for which there are operations apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import tensorflow as tf

from tiedexp.layers.support import is_supported


@dataclass(frozen=True)
class ExpandedConvolution:
    """A convolution of images (batch, rows, cols, channels) with kernels (rows, cols, channels // groups, filters).

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
        return tf.nn.convolution(images, kernel, self.strides, **options)

    def gradients(
        self, images: Any, kernel: Any, upstream: Any, of_images: bool = True, of_kernel: bool = True
    ) -> tuple[Any, Any]:
        """Those with respect to images and kernel, given that of the output; None for one that is not asked for."""
        depthwise = self._is_depthwise(images, kernel)
        # Off a GPU the operations know no dilation, and `tf.nn` finds a way around.
        if self.dilation != (1, 1) or not (depthwise or self._has_gradients(images, kernel)):
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
            if self._is_depthwise(images, kernel) or self._has_gradients(images, kernel):
                output = self(images, kernel)
            else:
                parts = [tf.split(tensor, images.shape[-1] // kernel.shape[2], -1) for tensor in (images, kernel)]
                output = tf.concat([self(*part) for part in zip(*parts, strict=True)], -1)
        gradients: tuple[Any, Any] = tape.gradient(output, (images, kernel), upstream)
        return gradients

    def _is_depthwise(self, images: Any, kernel: Any) -> bool:
        """Whether there are depthwise operations for it."""
        if kernel.shape[2] != 1 or images.shape[-1] == 1 or self.strides[0] != self.strides[1]:
            return False
        return self.strides == (1, 1) or self.dilation == (1, 1)

    def _has_gradients(self, images: Any, kernel: Any) -> bool:
        """Whether TensorFlow's operations have gradients."""
        return images.shape[-1] == kernel.shape[2] or _has_gradients_of_groups(images.dtype)


def _by_channel(kernel: Any, images: Any) -> Any:
    """A kernel of one channel a group as those of the depthwise operations, (rows, cols, channels, multiplier)."""
    rows, cols, _, filters = kernel.shape
    return tf.reshape(kernel, (rows, cols, images.shape[-1], filters // images.shape[-1]))


@lru_cache
def _has_gradients_of_groups(dtype: Any) -> bool:
    """Whether the device has them for groups of channels: of CPUs those with oneDNN, and for its dtypes."""
    ones = np.ones((1, 2, 2, 4))
    return is_supported(
        lambda: tf.raw_ops.Conv2DBackpropInput(
            input_sizes=ones.shape,
            filter=tf.constant(ones[:1, :1, :2], dtype),
            out_backprop=tf.constant(ones, dtype),
            strides=[1, 1, 1, 1],
            padding="VALID",
        )
    )
