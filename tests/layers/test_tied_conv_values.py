"""What TiedConv2D computes: against NumPy, and against Conv2D with the expanded kernel."""

from __future__ import annotations

import functools
from collections.abc import Callable

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tiedexp.layers.tied_conv import TiedConv2D
from tiedexp.patterns.grid import Pattern
from tiedexp.patterns.presets import PRESETS

OPTIONS = [
    {"padding": "valid"},
    {"padding": "same"},
    {"padding": "same", "strides": 2},
    {"padding": "valid", "strides": (2, 1)},
    {"padding": "valid", "strides": (3, 2)},
    {"padding": "same", "dilation_rate": 2},
    {"padding": "valid", "dilation_rate": (1, 2)},
    {"padding": "same", "groups": 2},
    {"padding": "valid", "groups": 4, "strides": 2},
    {"padding": "same", "use_bias": False},
    {"padding": "same", "activation": "relu"},
]
NAMES = [" ".join(f"{name}={value}" for name, value in options.items()) for options in OPTIONS]
SIGNED = Pattern.parse("AB-A/.CC/-BBA/D.-D")  # 4x3: an even side, signs, zeros


def pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else value


def random_weights(layer: keras.layers.Layer, rng: np.random.Generator) -> None:
    layer.set_weights([rng.normal(size=weight.shape) for weight in layer.weights])


def check(layer: TiedConv2D, images: np.ndarray, numpy_conv: Callable[..., np.ndarray]) -> None:
    """Outputs equal to the NumPy reference and to the Keras layer with the expanded kernel, to 1e-10."""
    rng = np.random.default_rng(1)
    first = layer.data_format == "channels_first"
    inputs = images.transpose(0, 3, 1, 2) if first else images
    layer.build(inputs.shape)
    random_weights(layer, rng)
    bias = layer.bias.numpy() if layer.use_bias else 0.0
    kernel = layer.pattern.expand(layer.free_kernel.numpy())
    expected = numpy_conv(
        images,
        kernel,
        bias,
        strides=pair(layer.strides),
        padding=layer.padding,
        dilation=pair(layer.dilation_rate),
        groups=layer.groups,
    )
    if layer.activation is keras.activations.relu:
        expected = np.maximum(expected, 0)
    # On a CPU, TensorFlow's own kernels take channels first only in float32; XLA takes them in float64, too.
    run = functools.partial(tf.function, jit_compile=True) if first else lambda call: call
    outputs = keras.ops.convert_to_numpy(run(layer)(inputs))
    assert outputs.dtype == np.float64
    assert outputs.shape == layer.compute_output_shape(inputs.shape)
    np.testing.assert_allclose(outputs.transpose(0, 2, 3, 1) if first else outputs, expected, atol=1e-10)

    np.testing.assert_array_equal(layer.kernel, kernel)
    dense = keras.layers.Conv2D(
        layer.filters,
        layer.pattern.shape,
        strides=layer.strides,
        padding=layer.padding,
        dilation_rate=layer.dilation_rate,
        groups=layer.groups,
        activation=layer.activation,
        use_bias=layer.use_bias,
        data_format=layer.data_format,
        dtype="float64",
    )
    dense.build(inputs.shape)
    dense.set_weights([kernel, *([bias] if layer.use_bias else [])])
    np.testing.assert_allclose(outputs, run(dense)(inputs), atol=1e-10)


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(2, 11, 10, 4))


@pytest.mark.parametrize("name", PRESETS)
def test_presets(name: str, images: np.ndarray, numpy_conv: Callable[..., np.ndarray]) -> None:
    check(TiedConv2D(3, name, 5, dtype="float64"), images, numpy_conv)


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize("options", OPTIONS, ids=NAMES)
def test_options(
    options: dict[str, object], data_format: str, images: np.ndarray, numpy_conv: Callable[..., np.ndarray]
) -> None:
    # Twelve filters, more than any output has rows: with channels first, XLA and filters == rows == cols, Keras 3.15.1
    # adds the bias of a plain Conv2D along the wrong axis too.
    check(TiedConv2D(12, SIGNED, data_format=data_format, dtype="float64", **options), images, numpy_conv)


