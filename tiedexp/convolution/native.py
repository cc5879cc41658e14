"""A tied convolution by the compiled operations of `tiedexp.convolution.cpp`, which never write a sum to memory.

They compute any factoring, strides, dilation and channel groups, in float32 and float64, on CPUs. XLA and programs that
load an exported model do not know them, and some machines have no C++ compiler. `can_run` tells where they can run;
elsewhere the kernel is expanded.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.python.framework import ops
from tensorflow.python.ops import control_flow_util
from tensorflow.python.saved_model import save_context

from tiedexp.convolution.cpp.library import load_library
from tiedexp.convolution.expanded import ExpandedConvolution
from tiedexp.convolution.factoring import Factoring, Tap, Term
from tiedexp.host import count_cores

DTYPES = ("float32", "float64")
MAX_THREADS = 1024  # the most that the operations accept
# Packages that trace a model in order to export it to other programs.
EXPORTERS = ("keras.src.export.", "keras.src.backend.tensorflow.export", "tensorflow.lite.python.", "tf2onnx.")
UNSAVEABLE = (
    "it computes a tied convolution with operations compiled for this machine, which no other program can load. "
    "Pass the model or the tf.function rather than a concrete function, or use implementation='expand'"
)


def is_available(dtype: Any) -> bool:
    """Whether the operations support a dtype and the devices that TensorFlow sees; compiles them the first time."""
    if tf.as_dtype(dtype).name not in DTYPES or tf.config.get_visible_devices("GPU"):
        return False
    return _load() is not None


def count_threads() -> int:
    """The number of threads that compute an operation."""
    return min(tf.config.threading.get_intra_op_parallelism_threads() or count_cores(), MAX_THREADS)


def can_run(dtype: Any) -> bool:
    """Whether the graph that is being built may contain the operations, for a dtype."""
    graph = ops.get_default_graph()
    if control_flow_util.GraphOrParentsInXlaContext(graph) or (graph.building_function and _is_exporting()):
        return False
    return is_available(dtype)


def _is_exporting() -> bool:
    """Whether the graph is traced for an export: with most exporters, only the call stack tells."""
    if save_context.in_save_context():
        return True
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if frame.f_globals.get("__name__", "").startswith(EXPORTERS):
            return True
        frame = frame.f_back
    return False


@dataclass(frozen=True)
class Window:
    """Where a convolution reads its input. Sizes are in pixels: whole numbers or scalar tensors.

    Args:
        padding: zeros (above, left); negative if the first rows or columns are not read.
        output_size: (rows, cols) of the output.
        strides: (down, across).
        dilation: (down, across), the distance between neighbouring cells of the kernel.
    """

    padding: tuple[Any, Any]
    output_size: tuple[Any, Any]
    strides: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)


@dataclass(frozen=True)
class NativeConvolution:
    """A convolution of images (batch, rows, cols, channels) with the weights of a factoring's taps.

    With channel groups, the filters of a group are next to each other and read only the channels of that group.
    """

    factoring: Factoring
    window: Window
    channel_groups: int = 1

    def __call__(self, images: Any, weights: Any) -> Any:
        """Weights (taps, channels // channel_groups, filters) to the output, (batch, *output_size, filters)."""
        output = _load().tiedexp_convolve(images, weights, self._position(), **self._attributes())
        rows, cols = (size if isinstance(size, int) else None for size in self.window.output_size)
        return _mark(tf.ensure_shape(output, (images.shape[0], rows, cols, weights.shape[-1])))

    def weight_gradient(self, images: Any, upstream: Any) -> Any:
        """The gradient with respect to the weights, given `upstream`, that of the output."""
        gradient = _load().tiedexp_correlate(images, upstream, self._position(), **self._attributes())
        shape = len(self.factoring.taps), images.shape[-1] // self.channel_groups, upstream.shape[-1]
        return _mark(tf.ensure_shape(gradient, shape))

    def _position(self) -> Any:
        """(above, left, rows, cols): zeros around the input, and the size of the output."""
        numbers = (*self.window.padding, *self.window.output_size)
        if all(isinstance(number, int) for number in numbers):
            return tf.constant(numbers, tf.int32)
        return tf.stack([tf.cast(number, tf.int32) for number in numbers])

    def _attributes(self) -> dict[str, list[int]]:
        """The factoring as lists of whole numbers, in the order in which operations.cc reads them."""
        down, across = self.window.dilation
        sums: list[int] = []
        for terms in self.factoring.sums:
            sums.append(len(terms))
            for term in terms:
                sums += [term.source, term.row * down, term.col * across, term.sign]
        taps = [number for tap in self.factoring.taps for number in (tap.source, tap.row * down, tap.col * across)]
        rows, cols = (
            (size - 1) * rate + 1 for size, rate in zip(self.factoring.shape, self.window.dilation, strict=True)
        )
        sizes = [rows, cols, *self.window.strides, self.channel_groups, count_threads()]
        return {"sums": sums, "taps": taps, "sizes": sizes}


def _mark(result: Any) -> Any:
    """The result, marked: saving a function that has it in its graph fails with a message that says why."""
    graph = ops.get_default_graph()
    if graph.building_function:
        graph.mark_as_unsaveable(UNSAVEABLE)
    return result


def _load() -> Any:
    """The operations; None if there are none."""
    return load_library().operations


# The gradients of the operations, for second-order gradients and forward-mode differentiation. Both operations are
# linear in each of their inputs, so each computes a gradient of the other. Only the input gradient needs another
# convolution: a dense one, with the kernel that the taps stand for.


@tf.RegisterGradient("TiedexpConvolve")
def _differentiate_convolve(operation: Any, upstream: Any) -> tuple[Any, Any, None]:
    images, weights, window = operation.inputs
    attributes = _read_attributes(operation)
    of_weights = _load().tiedexp_correlate(images, upstream, window, **attributes)
    return _input_gradient(images, weights, upstream, window, attributes), of_weights, None


@tf.RegisterGradient("TiedexpCorrelate")
def _differentiate_correlate(operation: Any, upstream: Any) -> tuple[Any, Any, None]:
    images, other, window = operation.inputs
    attributes = _read_attributes(operation)
    of_other = _load().tiedexp_convolve(images, upstream, window, **attributes)
    return _input_gradient(images, upstream, other, window, attributes), of_other, None


def _read_attributes(operation: Any) -> dict[str, list[int]]:
    return {name: list(operation.get_attr(name)) for name in ("sums", "taps", "sizes")}


def _input_gradient(images: Any, weights: Any, upstream: Any, window: Any, attributes: dict[str, list[int]]) -> Any:
    """The gradient of TiedexpConvolve with respect to the images, given that of its output."""
    rows, cols, down, across, channel_groups, _ = attributes["sizes"]
    taps, channels, filters = len(attributes["taps"]) // 3, images.shape[-1] // channel_groups, upstream.shape[-1]
    footprints = np.stack(_read_factoring(attributes).footprints(), -1).reshape(-1, taps)  # (pixels, taps)
    flat = tf.reshape(weights, (taps, channels * filters))
    kernel = tf.reshape(tf.matmul(tf.constant(footprints, flat.dtype), flat), (rows, cols, channels, filters))
    with tf.GradientTape() as tape:
        tape.watch(images)
        read = _cut(images, window, (rows, cols), (down, across))
    of_read, _ = ExpandedConvolution((down, across), (1, 1), "valid").gradients(read, kernel, upstream, of_kernel=False)
    return tape.gradient(read, images, of_read)


def _read_factoring(attributes: dict[str, list[int]]) -> Factoring:
    """The factoring in pixels, dilation included, in which each tap has a free weight of its own."""
    numbers = iter(attributes["sums"])
    sums = [tuple(Term(*(next(numbers) for _ in range(4))) for _ in range(count)) for count in numbers]
    taps = tuple(Tap(*attributes["taps"][start : start + 3]) for start in range(0, len(attributes["taps"]), 3))
    rows, cols, *_ = attributes["sizes"]
    return Factoring((rows, cols), tuple(sums), taps, np.eye(len(taps)))


def _cut(images: Any, window: Any, extent: Sequence[int], strides: Sequence[int]) -> Any:
    """The pixels that the convolution reads, with zeros for those outside the images."""
    inside, padding = [slice(None)], [[0, 0]]
    for axis in (0, 1):
        before, length = window[axis], (window[axis + 2] - 1) * strides[axis] + extent[axis]
        after = length - before - tf.shape(images)[axis + 1]
        skipped = tf.maximum(-before, 0)
        padding.append([tf.maximum(before, 0), tf.maximum(after, 0)])
        inside.append(slice(skipped, skipped + length))
    return tf.pad(images, [*padding, [0, 0]])[tuple(inside)]
