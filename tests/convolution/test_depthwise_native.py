"""The compiled depthwise convolution, and TiedDepthwiseConv2D computed with it.

tests/layers/test_channel_groups.py tests it as groups of one channel and one filter, with second-order gradients.
"""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tiedexp.convolution import native
from tiedexp.convolution.choosing import EXPAND, NATIVE, Choice, find_factoring
from tiedexp.convolution.cpp.compiler import find_compiler
from tiedexp.convolution.tied import TiedConvolution
from tiedexp.errors import PatternError
from tiedexp.layers.tied_depthwise_conv import TiedDepthwiseConv2D
from tiedexp.patterns.grid import Pattern

pytestmark = pytest.mark.skipif(find_compiler() is None, reason="needs a C++ compiler")

ALL = Choice(NATIVE, NATIVE, NATIVE)
PATTERNS = {
    "block": Pattern.preset("block", 5),
    "point": Pattern.preset("point", 7),
    "signed": Pattern.parse("AB-A/.CC/-BBA/C.-C"),
}
# (batch, rows, cols, channels)
SIZES = {
    "several rows": (2, 33, 40, 48),
    "one row at a time": (1, 6, 200, 96),
    "several images, the last ones fewer": (11, 4, 4, 32),
    "some channels at a time": (3, 20, 20, 130),
    "a vector that is not full": (3, 9, 10, 7),
    "fewer items than threads": (1, 2, 2, 3),
}
OPTIONS = [
    {"padding": "same"},
    {"padding": "valid"},
    {"padding": "same", "strides": (2, 2)},
    {"padding": "valid", "strides": (3, 1)},
    {"padding": "same", "dilation": (2, 2)},
    {"padding": "valid", "dilation": (1, 2)},
]


def run(
    pattern: Pattern, size: tuple[int, ...], choice: Choice = ALL, dtype: str = "float64", **options: object
) -> list[np.ndarray]:
    """Output and both gradients."""
    channels = size[-1]
    rng = np.random.default_rng(0)
    images = tf.constant(rng.normal(size=size), dtype)
    free = tf.constant(rng.normal(size=(pattern.num_groups, 1, channels)), dtype)
    convolution = TiedConvolution(pattern, choice, **{"padding": "same", **options})  # type: ignore[arg-type]
    with tf.GradientTape() as tape:
        tape.watch((images, free))
        output = convolution(images, free)
    upstream = tf.constant(rng.normal(size=output.shape), dtype)
    return [tensor.numpy() for tensor in (output, *tape.gradient(output, (images, free), upstream))]


def assert_close(ours: list[np.ndarray], theirs: list[np.ndarray], tolerance: float) -> None:
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * np.abs(b).max())


def test_both_kinds_of_factorings_are_tested() -> None:
    sums = {name: bool(find_factoring(pattern, depthwise=True).sums) for name, pattern in PATTERNS.items()}
    assert sums == {"block": True, "point": False, "signed": False}


@pytest.mark.parametrize("size", SIZES.values(), ids=list(SIZES))
@pytest.mark.parametrize("name", PATTERNS)
def test_equals_the_dense_convolution(name: str, size: tuple[int, ...]) -> None:
    for dtype, tolerance in (("float64", 1e-12), ("float32", 1e-5)):
        assert_close(run(PATTERNS[name], size, dtype=dtype), run(PATTERNS[name], size, Choice()), tolerance)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("name", PATTERNS)
def test_options(name: str, options: dict[str, object], numpy_depthwise_conv: Callable[..., np.ndarray]) -> None:
    pattern, size = PATTERNS[name], (2, 13, 15, 19)
    choice = ALL if "strides" not in options else Choice(NATIVE, EXPAND, NATIVE)
    ours = run(pattern, size, choice, **options)
    assert_close(ours, run(pattern, size, Choice(), **options), 1e-12)
    rng = np.random.default_rng(0)
    images, free = rng.normal(size=size), rng.normal(size=(pattern.num_groups, size[-1], 1))
    np.testing.assert_allclose(ours[0], numpy_depthwise_conv(images, pattern.expand(free), **options), atol=1e-11)