@pytest.mark.parametrize("options", OPTIONS, ids=NAMES)
def test_channels_first_in_float32(options: dict[str, object], images: np.ndarray) -> None:
    first = TiedConv2D(8, SIGNED, data_format="channels_first", **options)
    last = TiedConv2D(8, SIGNED, **options)
    outputs = keras.ops.convert_to_numpy(first(images.transpose(0, 3, 1, 2)))
    last.build(images.shape)
    last.set_weights(first.get_weights())
    np.testing.assert_allclose(outputs.transpose(0, 2, 3, 1), last(images), atol=1e-5)


@pytest.mark.parametrize("implementation", ["auto", "expand"])
@pytest.mark.parametrize("gradient", ["sum", "mean"])
def test_arguments_of_tying_do_not_change_outputs(
    implementation: str, gradient: str, images: np.ndarray, numpy_conv: Callable[..., np.ndarray]
) -> None:
    layer = TiedConv2D(3, SIGNED, gradient=gradient, implementation=implementation, dtype="float64")
    check(layer, images, numpy_conv)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32 - 1), options=st.sampled_from(OPTIONS))
def test_random_grids(
    seed: int,
    options: dict[str, object],
    images: np.ndarray,
    numpy_conv: Callable[..., np.ndarray],
    random_pattern: Callable[[int], Pattern],
) -> None:
    check(TiedConv2D(4, random_pattern(seed), dtype="float64", **options), images, numpy_conv)


def test_large_kernel(numpy_conv: Callable[..., np.ndarray]) -> None:
    images = np.random.default_rng(0).normal(size=(1, 33, 32, 1))
    pattern = Pattern.preset("hashed", 31, groups=200)
    check(TiedConv2D(2, pattern, padding="same", dtype="float64"), images, numpy_conv)


def test_kernel_is_exactly_the_free_weights() -> None:
    # In float32, too: the expansion multiplies by 1 and adds zeros, which rounds nothing.
    for pattern in (SIGNED, Pattern.preset("block", 5), Pattern.preset("hashed", 11, groups=7)):
        layer = TiedConv2D(3, pattern)
        layer.build((None, 20, 20, 2))
        np.testing.assert_array_equal(layer.kernel, pattern.expand(layer.free_kernel.numpy()))


@pytest.mark.parametrize("name", ["block", "d4", "anti_point", "hashed"])
def test_to_conv2d(name: str, images: np.ndarray) -> None:
    layer = TiedConv2D(
        8, name, 5, strides=2, padding="same", groups=2, activation="relu", kernel_regularizer="l2", name="conv"
    )
    layer.build((None, None, None, 4))
    random_weights(layer, np.random.default_rng(1))
    dense = layer.to_conv2d()
    assert type(dense) is keras.layers.Conv2D
    assert dense.name == "conv"
    np.testing.assert_array_equal(dense.kernel, layer.kernel)
    np.testing.assert_allclose(dense(images), layer(images), atol=1e-5)
    for attribute in ("strides", "padding", "groups", "activation", "use_bias", "dtype_policy", "trainable"):
        assert getattr(dense, attribute) == getattr(layer, attribute)
    np.testing.assert_allclose(dense.losses, layer.losses, rtol=1e-6)


def test_to_conv2d_channels_first_without_bias(images: np.ndarray) -> None:
    layer = TiedConv2D(3, "rings", 5, data_format="channels_first", use_bias=False)
    output = layer(images.transpose(0, 3, 1, 2))
    dense = layer.to_conv2d()
    assert dense.data_format == "channels_first"
    # Keras computes it with channels last, which TensorFlow supports on any processor.
    last = keras.layers.Conv2D.from_config({**dense.get_config(), "data_format": "channels_last"})
    last.build(images.shape)
    last.set_weights(dense.get_weights())
    np.testing.assert_array_equal(output, np.transpose(last(images), (0, 3, 1, 2)))


def test_to_conv2d_needs_weights() -> None:
    with pytest.raises(AttributeError, match="has no kernel yet: build it first"):
        TiedConv2D(3, "rings", 5).to_conv2d()


def test_same_causal_layer_sees_no_later_pixel() -> None:
    for size in (2, 3, 4, 5, (3, 4), (4, 3), (1, 4), (6, 1)):
        layer = TiedConv2D(1, "causal", size, padding="same", kernel_initializer="ones")
        image = np.zeros((1, 9, 9, 1), dtype="float32")
        image[0, 4, 4] = 1
        before = keras.ops.convert_to_numpy(layer(image))[0].ravel()[: 4 * 9 + 4]
        assert (before == 0).all(), size
        assert keras.ops.convert_to_numpy(layer(image))[0, 4, 4] == 1
