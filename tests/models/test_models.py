"""The built models are as planned, have the right names, and compute the right values."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from tiedexp.layers.padded_shortcut import PaddedShortcut
from tiedexp.layers.tied_conv import TiedConv2D
from tiedexp.models.blocks import apply_padded_shortcut
from tiedexp.models.cost import compute_cost
from tiedexp.models.plain import build_plain
from tiedexp.models.plan import ConvPlan, plan_plain, plan_resnet
from tiedexp.models.resnet import build_resnet
from tiedexp.patterns.grid import Pattern
from tiedexp.training.weights_file import check_weights_file

BLOCK = Pattern.preset("block", 5)
RING = Pattern.preset("rings", 5)
CASES = {
    "plain": (
        build_plain,
        plan_plain,
        (28, 28, 1),
        {"width": 6, "kernel_size": 5, "patterns": [BLOCK, None, RING, BLOCK]},
    ),
    "plain-odd": (
        build_plain,
        plan_plain,
        (9, 7, 3),
        {"width": 5, "kernel_size": (5, 5), "patterns": [None, BLOCK, None]},
    ),
    "resnet": (
        build_resnet,
        plan_resnet,
        (13, 16, 3),
        {"width": 4, "widen": 1, "kernel_size": 5, "patterns": [None, *[BLOCK] * 6]},
    ),
    "wide-resnet": (
        build_resnet,
        plan_resnet,
        (16, 16, 1),
        {"width": 4, "widen": 3, "kernel_size": 5, "patterns": [BLOCK, None] * 6 + [RING]},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_the_model_is_what_was_planned(case):
    build, plan, image_shape, options = CASES[case]
    convs = plan(image_shape, **options)
    model = build(image_shape, 7, convs, dropout=0.2)
    for conv in convs:
        layer = model.get_layer(conv.name)
        assert tuple(layer.output.shape[1:3]) == conv.output_size
        assert (layer.filters, layer.kernel_size, layer.strides[0]) == (conv.filters, conv.kernel_size, conv.strides)
        assert isinstance(layer, TiedConv2D) == (conv.pattern is not None)
        assert type(layer) is keras.layers.Conv2D or layer.pattern == conv.pattern
    cost = compute_cost(convs, 7)
    for layer in cost.layers:
        trainable = model.get_layer(layer.name).trainable_weights
        assert sum(int(np.prod(weight.shape)) for weight in trainable) == layer.unique_weights
    assert sum(int(np.prod(weight.shape)) for weight in model.trainable_weights) == cost.unique_weights
    assert model.output_shape == (None, 7)


@pytest.mark.parametrize("case", CASES)
def test_layer_names_are_the_same_every_time(case):
    build, plan, image_shape, options = CASES[case]
    convs = plan(image_shape, **options)
    first, second = (build(image_shape, 7, convs, dropout=0.2) for _ in range(2))
    names = [layer.name for layer in first.layers]
    assert names == [layer.name for layer in second.layers]
    assert len(set(names)) == len(names)
    assert {"conv_1", "bn_1", "relu_1", "dropout", "classifier"} <= set(names)
    assert [v.path for v in first.trainable_variables] == [v.path for v in second.trainable_variables]


@pytest.mark.parametrize("precision", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_computes_in_half_and_answers_in_float32(precision):
    _, _, image_shape, options = CASES["resnet"]
    model = build_resnet(image_shape, 7, plan_resnet(image_shape, **options), dtype=precision)
    assert model.get_layer("conv_2").compute_dtype == precision.removeprefix("mixed_")
    assert {variable.dtype for variable in model.trainable_variables} == {"float32"}
    logits = model(np.ones((2, *image_shape), "float32"))
    assert keras.backend.standardize_dtype(logits.dtype) == "float32"


def apply_shortcut_of_0_1_0(x, conv, dtype):
    return PaddedShortcut(conv.filters, conv.strides, dtype=dtype, name=f"shortcut_{conv.number}")(x)


@pytest.mark.parametrize("dtype", ["float32", "mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize(("strides", "filters"), [(2, 8), (1, 8), (2, 3), (3, 4)])
def test_the_shortcut_keeps_every_nth_pixel_and_pads_channels_with_zeros(strides, filters, dtype):
    conv = ConvPlan(2, 1, 3, filters, (3, 3), strides, (5, 7), (-(-5 // strides), -(-7 // strides)), None)
    inputs = keras.Input((5, 7, 3))
    models = [
        keras.Model(inputs, apply(keras.layers.Activation("linear", dtype=dtype)(inputs), conv, dtype))
        for apply in (apply_padded_shortcut, apply_shortcut_of_0_1_0)
    ]
    x = np.random.default_rng(0).normal(size=(2, 5, 7, 3)).astype("float32")
    x[0, 0, 0] = np.inf, np.nan, 0.0
    new, old = (keras.ops.convert_to_numpy(keras.ops.cast(model(x), "float32")) for model in models)
    assert new.tobytes() == old.tobytes()
    if dtype == "float32":
        before = (filters - 3) // 2
        expected = np.zeros((2, *conv.output_size, filters), "float32")
        expected[..., before : before + 3] = x[:, ::strides, ::strides]
        np.testing.assert_array_equal(new, expected)
    assert not models[0].weights


def build_small_resnet():
    convs = plan_resnet((8, 8, 1), width=4, widen=1, kernel_size=3, patterns=[None] * 7)
    return build_resnet((8, 8, 1), 3, convs)


def test_a_resnet_of_keras_layers_only_needs_nothing_of_ours():
    model = build_small_resnet()
    assert {type(layer).__module__.split(".")[0] for layer in model.layers} == {"keras"}


def test_weights_of_0_1_0_are_loaded_into_a_resnet(monkeypatch, tmp_path):
    """Weights, their order and the optimizer's state fit, because shortcuts had no weights and have none."""
    new, old = (build_and_take_a_step(apply, monkeypatch) for apply in (apply_padded_shortcut, apply_shortcut_of_0_1_0))
    assert [variable.path for variable in new.variables] == [variable.path for variable in old.variables]
    old.save_weights(tmp_path / "old.weights.h5")
    check_weights_file(tmp_path / "old.weights.h5", new.variables)
    new.load_weights(tmp_path / "old.weights.h5")
    for one, other in zip(new.variables, old.variables, strict=True):
        np.testing.assert_array_equal(one, other)
    for one, other in zip(new.optimizer.variables, old.optimizer.variables, strict=True):
        np.testing.assert_array_equal(one, other)
    images = np.random.default_rng(1).normal(size=(2, *new.input_shape[1:])).astype("float32")
    np.testing.assert_array_equal(new(images), old(images))