@settings(max_examples=40, deadline=None)
@given(
    name=st.sampled_from(list(PATTERNS)),
    size=st.tuples(st.integers(1, 5), st.integers(1, 20), st.integers(1, 20), st.integers(2, 70)),
)
def test_any_size(name: str, size: tuple[int, ...]) -> None:
    assert_close(run(PATTERNS[name], size), run(PATTERNS[name], size, Choice()), 1e-12)


@pytest.mark.parametrize("threads", [1, 2, 3, 7])
def test_any_number_of_threads(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tf.config.threading, "get_intra_op_parallelism_threads", lambda: threads)
    for pattern in PATTERNS.values():
        assert_close(run(pattern, (5, 12, 11, 40)), run(pattern, (5, 12, 11, 40), Choice()), 1e-12)


def test_the_same_to_the_last_bit() -> None:
    for pattern in PATTERNS.values():
        first, *others = (run(pattern, (9, 14, 14, 100), dtype="float32") for _ in range(5))
        for other in others:
            for a, b in zip(first, other, strict=True):
                np.testing.assert_array_equal(a, b)


def test_an_empty_batch() -> None:
    output, of_images, of_free = run(PATTERNS["block"], (0, 8, 8, 3))
    assert output.shape == of_images.shape == (0, 8, 8, 3)
    assert not of_free.any()


# The layer


def build(shape: tuple[int, ...] = (32, 28, 28, 64), pattern: str = "block", **options: object) -> TiedDepthwiseConv2D:
    layer = TiedDepthwiseConv2D(pattern, 5, **{"padding": "same", **options})
    layer.build(shape)
    return layer


def step(layer: keras.layers.Layer, images: tf.Tensor) -> list[tf.Tensor]:
    with tf.GradientTape() as tape:
        tape.watch(images)
        output = layer(images)
        loss = tf.reduce_sum(tf.sin(output) ** 2)
    return [output, *tape.gradient(loss, [images, *[variable.value for variable in layer.trainable_variables]])]


def operations_of(layer: TiedDepthwiseConv2D, dtype: str = "float32", jit_compile: bool = False) -> set[str]:
    """Compiled operations in the graph of a training step."""
    run = tf.function(lambda images: step(layer, images), jit_compile=jit_compile)
    graph = run.get_concrete_function(tf.TensorSpec((2, 9, 9, layer.free_kernel.shape[1]), dtype)).graph
    return {operation.type for operation in graph.get_operations() if operation.type.startswith("Tiedexp")}


@pytest.mark.parametrize("choice", [ALL, Choice(NATIVE, EXPAND, EXPAND), Choice(EXPAND, NATIVE, NATIVE)], ids=str)
@pytest.mark.parametrize("gradient", ["sum", "mean"])
def test_the_layer(choice: Choice, gradient: str) -> None:
    images = tf.random.stateless_normal((3, 9, 8, 20), (0, 1), dtype="float64")
    options = {"gradient": gradient, "activation": "relu", "bias_initializer": "normal", "dtype": "float64"}
    ours, theirs = (
        build(images.shape, implementation=implementation, **options) for implementation in (choice.as_dict(), "expand")
    )
    assert ours.choice == choice
    ours.set_weights(theirs.get_weights())
    assert_close(step(ours, images), step(theirs, images), 1e-12)


def test_second_order_gradients() -> None:
    images = tf.random.stateless_normal((2, 6, 7, 5), (0, 1), dtype="float64")
    results = []
    for implementation in (ALL.as_dict(), "expand"):
        layer = build(images.shape, implementation=implementation, dtype="float64")
        layer.set_weights([np.random.default_rng(0).normal(size=weight.shape) for weight in layer.weights])
        with tf.GradientTape() as tape:
            tape.watch(images)
            penalty = tf.add_n([tf.reduce_sum(tensor**2) for tensor in step(layer, images)[1:]])
        results.append(tape.gradient(penalty, [images, *[weight.value for weight in layer.trainable_variables]]))
    assert_close(*results, 1e-11)


