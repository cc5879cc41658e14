"""Times of one layer: ours in each implementation, dense convolutions, and layers written by hand."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tiedexp.bench.handwritten import build_handwritten
from tiedexp.bench.rows import Row, build_rows
from tiedexp.bench.timing import time_in_turns
from tiedexp.convolution.factoring import factor
from tiedexp.layers.tied_conv import TiedConv2D
from tiedexp.patterns.grid import Pattern

DENSE = "Conv2D"
PARTS = ("forward", "step")


@dataclass(frozen=True)
class LayerShape:
    """The sizes of a layer: images per batch, their rows and columns, input channels, and filters."""

    batch: int
    rows: int
    cols: int
    channels: int
    filters: int

    def __str__(self) -> str:
        return f"{self.batch}x{self.rows}x{self.cols}x{self.channels}->{self.filters}"


@dataclass(frozen=True)
class _Subject:
    computed: str
    parts: dict[str, Callable[[], object]]


def bench_layers(
    patterns: dict[str, Pattern], shapes: Sequence[LayerShape], *, rounds: int, dtype: str = "float32"
) -> Iterator[Row]:
    """Time each method on each pattern and shape, with "same" padding and without bias.

    Args:
        patterns: the patterns, by the names to show.
        shapes: the sizes of the layers.
        rounds: how often each method is timed; the methods of a pattern and shape take turns.
        dtype: of inputs and weights.

    Yields:
        One row per shape, pattern, part and method.
    """
    for shape in shapes:
        for name, pattern in patterns.items():
            subjects = _build_subjects(pattern, shape, dtype)
            for part in PARTS:
                timings = time_in_turns({method: subject.parts[part] for method, subject in subjects.items()}, rounds)
                computed = {method: subject.computed for method, subject in subjects.items()}
                yield from build_rows(name, pattern, str(shape), part, timings, computed, reference=DENSE)


def _build_subjects(pattern: Pattern, shape: LayerShape, dtype: str) -> dict[str, _Subject]:
    options: dict[str, Any] = {"padding": "same", "use_bias": False, "dtype": dtype}
    layers: dict[str, keras.layers.Layer] = {DENSE: keras.layers.Conv2D(shape.filters, pattern.shape, **options)}
    implementations = ("expand", "factored", "auto") if factor(pattern) else ("expand", "auto")
    for implementation in implementations:
        layers[implementation] = TiedConv2D(shape.filters, pattern, implementation=implementation, **options)
    layers["as many weights"] = keras.layers.Conv2D(shape.filters, _equal_size(pattern.num_groups), **options)
    layers.update(build_handwritten(pattern, shape.filters))

    size = (shape.batch, shape.rows, shape.cols, shape.channels)
    images = tf.random.stateless_normal(size, (0, 1), dtype=dtype)
    upstream = tf.random.stateless_normal((*size[:3], shape.filters), (0, 2), dtype=dtype)
    subjects = {}
    for method, layer in layers.items():
        layer.build(images.shape)
        subjects[method] = _Subject(_describe(layer), _build_parts(layer, images, upstream))
    if importlib.util.find_spec("torch") is not None:
        subjects["torch Conv2d"] = _build_torch(pattern, shape, images.numpy(), upstream.numpy())
    return subjects


def _describe(layer: keras.layers.Layer) -> str:
    if isinstance(layer, TiedConv2D):
        return str(layer.choice)
    kernel_size = getattr(layer, "kernel_size", None)
    return "x".join(map(str, kernel_size)) if kernel_size else ""


def _equal_size(count: int) -> tuple[int, int]:
    """The most nearly square kernel with this many cells, or one more."""
    sizes = [(side, -(-count // side)) for side in range(1, math.isqrt(count) + 1)]
    return max(size for size in sizes if size[0] * size[1] <= count + 1)


def _build_parts(layer: keras.layers.Layer, images: Any, upstream: Any) -> dict[str, Callable[[], object]]:
    @tf.function
    def forward() -> Any:
        return layer(images)

    @tf.function
    def step() -> Any:
        with tf.GradientTape() as tape:
            tape.watch(images)
            output = layer(images)
        variables = [variable.value for variable in layer.trainable_variables]
        return output, tape.gradient(output, [images, *variables], upstream)

    def wait(function: Callable[[], Any]) -> Callable[[], object]:
        # On a GPU a function returns before its values are computed, so wait for some of the last.
        return lambda: np.asarray(tf.nest.flatten(function())[-1])[..., :1]

    return {"forward": wait(forward), "step": wait(step)}


def _build_torch(
    pattern: Pattern, shape: LayerShape, images: np.ndarray[Any, Any], upstream: np.ndarray[Any, Any]
) -> _Subject:
    """PyTorch's dense convolution, with the same number of threads, in its own order of axes."""
    import torch

    torch.set_num_threads(tf.config.threading.get_intra_op_parallelism_threads() or torch.get_num_threads())
    layer = torch.nn.Conv2d(shape.channels, shape.filters, pattern.shape, padding="same", bias=False)
    inputs = torch.from_numpy(images.transpose(0, 3, 1, 2).copy()).requires_grad_()
    gradient = torch.from_numpy(upstream.transpose(0, 3, 1, 2).copy())
    layer = layer.to(inputs.dtype)

    def forward() -> object:
        with torch.no_grad():
            return layer(inputs)

    def step() -> object:
        return torch.autograd.grad(layer(inputs), [inputs, layer.weight], gradient)

    return _Subject("x".join(map(str, pattern.shape)), {"forward": forward, "step": step})
