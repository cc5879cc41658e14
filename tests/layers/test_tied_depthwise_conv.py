"""TiedDepthwiseConv2D: the guarantees of TiedConv2D, channel by channel."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tiedexp.errors import PatternError
from tiedexp.layers.tied_depthwise_conv import TiedDepthwiseConv2D
from tiedexp.patterns.grid import Pattern
from tiedexp.patterns.presets import PRESETS

IMAGES = np.random.default_rng(0).normal(size=(2, 11, 10, 3))
SIGNED = Pattern.parse("AB-A/.CC/-BBA/D.-D")
OPTIONS = [
    {},
    {"padding": "same"},
    {"padding": "same", "depth_multiplier": 2},
    {"padding": "same", "strides": 2},
    {"padding": "valid", "strides": 3, "depth_multiplier": 3},
    {"padding": "same", "dilation_rate": 2},
    {"padding": "valid", "dilation_rate": (1, 2), "use_bias": False},
    {"padding": "same", "activation": "relu"},
]


def pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else value


def check(layer: TiedDepthwiseConv2D, numpy_conv: Callable[..., np.ndarray]) -> None:
    """Outputs equal to the NumPy reference and to the Keras layer with the expanded kernel, to 1e-10."""
    rng = np.random.default_rng(1)
    first = layer.data_format == "channels_first"
    inputs = IMAGES.transpose(0, 3, 1, 2) if first else IMAGES
    layer.build(inputs.shape)
    layer.set_weights([rng.normal(size=weight.shape) for weight in layer.weights])
    kernel = layer.pattern.expand(layer.free_kernel.numpy())
    expected = numpy_conv(
        IMAGES,
        kernel,
        layer.bias.numpy() if layer.use_bias else 0.0,
        strides=pair(layer.strides),
        padding=layer.padding,
        dilation=pair(layer.dilation_rate),
    )
    if layer.activation is keras.activations.relu:
        expected = np.maximum(expected, 0)
    outputs = keras.ops.convert_to_numpy(layer(inputs))
    assert outputs.dtype == np.float64
    assert outputs.shape == layer.compute_output_shape(inputs.shape)
    np.testing.assert_allclose(outputs.transpose(0, 2, 3, 1) if first else outputs, expected, atol=1e-10)
    np.testing.assert_array_equal(layer.kernel, kernel)
    dense = layer.to_depthwise_conv2d()
    assert type(dense) is keras.layers.DepthwiseConv2D
    assert dense.name == layer.name
    np.testing.assert_array_equal(dense.kernel, kernel)
    np.testing.assert_allclose(outputs, dense(inputs), atol=1e-10)


@pytest.mark.parametrize("name", PRESETS)
def test_presets(name: str, numpy_depthwise_conv: Callable[..., np.ndarray]) -> None:
    check(TiedDepthwiseConv2D(name, 5, dtype="float64"), numpy_depthwise_conv)


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_options(options: dict[str, object], data_format: str, numpy_depthwise_conv: Callable[..., np.ndarray]) -> None:
    check(TiedDepthwiseConv2D(SIGNED, data_format=data_format, dtype="float64", **options), numpy_depthwise_conv)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32 - 1), options=st.sampled_from(OPTIONS))
def test_random_grids(
    seed: int,
    options: dict[str, object],
    numpy_depthwise_conv: Callable[..., np.ndarray],
    random_pattern: Callable[[int], Pattern],
) -> None:
    check(TiedDepthwiseConv2D(random_pattern(seed), dtype="float64", **options), numpy_depthwise_conv)


def gradients(layer: keras.layers.Layer) -> list[np.ndarray]:
    """The gradients of an asymmetric loss, penalties included, with respect to the input and each weight."""
    inputs = tf.constant(IMAGES)
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        outputs = layer(inputs)
        weighting = np.random.default_rng(5).normal(size=outputs.shape)
        loss = tf.reduce_sum(tf.sin(outputs) * weighting) + sum(layer.losses)
    return [gradient.numpy() for gradient in tape.gradient(loss, [inputs, *layer.trainable_variables])]


@pytest.mark.parametrize("gradient", ["sum", "mean"])
@pytest.mark.parametrize("pattern", ["block", "d4", "anti_h", "rings_circular", "hashed", SIGNED], ids=str)
def test_gradient_of_a_group(pattern: Pattern | str, gradient: str) -> None:
    layer = TiedDepthwiseConv2D(
        pattern,
        5 if isinstance(pattern, str) else None,
        padding="same",
        depth_multiplier=2,
        depthwise_regularizer=keras.regularizers.L2(0.3),
        gradient=gradient,
        dtype="float64",
    )
    layer.build(IMAGES.shape)
    by_input, by_free, by_bias = gradients(layer)
    dense_by_input, by_kernel, dense_by_bias = gradients(layer.to_depthwise_conv2d())
    np.testing.assert_allclose(by_input, dense_by_input, atol=1e-10)
    np.testing.assert_allclose(by_bias, dense_by_bias, atol=1e-10)
    expected = layer.pattern.collapse(by_kernel)
    if gradient == "mean":
        expected = expected / np.array(layer.pattern.group_sizes)[:, None, None]
    np.testing.assert_allclose(by_free, expected, atol=1e-10)


OPTIMIZERS = {
    "sgd": lambda: keras.optimizers.SGD(0.05, momentum=0.9),
    "adamw": lambda: keras.optimizers.AdamW(0.01, weight_decay=0.1),
}


def train(layer: keras.layers.Layer, optimizer: keras.optimizers.Optimizer) -> None:
    """Twenty steps of regression on noise."""

    @tf.function
    def step(inputs: tf.Tensor) -> None:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((layer(inputs) - tf.roll(inputs, 1, axis=0)) ** 2) + sum(layer.losses)
        optimizer.apply(tape.gradient(loss, layer.trainable_variables), layer.trainable_variables)

    for batch in np.random.default_rng(7).normal(size=(20, *IMAGES.shape)).astype("float32"):
        step(tf.constant(batch))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("name", ["block", "anti_point", "rings_circular"])
def test_cells_stay_bit_identical(name: str, optimizer: str) -> None:
    layer = TiedDepthwiseConv2D(name, 5, padding="same", depthwise_regularizer="l2")
    layer.build(IMAGES.shape)
    before = layer.free_kernel.numpy()
    train(layer, OPTIMIZERS[optimizer]())
    assert (layer.free_kernel.numpy() != before).all()
    kernel, free = np.asarray(layer.kernel), layer.free_kernel.numpy()
    for row, col in np.ndindex(5, 5):
        sign, group = layer.pattern.sign[row, col], layer.pattern.index[row, col]
        np.testing.assert_array_equal(kernel[row, col], sign * free[group] if sign else np.zeros_like(free[0]))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_full_trains_exactly_as_depthwise_conv2d(optimizer: str) -> None:
    layers = []
    for build in (functools.partial(TiedDepthwiseConv2D, "full"), keras.layers.DepthwiseConv2D):
        keras.utils.set_random_seed(3)
        layer = build(5, padding="same", depthwise_regularizer="l2", depthwise_constraint="max_norm")
        layer.build(IMAGES.shape)
        train(layer, OPTIMIZERS[optimizer]())
        layers.append(layer)
    tied, dense = layers
    np.testing.assert_array_equal(tied.kernel, dense.kernel)
    np.testing.assert_array_equal(tied.bias, dense.bias)


@pytest.mark.parametrize(
    ("name", "transform", "factor"),
    [
        ("mirror_h", "flip", 1),
        ("rot90", "rot90", 1),
        ("anti_h", "flip", -1),
        ("block", "flip", 0),
        ("full", "rot90", 0),
    ],
)
def test_symmetry(name: str, transform: str, factor: int) -> None:
    apply = (lambda x: x[:, :, ::-1]) if transform == "flip" else (lambda x: np.rot90(x, 1, axes=(1, 2)))
    images = IMAGES[:, :10]
    layer = TiedDepthwiseConv2D(name, 5, padding="same", use_bias=False, dtype="float64")
    moved, outputs = np.asarray(layer(apply(images))), apply(np.asarray(layer(images)))
    assert np.allclose(moved, outputs, atol=1e-12) == (factor == 1)
    assert np.allclose(moved, -outputs, atol=1e-12) == (factor == -1)


def test_initial_variance_penalty_and_constraint() -> None:
    layer = TiedDepthwiseConv2D(
        "cross",
        5,
        depth_multiplier=500,
        depthwise_initializer=keras.initializers.HeNormal(seed=1),
        depthwise_regularizer=keras.regularizers.L2(1.0),
        depthwise_constraint=keras.constraints.MaxNorm(0.5, axis=[0, 1]),
    )
    layer.build((None, 9, 9, 16))
    # Keras counts rows x cols x channels as the fan-in, here 9 x 16 non-zero cells: 2 / 144 per cell.
    squares = (np.asarray(layer.kernel) ** 2).sum(axis=(0, 1))
    np.testing.assert_allclose(squares.mean(), 9 * 2 / 144, rtol=0.05)
    np.testing.assert_allclose(float(layer.losses[0]), squares.sum(), rtol=1e-5)
    layer.free_kernel.assign(10 * layer.free_kernel)
    layer.free_kernel.assign(layer.free_kernel.constraint(layer.free_kernel))
    norms = np.sqrt((np.asarray(layer.kernel) ** 2).sum(axis=(0, 1)))
    assert norms.max() <= 0.5 + 1e-5
    assert norms.max() > 0.49


def build_model(**options: object) -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((None, None, 3)),
            TiedDepthwiseConv2D("block", 5, padding="same", depth_multiplier=2, name="tied", **options),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(1),
        ]
    )


@pytest.mark.parametrize(
    ("dtype", "jit_compile", "gradient"),
    [
        ("float32", False, "sum"),
        ("float32", True, "mean"),
        ("mixed_float16", False, "sum"),
        ("mixed_bfloat16", True, "sum"),
    ],
)
def test_fits_saves_and_clones(dtype: str, jit_compile: bool, gradient: str, tmp_path: Path) -> None:
    model = build_model(dtype=dtype, gradient=gradient, activation="relu")
    model.compile(keras.optimizers.Adam(0.05), "mse", jit_compile=jit_compile)
    images = IMAGES.astype("float32")
    history = model.fit(images, np.array([0.0, 1.0]), epochs=20, verbose=0)
    assert history.history["loss"][-1] < 0.5 * history.history["loss"][0]
    expected = model.predict(images, verbose=0)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert type(again.get_layer("tied")) is TiedDepthwiseConv2D
    np.testing.assert_array_equal(again.predict(images, verbose=0), expected)
    model.save_weights(tmp_path / "model.weights.h5")
    clone = keras.models.clone_model(model)
    clone.load_weights(tmp_path / "model.weights.h5")
    np.testing.assert_array_equal(clone.predict(images, verbose=0), expected)
    np.testing.assert_array_equal(
        clone.predict(images[:1, :7, :6], verbose=0), model.predict(images[:1, :7, :6], verbose=0)
    )


@pytest.mark.parametrize(
    "options",
    [
        {},
        {
            "gradient": "mean",
            "implementation": "expand",
            "depthwise_regularizer": "l2",
            "strides": 2,
            "dtype": "bfloat16",
        },
    ],
)
def test_config_round_trip(options: dict[str, object]) -> None:
    layer = TiedDepthwiseConv2D({"preset": "hashed", "groups": 4}, 3, **options)
    again = TiedDepthwiseConv2D.from_config(layer.get_config())
    assert again.get_config() == layer.get_config()
    assert again.pattern == layer.pattern
    assert again.gradient == layer.gradient


def test_is_a_depthwise_conv2d() -> None:
    layer = TiedDepthwiseConv2D("block", 5, depth_multiplier=2)
    layer.build((None, 9, 9, 3))
    assert isinstance(layer, keras.layers.DepthwiseConv2D)
    assert [(variable.name, tuple(variable.shape)) for variable in layer.trainable_variables] == [
        ("free_kernel", (9, 3, 2)),
        ("bias", (6,)),
    ]
    assert layer.kernel.shape == (5, 5, 3, 2)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (("blok", 5), {}, r"unknown pattern 'blok'; did you mean block\?.*Received: pattern='blok', kernel_size=5"),
        (("block",), {}, "the preset 'block' needs a kernel size"),
        (("AB/CD", 3), {}, "the pattern is 2x2, but the kernel size is 3x3"),
        (("block", 5), {"gradient": "max"}, "`gradient` must be one of"),
        (("block", 5), {"implementation": "x"}, "`implementation` must be one of"),
        (("block", 5), {"depth_multiplier": 0}, "depth_multiplier"),
    ],
)
def test_bad_arguments(arguments: tuple[object, ...], options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TiedDepthwiseConv2D(*arguments, **options)


def test_other_refusals() -> None:
    with pytest.raises(PatternError):
        TiedDepthwiseConv2D("blok", 5)
    layer = TiedDepthwiseConv2D("block", 5, name="early")
    with pytest.raises(AttributeError, match="'early' has no kernel yet: build it first"):
        layer.kernel  # noqa: B018
    with pytest.raises(ValueError, match="number of input channels must be known"):
        layer.build((None, 9, 9, None))
    layer.build((None, 9, 9, 3))
    with pytest.raises(NotImplementedError, match="TiedDepthwiseConv2D cannot be quantized"):
        layer.quantize("int8")
    with pytest.raises(ValueError, match="expected axis -1 of input shape to have value 3"):
        layer(np.zeros((1, 9, 9, 4), "float32"))