def test_channels_first() -> None:
    images = tf.random.stateless_normal((3, 9, 8, 20), (0, 1))
    last = build(images.shape, implementation=ALL.as_dict())
    first = build((3, 20, 9, 8), implementation=ALL.as_dict(), data_format="channels_first")
    first.set_weights(last.get_weights())
    output, of_images, *of_weights = step(first, tf.transpose(images, (0, 3, 1, 2)))
    back = [tf.transpose(tensor, (0, 2, 3, 1)) for tensor in (output, of_images)]
    assert_close([*back, *of_weights], step(last, images), 1e-5)


def test_any_batch_and_image_size() -> None:
    layer = build((None, None, None, 20), implementation=ALL.as_dict())
    theirs = build((None, None, None, 20), implementation="expand")
    theirs.set_weights(layer.get_weights())
    run = tf.function(lambda images: step(layer, images), input_signature=[tf.TensorSpec((None, None, None, 20))])
    for shape in ((5, 12, 9, 20), (1, 3, 2, 20), (2, 30, 7, 20)):
        images = tf.random.stateless_normal(shape, (0, 1))
        assert_close(run(images), step(theirs, images), 1e-5)


def test_what_is_chosen() -> None:
    """TensorFlow's weight gradient is slow except for 3x3 kernels."""
    assert build().choice == Choice(EXPAND, EXPAND, NATIVE)
    assert operations_of(build()) == {"TiedexpCorrelate"}
    assert build(strides=2).choice == Choice(EXPAND, EXPAND, NATIVE)
    assert build(dilation_rate=2).choice == build(implementation="factored").choice == ALL
    small = TiedDepthwiseConv2D("point", 3)
    small.build((32, 28, 28, 64))
    assert small.choice.is_expanded
    assert build((1, 8, 8, 4)).choice.is_expanded
    assert build(implementation="expand").choice.is_expanded
    assert build(pattern="full").choice.is_expanded


@pytest.mark.parametrize("options", [{"depth_multiplier": 2}, {"strides": 2, "dilation_rate": 2}], ids=str)
def test_what_is_always_expanded(options: dict[str, object]) -> None:
    layer = build(implementation=ALL.as_dict(), **options)
    assert layer.choice.is_expanded
    images = tf.random.stateless_normal((2, 9, 9, 64), (0, 1))
    np.testing.assert_allclose(layer(images), layer.to_depthwise_conv2d()(images), atol=1e-5)


def test_the_kernel_is_expanded_where_it_cannot_run(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = build(implementation=ALL.as_dict())
    assert operations_of(layer, jit_compile=True) == set()
    assert operations_of(build(implementation=ALL.as_dict(), dtype="float16"), "float16") == set()
    images = tf.random.stateless_normal((2, 9, 9, 64), (0, 1))
    expected = step(layer, images)
    assert_close(tf.function(lambda images: step(layer, images), jit_compile=True)(images), expected, 1e-5)
    monkeypatch.setattr(native, "_load", lambda: None)
    assert operations_of(layer) == set()
    assert_close(step(layer, images), expected, 1e-5)
    assert build().choice.is_expanded


def test_config_keeps_the_choice() -> None:
    layer = TiedDepthwiseConv2D("block", 5, implementation=ALL.as_dict())
    again = TiedDepthwiseConv2D.from_config(layer.get_config())
    again.build((None, 9, 9, 3))
    assert again.choice == ALL
    with pytest.raises(PatternError, match="weight_gradient is 'cells'"):
        TiedDepthwiseConv2D("block", 5, implementation={"weight_gradient": "cells"})
