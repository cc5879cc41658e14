"""TiedConv2D in Keras: configs, files, clones, precision, compilation, shapes, fit, LoRA, messages."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from tiedexp.errors import PatternError
from tiedexp.layers.tied_conv import TiedConv2D
from tiedexp.patterns.grid import Pattern

RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(8, 12, 10, 4)).astype("float32")
LABELS = np.arange(8) % 3


def build_model(**options: object) -> keras.Model:
    arguments = {"padding": "same", "activation": "relu", **options}
    return keras.Sequential(
        [
            keras.Input((None, None, 4)),
            TiedConv2D(4, "block", 5, name="first", **arguments),
            TiedConv2D(6, "A-A.B/C.DD", groups=2, strides=2, name="second", **options),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(3, name="head"),
        ]
    )


def fit(model: keras.Model, epochs: int = 2, **options: object) -> keras.callbacks.History:
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.01), loss, metrics=["accuracy"], **options)
    return model.fit(IMAGES, LABELS, epochs=epochs, batch_size=4, verbose=0)


def test_is_a_conv2d() -> None:
    layer = TiedConv2D(4, "block", 5)
    assert isinstance(layer, keras.layers.Conv2D)
    assert layer.kernel_size == (5, 5)
    assert layer.pattern == Pattern.preset("block", 5)


def test_variables() -> None:
    layer = TiedConv2D(6, "block", 5, groups=2)
    layer.build((None, 9, 9, 4))
    assert [(variable.name, tuple(variable.shape)) for variable in layer.trainable_variables] == [
        ("free_kernel", (9, 2, 6)),
        ("bias", (6,)),
    ]
    assert layer.kernel.shape == (5, 5, 2, 6)
    assert layer.count_params() == 9 * 2 * 6 + 6
    assert layer.free_kernel is layer.trainable_variables[0]


CONFIGS = [
    {},
    {
        "strides": 2,
        "padding": "same",
        "groups": 2,
        "activation": "relu",
        "use_bias": False,
        "kernel_initializer": keras.initializers.HeNormal(seed=1),
        "kernel_regularizer": keras.regularizers.L2(0.1),
        "kernel_constraint": "max_norm",
        "dtype": "mixed_bfloat16",
        "name": "conv",
        "trainable": False,
        "gradient": "mean",
        "implementation": "expand",
    },
    {"dilation_rate": (2, 1), "bias_initializer": "ones", "bias_regularizer": "l1", "activity_regularizer": "l2"},
]


@pytest.mark.parametrize("options", CONFIGS, ids=["defaults", "many", "others"])
@pytest.mark.parametrize("pattern", ["block", "AB-A/.CC/-BBA", {"preset": "hashed", "groups": 5, "seed": 2}, "full"])
def test_config_round_trip(pattern: object, options: dict[str, object]) -> None:
    layer = TiedConv2D(4, pattern, 3, **options)
    config = layer.get_config()
    again = TiedConv2D.from_config(config)
    assert again.get_config() == config
    assert again.pattern == layer.pattern
    for name in ("strides", "padding", "groups", "use_bias", "dtype_policy", "trainable", "gradient", "implementation"):
        assert getattr(again, name) == getattr(layer, name)
    serialized = keras.saving.serialize_keras_object(layer)
    assert serialized["registered_name"] == "tiedexp>TiedConv2D"
    assert keras.saving.deserialize_keras_object(serialized).get_config() == config


@pytest.mark.parametrize("size", [(1, 1), (1, 53), (31, 31)])
def test_config_of_odd_sizes(size: tuple[int, int]) -> None:
    layer = TiedConv2D(1, "full", size)
    assert TiedConv2D.from_config(layer.get_config()).pattern == layer.pattern


class TestFiles:
    @pytest.mark.parametrize("options", [{}, {"use_bias": False}, {"dtype": "mixed_bfloat16"}])
    def test_keras_file_loads_without_custom_objects(self, options: dict[str, object], tmp_path: Path) -> None:
        model = build_model(kernel_regularizer="l2", **options)
        fit(model)
        model.save(tmp_path / "model.keras")
        again = keras.saving.load_model(tmp_path / "model.keras")
        assert type(again.get_layer("first")) is TiedConv2D
        for one, other in zip(model.weights, again.weights, strict=True):
            np.testing.assert_array_equal(np.asarray(one, "float32"), np.asarray(other, "float32"))
        np.testing.assert_array_equal(model.predict(IMAGES, verbose=0), again.predict(IMAGES, verbose=0))
        for trained in (model, again):  # the optimizer's state is loaded, too
            trained.fit(IMAGES, LABELS, epochs=1, shuffle=False, verbose=0)
        np.testing.assert_array_equal(model.predict(IMAGES, verbose=0), again.predict(IMAGES, verbose=0))

    def test_pure_bfloat16(self, tmp_path: Path) -> None:
        model = build_model(dtype="bfloat16")
        model.save(tmp_path / "model.keras")
        again = keras.saving.load_model(tmp_path / "model.keras")
        assert again.get_layer("first").free_kernel.dtype == "bfloat16"
        np.testing.assert_array_equal(model.predict(IMAGES, verbose=0), again.predict(IMAGES, verbose=0))

    def test_weights_file_holds_the_free_weights(self, tmp_path: Path) -> None:
        model = build_model()
        fit(model)
        model.save_weights(tmp_path / "model.weights.h5")
        again = build_model()
        again.load_weights(tmp_path / "model.weights.h5")
        np.testing.assert_array_equal(model.predict(IMAGES, verbose=0), again.predict(IMAGES, verbose=0))
        store: dict[str, object] = {}
        model.get_layer("first").save_own_variables(store)
        assert [np.asarray(store[key]).shape for key in ("0", "1")] == [(9, 4, 4), (4,)]

    def test_weights_of_another_pattern_are_refused(self, tmp_path: Path) -> None:
        for name, layer in (("a", TiedConv2D(2, "block", 5)), ("b", TiedConv2D(2, "rings", 5))):
            model = keras.Sequential([keras.Input((9, 9, 1)), layer])
            if name == "a":
                model.save_weights(tmp_path / "a.weights.h5")
        with pytest.raises(ValueError, match=r"\(9, 1, 2\)"):
            model.load_weights(tmp_path / "a.weights.h5")

    def test_an_unbuilt_layer_saves_nothing(self) -> None:
        store: dict[str, object] = {}
        TiedConv2D(2, "block", 5).save_own_variables(store)
        assert store == {}


def test_exports_as_a_saved_model(tmp_path: Path) -> None:
    model = build_model(gradient="mean")
    model.export(tmp_path / "exported", verbose=False)
    restored = tf.saved_model.load(tmp_path / "exported")  # must outlive its functions
    np.testing.assert_allclose(restored.serve(IMAGES), model.predict(IMAGES, verbose=0), atol=1e-6)


def test_clone_model() -> None:
    model = build_model(gradient="mean")
    clone = keras.models.clone_model(model)
    assert clone.get_layer("first").pattern == Pattern.preset("block", 5)
    assert clone.get_layer("second").gradient == "mean"
    clone.set_weights(model.get_weights())
    np.testing.assert_array_equal(model.predict(IMAGES, verbose=0), clone.predict(IMAGES, verbose=0))


@pytest.mark.parametrize(
    ("dtype", "jit_compile", "gradient"),
    [
        ("float32", False, "sum"),
        ("float32", True, "mean"),
        ("mixed_float16", False, "mean"),
        ("mixed_float16", True, "sum"),
        ("mixed_bfloat16", False, "sum"),
        ("mixed_bfloat16", True, "mean"),
    ],
)
def test_fit(dtype: str, jit_compile: bool, gradient: str) -> None:
    keras.utils.set_random_seed(0)
    model = build_model(dtype=dtype, gradient=gradient)
    history = fit(model, epochs=15, jit_compile=jit_compile)
    assert history.history["loss"][-1] < 0.8 * history.history["loss"][0]
    layer = model.get_layer("first")
    assert layer.free_kernel.dtype == "float32"
    assert layer.compute_dtype == ("float32" if dtype == "float32" else dtype.removeprefix("mixed_"))
    outputs = layer(IMAGES)
    assert outputs.dtype.name == layer.compute_dtype
    kernel = np.asarray(layer.kernel, dtype="float64")
    np.testing.assert_array_equal(kernel, layer.pattern.expand(layer.free_kernel.numpy()))


def test_jit_trains_as_the_graph_does() -> None:
    models = [build_model() for _ in range(2)]
    models[1].set_weights(models[0].get_weights())
    start = models[0].get_layer("first").free_kernel.numpy()
    for model, jit_compile in zip(models, (False, True), strict=True):
        model.compile(
            keras.optimizers.SGD(0.1), keras.losses.SparseCategoricalCrossentropy(True), jit_compile=jit_compile
        )
        model.fit(IMAGES, LABELS, batch_size=8, epochs=2, verbose=0)
    assert np.abs(models[0].get_layer("first").free_kernel.numpy() - start).max() > 1e-4
    for one, other in zip(*(model.get_weights() for model in models), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.parametrize("dtype", ["mixed_float16", "mixed_bfloat16"])
def test_low_precision_is_near_full_precision(dtype: str) -> None:
    exact = TiedConv2D(4, "block", 5, padding="same")
    rough = TiedConv2D(4, "block", 5, padding="same", dtype=dtype)
    expected = np.asarray(exact(IMAGES))
    rough.build(IMAGES.shape)
    rough.set_weights(exact.get_weights())
    np.testing.assert_allclose(np.asarray(rough(IMAGES), "float32"), expected, atol=0.05)


def test_any_batch_and_image_size() -> None:
    model = build_model()
    assert model.output_shape == (None, 3)
    assert model.get_layer("second").output.shape == (None, None, None, 6)
    for shape in ((1, 5, 9, 4), (3, 20, 6, 4), (7, 4, 4, 4)):
        assert model.predict(np.zeros(shape, "float32"), verbose=0).shape == (shape[0], 3)
    assert TiedConv2D(4, "block", 5)(keras.Input((None, 8, 3))).shape == (None, None, 4, 4)


class TestLora:
    def build(self) -> TiedConv2D:
        layer = TiedConv2D(6, "d4", 5, padding="same", name="conv")
        layer.build(IMAGES.shape)
        return layer

    def test_starts_where_the_layer_was(self) -> None:
        layer = self.build()
        before = np.asarray(layer(IMAGES))
        layer.enable_lora(2)
        np.testing.assert_array_equal(layer(IMAGES), before)
        assert [tuple(variable.shape) for variable in layer.trainable_variables] == [(6,), (6, 4, 2), (2, 6)]
        assert layer.non_trainable_variables == [layer.free_kernel]

    def test_trains_keeps_the_tying_and_travels(self, tmp_path: Path) -> None:
        keras.utils.set_random_seed(0)  # what is learnt in two epochs depends on the initial weights
        model = keras.Sequential([keras.Input((12, 10, 4)), self.build()])
        layer = model.layers[0]
        layer.enable_lora(2, lora_alpha=3)
        frozen = layer.free_kernel.numpy()
        model.compile(keras.optimizers.Adam(0.1), "mse")
        model.fit(IMAGES, np.ones((8, 12, 10, 6), "float32"), epochs=2, verbose=0)
        np.testing.assert_array_equal(layer.free_kernel, frozen)
        by_hand = frozen + 1.5 * layer.lora_kernel_a.numpy() @ layer.lora_kernel_b.numpy()
        assert np.abs(by_hand - frozen).max() > 0.1
        np.testing.assert_allclose(layer.kernel, layer.pattern.expand(by_hand), atol=1e-6)
        np.testing.assert_allclose(layer.to_conv2d()(IMAGES), layer(IMAGES), atol=1e-6)

        model.save(tmp_path / "lora.keras")
        again = keras.saving.load_model(tmp_path / "lora.keras")
        assert again.layers[0].lora_enabled
        np.testing.assert_allclose(again.predict(IMAGES, verbose=0), model.predict(IMAGES, verbose=0), atol=1e-5)
        np.testing.assert_allclose(again.layers[0].free_kernel, by_hand, atol=1e-6)

        model.save_weights(tmp_path / "lora.weights.h5")
        plain = keras.Sequential([keras.Input((12, 10, 4)), self.build()])
        plain.load_weights(tmp_path / "lora.weights.h5")
        np.testing.assert_allclose(plain.predict(IMAGES, verbose=0), model.predict(IMAGES, verbose=0), atol=1e-5)

    def test_as_an_argument(self) -> None:
        layer = TiedConv2D(6, "d4", 5, lora_rank=2)
        layer.build(IMAGES.shape)
        assert layer.lora_enabled
        assert not layer.free_kernel.trainable
        assert TiedConv2D.from_config(layer.get_config()).lora_rank == 2

    def test_refuses_a_constraint(self) -> None:
        layer = TiedConv2D(6, "d4", 5, kernel_constraint="max_norm")
        layer.build(IMAGES.shape)
        with pytest.raises(ValueError, match="Lora is incompatible with kernel constraints"):
            layer.enable_lora(2)


def test_quantize_is_refused() -> None:
    layer = TiedConv2D(6, "d4", 5)
    layer.build(IMAGES.shape)
    with pytest.raises(
        NotImplementedError, match=r"TiedConv2D cannot be quantized, because Keras quantizes no convolution.*'int8'"
    ):
        layer.quantize("int8")


class TestMessages:
    @pytest.mark.parametrize(
        ("arguments", "options", "message"),
        [
            (
                (4, "blok", 5),
                {},
                r"unknown pattern 'blok'; did you mean block\?.*Received: pattern='blok', kernel_size=5",
            ),
            ((4, "block"), {}, "the preset 'block' needs a kernel size, e.g. kernel_size=5"),
            ((4, "AB/CD", 3), {}, "the pattern is 2x2, but the kernel size is 3x3"),
            ((4, "AB/C"), {}, "row 2 .* has 1 cell, but row 1 has 2"),
            ((4, "d4", (3, 5)), {}, "d4: the kernel must be square"),
            ((4, None, 3), {}, "Received: None"),
            ((4, {"preset": "hashed", "groups": 99}, 3), {}, "`groups` must be from 1 to 9, the number of cells"),
            ((4, "block", 0), {}, "The `kernel_size` argument must be a tuple of 2 integers. Received kernel_size=0"),
            ((4, "block", "5"), {}, "a size is a whole number from 1 to 127"),
            (
                (4, "block", 5),
                {"gradient": "max"},
                r"`gradient` must be one of \('sum', 'mean'\). Received: gradient='max'",
            ),
            (
                (4, "block", 5),
                {"implementation": "x"},
                "`implementation` must be one of .* Received: implementation='x'",
            ),
            ((0, "block", 5), {}, "filters"),
            ((4, "block", 5), {"groups": 3}, "number of filters must be evenly divisible by the number of groups"),
            ((4, "block", 5), {"strides": 2, "dilation_rate": 2}, "strides > 1"),
            ((4, "block", 5), {"padding": "causal"}, "padding"),
            ((4, "block", 5), {"data_format": "nchw"}, "data_format"),
            ((4, "block", 5), {"kernel_initializer": "nonsense"}, "nonsense"),
        ],
    )
    def test_arguments(self, arguments: tuple[object, ...], options: dict[str, object], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            TiedConv2D(*arguments, **options)

    def test_pattern_errors_are_the_projects_own(self) -> None:
        with pytest.raises(PatternError):
            TiedConv2D(4, "blok", 5)

    @pytest.mark.parametrize(
        ("options", "shape", "message"),
        [
            ({}, (None, 4, 9, 3), "negative|at least one|Computed output size"),
            (
                {"groups": 2},
                (None, 9, 9, 3),
                r"must be a multiple of `groups`. Received: groups=2, input shape \(None, 9, 9, 3\)",
            ),
            (
                {},
                (None, 9, 9, None),
                r"number of input channels must be known. Received: input shape \(None, 9, 9, None\)",
            ),
        ],
    )
    def test_inputs(self, options: dict[str, object], shape: tuple[int | None, ...], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            TiedConv2D(4, "block", 5, **options).build(shape)

    def test_other_channels_than_built_for(self) -> None:
        layer = TiedConv2D(4, "block", 5)
        layer.build((None, 9, 9, 3))
        with pytest.raises(ValueError, match="expected axis -1 of input shape to have value 3"):
            layer(np.zeros((1, 9, 9, 4), "float32"))

    def test_kernel_before_build(self) -> None:
        layer = TiedConv2D(4, "block", 5, name="early")
        for name in ("kernel", "free_kernel"):
            with pytest.raises(AttributeError, match="'early' has no kernel yet: build it first"):
                getattr(layer, name)
