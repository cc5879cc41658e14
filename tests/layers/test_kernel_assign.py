"""`layer.kernel` in code written for standard layers, whose kernel is a variable."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from tiedexp.layers.tied_conv import TiedConv2D
from tiedexp.layers.tied_depthwise_conv import TiedDepthwiseConv2D
from tiedexp.patterns.grid import Pattern

GRID = "A -A B/. B C"


def build(kind: str) -> keras.layers.Layer:
    layer = TiedConv2D(4, GRID, name="tied") if kind == "conv" else TiedDepthwiseConv2D(GRID, name="tied")
    layer.build((None, 6, 7, 3))
    return layer


def draw_tied(layer: keras.layers.Layer) -> np.ndarray:
    free = np.random.default_rng(0).normal(size=tuple(layer.free_kernel.shape))
    cells = Pattern.parse(GRID).matrix @ free.reshape(len(free), -1)
    return cells.reshape(tuple(layer.kernel.shape)).astype("float32")


@pytest.mark.parametrize("kind", ["conv", "depthwise"])
@pytest.mark.parametrize("convert", [np.asarray, tf.constant, lambda value: value.astype("float64"), keras.Variable])
def test_assign_sets_a_tied_kernel(kind, convert):
    layer = build(kind)
    value = draw_tied(layer)
    layer.kernel.assign(convert(value))
    np.testing.assert_array_equal(layer.kernel, value)
    images = np.random.default_rng(1).normal(size=(2, 6, 7, 3)).astype("float32")
    dense = layer.to_conv2d() if kind == "conv" else layer.to_depthwise_conv2d()
    dense.kernel.assign(value)
    np.testing.assert_allclose(layer(images), dense(images), atol=1e-5)


@pytest.mark.parametrize("kind", ["conv", "depthwise"])
@pytest.mark.parametrize("cell", [(0, 1), (1, 0), (1, 1)], ids=["sign", "zero", "other"])
def test_an_untied_kernel_is_refused_and_nothing_changes(kind, cell):
    layer = build(kind)
    before = layer.free_kernel.numpy()
    value = draw_tied(layer)
    value[(*cell, 0, 0)] += 1
    with pytest.raises(ValueError, match=r"ties cells of the kernel that differ.*`layer.free_kernel.assign.*'tied'"):
        layer.kernel.assign(value)
    np.testing.assert_array_equal(layer.free_kernel, before)


def test_another_shape_is_refused():
    layer = build("conv")
    with pytest.raises(ValueError, match=r"has shape \(2, 3, 3, 4\). Received: an array of shape \(3, 4\)"):
        layer.kernel.assign(np.zeros((3, 4)))


def test_a_kernel_that_is_not_known_yet_is_refused():
    layer = build("conv")

    @tf.function
    def double() -> None:
        layer.kernel.assign(2 * layer.kernel)

    with pytest.raises(ValueError, match=r"Cannot check whether a kernel in a graph is tied"):
        double()


def test_spectral_normalization_says_what_to_do_instead():
    layer = keras.layers.SpectralNormalization(TiedConv2D(4, GRID, name="tied"))
    images = np.ones((2, 6, 7, 3), "float32")
    assert layer(images).shape == (2, 5, 5, 4)  # the kernel is normalized only in training
    with pytest.raises(TypeError, match=r"tied layer 'tied' .* is not a variable, .* pass a `kernel_constraint` that"):
        layer(images, training=True)
    model = keras.Sequential([layer])
    model.compile("sgd", "mse")
    with pytest.raises(TypeError, match="pass a `kernel_constraint`"):
        model.fit(images, np.zeros((2, 5, 5, 4)), verbose=0)


def test_a_spectral_constraint_keeps_the_largest_singular_value_at_one():
    class Spectral(keras.constraints.Constraint):
        def __call__(self, w):
            return w / keras.ops.norm(keras.ops.reshape(w, (-1, w.shape[-1])), ord=2)

    layer = TiedConv2D(4, GRID, kernel_constraint=Spectral())
    model = keras.Sequential([layer])
    model.compile("sgd", "mse")
    images = np.random.default_rng(1).normal(size=(8, 6, 7, 3)).astype("float32")
    model.fit(images, np.ones((8, 5, 5, 4)), verbose=0)
    assert np.linalg.norm(np.reshape(layer.kernel, (-1, 4)), ord=2) == pytest.approx(1, abs=1e-5)