def build_and_take_a_step(apply, monkeypatch):
    monkeypatch.setattr("tiedexp.models.resnet.apply_padded_shortcut", apply)
    _, _, image_shape, options = CASES["resnet"]
    model = build_resnet(image_shape, 7, plan_resnet(image_shape, **options), implementation="expand")
    model.compile("adam", "mse")
    model.fit(np.ones((2, *image_shape)), np.ones((2, 7)), verbose=0)
    return model


def test_a_residual_block_adds_its_input():
    """With the last batch norm of every block at zero, blocks are the identity (followed by ReLU)."""
    model = build_small_resnet()
    for number in (3, 5, 7):
        model.get_layer(f"bn_{number}").gamma.assign(np.zeros(4 * 2 ** ((number - 2) // 2)))
    images = np.random.default_rng(1).normal(size=(3, 8, 8, 1)).astype("float32")
    stem, last = (keras.Model(model.input, model.get_layer(name).output) for name in ("relu_1", "relu_7"))
    before, after = (keras.ops.convert_to_numpy(part(images)) for part in (stem, last))
    expected = np.zeros((3, 2, 2, 16), "float32")
    expected[..., 6:10] = before[:, ::4, ::4]  # 4 -> 8 -> 16 channels, padded evenly on both sides
    np.testing.assert_allclose(after, expected, atol=1e-6)


@pytest.mark.parametrize(("preset", "invariant"), [("d4", True), ("rings", True), ("full", False)])
def test_a_plain_model_of_symmetric_patterns_is_invariant_under_rotation_by_90_degrees(preset, invariant):
    keras.utils.set_random_seed(0)
    convs = plan_plain((16, 16, 2), width=4, kernel_size=5, patterns=[Pattern.preset(preset, 5)] * 3)
    model = build_plain((16, 16, 2), 5, convs)
    images = np.random.default_rng(2).normal(size=(4, 16, 16, 2)).astype("float32")
    rotated = np.rot90(images, axes=(1, 2))
    same = np.allclose(model(images), model(rotated), atol=1e-5)
    assert same == invariant
