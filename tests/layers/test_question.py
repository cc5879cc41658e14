"""The two hand-written layers of the question, rewritten, and the patterns that replace them: bitwise equal."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from tiedexp.layers.tied_conv import TiedConv2D
from tiedexp.patterns.grid import Pattern


class DoubledBorderConv(keras.layers.Layer):
    """A 5x5 convolution of a stored 3x3 kernel whose outer rows and columns are taken twice."""

    def __init__(self, filters: int):
        super().__init__()
        self.filters = filters

    def build(self, input_shape: tuple[int, ...]) -> None:
        self.small = self.add_weight(shape=(3, 3, input_shape[-1], self.filters), initializer="glorot_uniform")

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        top, middle, bottom = tf.unstack(self.small, axis=0)
        tall = tf.stack([top, top, middle, bottom, bottom], axis=0)  # (5, 3, in, filters)
        wide = tf.concat([tall[:, :1], tall[:, :2], tall[:, 2:], tall[:, 2:]], axis=1)  # (5, 5, in, filters)
        return tf.nn.conv2d(inputs, wide, strides=1, padding="VALID")


class RepeatedKernelConv(keras.layers.Layer):
    """A convolution of a small kernel repeated `repeats` times down and across."""

    def __init__(self, filters: int, shape: list[int], repeats: list[int]):
        super().__init__()
        self.filters, self.shape, self.repeats = filters, shape, repeats

    def build(self, input_shape: tuple[int, ...]) -> None:
        self.small = self.add_weight(shape=(*self.shape, input_shape[-1], self.filters), initializer="glorot_uniform")

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return tf.nn.conv2d(inputs, tf.tile(self.small, [*self.repeats, 1, 1]), strides=1, padding="VALID")


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(4, 28, 28, 3)).astype("float32")


@pytest.mark.parametrize("pattern", ["block", "AABCC/AABCC/DDEFF/GGHII/GGHII"])
def test_answer_1_is_block(pattern: str, images: np.ndarray) -> None:
    theirs = DoubledBorderConv(10)
    expected = theirs(images).numpy()
    ours = TiedConv2D(10, pattern, kernel_size=5, use_bias=False)
    ours.build(images.shape)
    ours.free_kernel.assign(theirs.small.numpy().reshape(9, 3, 10))
    np.testing.assert_array_equal(ours(images), expected)
    assert ours.count_params() == theirs.count_params() == 9 * 3 * 10


@pytest.mark.parametrize(("shape", "repeats"), [([1, 5], [5, 1]), ([5, 1], [1, 5]), ([2, 2], [2, 2]), ([3, 2], [1, 3])])
def test_answer_2_is_tile(shape: list[int], repeats: list[int], images: np.ndarray) -> None:
    theirs = RepeatedKernelConv(10, shape, repeats)
    expected = theirs(images).numpy()
    ours = TiedConv2D(10, Pattern.tile(shape, repeats), use_bias=False, implementation="expand")
    ours.build(images.shape)
    ours.free_kernel.assign(theirs.small.numpy().reshape(-1, 3, 10))
    np.testing.assert_array_equal(ours(images), expected)
    assert ours.count_params() == theirs.count_params()


def test_answer_2_is_the_column_preset() -> None:
    assert Pattern.tile((1, 5), (5, 1)) == Pattern.preset("column", 5)


def test_gradients_of_answer_1_agree(images: np.ndarray) -> None:
    theirs = DoubledBorderConv(10)
    ours = TiedConv2D(10, "block", 5, use_bias=False)
    ours.build(images.shape)
    theirs.build(images.shape)
    ours.free_kernel.assign(theirs.small.numpy().reshape(9, 3, 10))
    results = []
    for layer in (ours, theirs):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(layer(images) ** 2)
        results.append(tape.gradient(loss, layer.trainable_variables)[0].numpy().reshape(9, 3, 10))
    np.testing.assert_allclose(*results, rtol=1e-4, atol=1e-2)


def test_answer_1_starts_too_wide_and_block_does_not(images: np.ndarray) -> None:
    # Its variance is that of a 3x3 kernel spread over 25 cells: for white inputs 25/9 of the dense layer's.
    keras.utils.set_random_seed(0)
    shape, filters = (None, 28, 28, 3), 3000
    squares = []
    for layer in (DoubledBorderConv(filters), TiedConv2D(filters, "block", 5)):
        layer.build(shape)
        kernel = layer.small if isinstance(layer, DoubledBorderConv) else layer.free_kernel
        counts = np.array(Pattern.preset("block", 5).group_sizes)[:, None, None]
        squares.append(float((counts * kernel.numpy().reshape(9, 3, filters) ** 2).sum() / filters))
    np.testing.assert_allclose(squares[0] / squares[1], 25 / 9, rtol=0.05)
