"""A tied convolution by the compiled operations of `tiedexp.native`, which never write a sum image to memory.

They serve any factoring, strides, dilation and groups of channels, in float32 and float64, on CPUs. XLA does not know
them, nor does a machine without a C++ compiler: `can_run` says so, and the expanded kernel takes their place.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf
from tensorflow.python.framework import ops
from tensorflow.python.ops import control_flow_util

from tiedexp.layers.factored import PixelSums, SumImages
from tiedexp.native.library import load_library
from tiedexp.patterns.factoring import as_terms
from tiedexp.processor import count_cores

DTYPES = ("float32", "float64")


def is_available(dtype: Any) -> bool:
    """Whether there are operations for a dtype and the devices TensorFlow sees; compiles them the first time."""
    if tf.as_dtype(dtype).name not in DTYPES or tf.config.list_physical_devices("GPU"):
        return False
    return _load() is not None


def can_run(dtype: Any) -> bool:
    """Whether the graph that is being built may contain them."""
    return not control_flow_util.GraphOrParentsInXlaContext(ops.get_default_graph()) and is_available(dtype)


class NativeSums(SumImages):
    """The sum images of one tensor, made where they are read."""

    def convolve(self, weights: Any) -> Any:
        def compute(image: Any, weights: Any) -> Any:
            output = _load().tiedexp_convolve(image, weights, self._place(), **self._attributes())
            rows, cols = (size if isinstance(size, int) else None for size in self.window.output_size)
            return tf.ensure_shape(output, (image.shape[0], rows, cols, weights.shape[-1]))

        return self._differentiable(compute, PixelSums.convolve, weights)

    def correlate(self, other: Any) -> Any:
        def compute(image: Any, other: Any) -> Any:
            gradient = _load().tiedexp_correlate(image, other, self._place(), **self._attributes())
            shape = len(self.factoring.taps), image.shape[-1] // self.groups, other.shape[-1]
            return tf.ensure_shape(gradient, shape)

        return self._differentiable(compute, PixelSums.correlate, other)

    def _differentiable(
        self, compute: Callable[[Any, Any], Any], reference: Callable[[PixelSums, Any], Any], other: Any
    ) -> Any:
        """What is computed, with the gradient of a reference for the same, which second-order gradients need."""

        @tf.custom_gradient
        def run(image: Any, other: Any) -> tuple[Any, Callable[[Any], Any]]:
            def grad(upstream: Any) -> Any:
                with tf.GradientTape() as tape:
                    tape.watch((image, other))
                    result = reference(PixelSums(self.factoring, image, self.window, self.groups), other)
                return tape.gradient(result, (image, other), upstream)

            return compute(image, other), grad

        return run(self.image, other)

    def _place(self) -> Any:
        """(above, left, rows, cols): zeros around the input, and the size of the output."""
        numbers = (*self.window.padding, *self.window.output_size)
        if all(isinstance(number, int) for number in numbers):
            return tf.constant(numbers, tf.int32)
        return tf.stack([tf.cast(number, tf.int32) for number in numbers])

    def _attributes(self) -> dict[str, list[int]]:
        """The factoring as lists of whole numbers, in the order in which operations.cc reads them."""
        down, across = self.window.dilation
        sums: list[int] = []
        for image in self.factoring.images:
            terms = as_terms(image)
            sums.append(len(terms))
            for term in terms:
                sums += [term.image, term.row * down, term.col * across, term.sign]
        taps = [number for tap in self.factoring.taps for number in (tap.image, tap.row * down, tap.col * across)]
        rows, cols = (
            (size - 1) * rate + 1 for size, rate in zip(self.factoring.shape, self.window.dilation, strict=True)
        )
        threads = tf.config.threading.get_intra_op_parallelism_threads() or count_cores()
        return {"sums": sums, "taps": taps, "sizes": [rows, cols, *self.window.strides, self.groups, threads]}


def _load() -> Any:
    """The operations; None where there are none."""
    return load_library().operations
