"""TiedConv2D with channel groups: each method against one dense convolution per group.

tests/convolution/test_tied.py and test_native.py have channel groups among their options.
"""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from tiedexp.convolution.choosing import EXPAND, NATIVE, Choice
from tiedexp.convolution.cpp.compiler import find_compiler
from tiedexp.layers.tied_conv import TiedConv2D
from tiedexp.patterns.grid import Pattern

SIGNED = Pattern.parse("AB-A/.CC/-BBA/C.-C")
CHOICES = [
    Choice(),
    Choice(NATIVE, NATIVE, NATIVE),
    Choice(NATIVE, EXPAND, EXPAND),
    Choice(EXPAND, NATIVE, EXPAND),
    Choice(EXPAND, EXPAND, NATIVE),
]
# (channels, filters, groups): groups of several channels and filters, and of one channel or filter
SIZES = [(6, 9, 3), (4, 8, 4), (8, 4, 4), (4, 4, 4)]


def build(channels: int, filters: int, groups: int, choice: Choice, **options: object) -> TiedConv2D:
    layer = TiedConv2D(filters, SIGNED, groups=groups, implementation=choice.as_dict(), padding="same", **options)
    layer.build((None, 7, 6, channels))
    rng = np.random.default_rng(0)
    layer.set_weights([rng.normal(size=weight.shape) for weight in layer.weights])
    return layer


def by_group(layer: TiedConv2D, images: tf.Tensor, free: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
    """The same output, from one dense convolution per group."""
    kernel = tf.tensordot(tf.constant(SIGNED.matrix, free.dtype), free, 1)
    kernel = tf.reshape(kernel, (*SIGNED.shape, *free.shape[1:]))
    parts = zip(tf.split(images, layer.groups, -1), tf.split(kernel, layer.groups, -1), strict=True)
    outputs = [tf.nn.convolution(part, filters, layer.strides, "SAME", "NHWC") for part, filters in parts]
    return tf.concat(outputs, -1) + bias


def penalise(layer: TiedConv2D, images: tf.Tensor, reference: bool, second: bool) -> list[tf.Tensor]:
    """The output and the gradients of a loss; with `second`, the gradients of the squares of its gradients."""
    weights = [variable.value for variable in layer.trainable_variables]
    with tf.GradientTape() as outer:
        outer.watch((images, weights))
        with tf.GradientTape() as inner:
            inner.watch((images, weights))
            output = by_group(layer, images, *weights) if reference else layer(images)
            loss = tf.reduce_sum(tf.sin(output) ** 2)
        first = inner.gradient(loss, [images, *weights])
        penalty = tf.add_n([tf.reduce_sum(gradient**2) for gradient in first])
    return outer.gradient(penalty, [images, *weights]) if second else [output, *first]


def assert_close(ours: list[tf.Tensor], theirs: list[tf.Tensor], tolerance: float) -> None:
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * np.abs(b).max())


@pytest.mark.parametrize("second", [False, True], ids=["first order", "second order"])
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("choice", CHOICES, ids=str)
def test_gradients(choice: Choice, size: tuple[int, int, int], second: bool) -> None:
    images = tf.constant(np.random.default_rng(1).normal(size=(2, 7, 6, size[0])))
    layer = build(*size, choice, dtype="float64")
    assert_close(penalise(layer, images, False, second), penalise(layer, images, True, second), 1e-11)


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("strides", [1, 2, (2, 1)], ids=str)
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("choice", CHOICES[:2], ids=str)
def test_in_a_graph(choice: Choice, size: tuple[int, int, int], strides: object, jit_compile: bool) -> None:
    images = tf.constant(np.random.default_rng(1).normal(size=(2, 7, 6, size[0])), "float32")
    layer = build(
        *size, choice if strides == 1 else Choice(choice.forward, EXPAND, choice.weight_gradient), strides=strides
    )
    run = tf.function(lambda images: penalise(layer, images, False, False), jit_compile=jit_compile)
    assert_close(run(images), penalise(layer, images, True, False), 1e-5)


@pytest.mark.parametrize("choice", CHOICES[:2], ids=str)
def test_channels_first(choice: Choice) -> None:
    first = TiedConv2D(
        9, SIGNED, groups=3, implementation=choice.as_dict(), data_format="channels_first", padding="same"
    )
    images = np.random.default_rng(1).normal(size=(2, 7, 6, 6)).astype("float32")
    output = first(images.transpose(0, 3, 1, 2))
    expected = by_group(first, tf.constant(images), first.free_kernel.value, first.bias.value)
    np.testing.assert_allclose(np.transpose(output, (0, 2, 3, 1)), expected, atol=1e-5)


@pytest.mark.parametrize("choice", CHOICES[:2], ids=str)
def test_any_batch_and_image_size(choice: Choice) -> None:
    layer = build(6, 9, 3, choice)
    signature = [tf.TensorSpec((None, None, None, 6))]
    run = tf.function(lambda images: penalise(layer, images, False, False), input_signature=signature)
    for shape in ((5, 12, 9, 6), (1, 3, 2, 6), (2, 30, 7, 6)):
        images = tf.random.stateless_normal(shape, (0, 1))
        assert_close(run(images), penalise(layer, images, True, False), 1e-5)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "mixed_float16", "mixed_bfloat16"])
def test_low_precision(dtype: str) -> None:
    images = tf.random.stateless_normal((2, 7, 6, 6), (0, 1))
    layer = build(6, 9, 3, CHOICES[1], dtype=dtype)
    expected = build(6, 9, 3, Choice())(images)
    output = layer(images)
    assert output.dtype == layer.compute_dtype
    np.testing.assert_allclose(tf.cast(output, "float32"), expected, atol=0.2 if "b" in dtype else 0.02)


@pytest.mark.parametrize("choice", CHOICES[:2], ids=str)
def test_trains_as_conv2d(choice: Choice) -> None:
    """A layer that ties nothing and a Conv2D with the same kernel have the same weights after some steps."""
    images = tf.random.stateless_normal((4, 7, 6, 6), (0, 1))
    keras.utils.set_random_seed(0)
    tied = TiedConv2D(9, "full", 3, groups=3, implementation=choice.as_dict() if choice.is_expanded else "factored")
    tied.build(images.shape)
    dense = tied.to_conv2d()
    for layer in (tied, dense):
        optimizer = keras.optimizers.SGD(0.1)
        for _ in range(3):
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean(layer(images) ** 2)
            optimizer.apply(tape.gradient(loss, layer.trainable_variables), layer.trainable_variables)
    np.testing.assert_allclose(tied.kernel, dense.kernel, atol=1e-5)


def build_large(groups: int, implementation: object) -> Choice:
    layer = TiedConv2D(64, "block", 5, groups=groups, padding="same", implementation=implementation)
    layer.build((64, 16, 16, 64))
    return layer.choice


@pytest.mark.skipif(find_compiler() is None, reason="needs a C++ compiler")
def test_what_is_chosen() -> None:
    assert build_large(2, "auto") == build_large(2, "factored") == Choice(NATIVE, NATIVE, NATIVE)
    assert build_large(32, "auto").is_expanded  # two channels per group leave the vectors empty
    assert build_large(2, "expand").is_expanded
