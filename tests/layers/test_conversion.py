"""`tie` and `untie`: copies of whole models."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

import tiedexp
from tiedexp import Pattern, PatternError, TiedConv2D, TiedDepthwiseConv2D

RNG = np.random.default_rng(0)


def build_two_towers():
    """Two inputs, a convolution that both share, a nested model used twice, a dictionary of outputs."""
    block_input = keras.Input((None, None, 4))
    x = keras.layers.DepthwiseConv2D(3, padding="same", name="depthwise")(block_input)
    x = keras.layers.BatchNormalization(name="norm")(x)
    block = keras.Model(block_input, keras.layers.ReLU()(x), name="block")
    shared = keras.layers.Conv2D(4, 3, padding="same", name="shared")
    left, right = keras.Input((8, 8, 2), name="left"), keras.Input((8, 8, 2), name="right")
    joined = keras.layers.Concatenate()([block(shared(left)), block(block(shared(right)) * 2.0)])
    small = keras.layers.Conv2D(3, 1, use_bias=False, activation="relu", name="small")(joined)
    pooled = keras.layers.GlobalAveragePooling2D()(small)
    outputs = {"logits": keras.layers.Dense(5, name="head")(keras.layers.Dropout(0.5, seed=3)(pooled)), "map": small}
    model = keras.Model([left, right], outputs)
    for variable in model.variables:
        if variable.dtype == "float32":
            variable.assign(RNG.uniform(0.5, 1.5, variable.shape))
    return model


def sample_inputs():
    rng = np.random.default_rng(1)
    return [rng.normal(size=(3, 8, 8, 2)).astype("float32") for _ in range(2)]


def outputs_of(model, inputs, training=False):
    return [np.asarray(each) for each in tf.nest.flatten(model(inputs, training=training))]


def project(kernel, pattern):
    """The nearest tied kernel, by least squares."""
    flat = kernel.reshape(pattern.index.size, -1).astype(np.float64)
    free, *_ = np.linalg.lstsq(pattern.matrix.astype(np.float64), flat, rcond=None)
    return (pattern.matrix @ free).reshape(kernel.shape)


def test_a_graph_with_shared_layers_nested_models_and_several_inputs():
    model = build_two_towers()
    inputs = sample_inputs()
    tied = tiedexp.tie(model, "full")
    assert isinstance(tied.get_layer("shared"), TiedConv2D)
    assert isinstance(tied.get_layer("block").get_layer("depthwise"), TiedDepthwiseConv2D)
    assert len(tied.trainable_variables) == len(model.trainable_variables)  # what is shared stays shared
    assert tied.output.keys() == model.output.keys()
    for ours, theirs in zip(outputs_of(tied, inputs), outputs_of(model, inputs), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    # Dropout draws the same numbers: the state of its generator is copied, too.
    for ours, theirs in zip(outputs_of(tied, inputs, True), outputs_of(model, inputs, True), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)


@pytest.mark.parametrize("pattern", ["row", "d4", "A -A A/. B ./A A A", "mirror_h"])
def test_kernels_become_the_nearest_tied_ones(pattern):
    model = build_two_towers()
    tied = tiedexp.tie(model, pattern, layers="shared")
    grid = Pattern.of(pattern, 3)
    expected = project(np.asarray(model.get_layer("shared").kernel), grid)
    np.testing.assert_allclose(tied.get_layer("shared").kernel, expected, atol=1e-6)
    np.testing.assert_array_equal(tied.get_layer("shared").bias, model.get_layer("shared").bias)
    again = tiedexp.tie(tiedexp.untie(tied), pattern, layers="shared")
    np.testing.assert_array_equal(again.get_layer("shared").kernel, tied.get_layer("shared").kernel)


def test_the_model_given_stays_as_it_is():
    model = build_two_towers()
    inputs = sample_inputs()
    before = [np.array(variable) for variable in model.variables]
    tied = tiedexp.tie(model, "row", layers="shared")
    for variable in tied.variables:
        variable.assign(np.zeros(variable.shape))
    for kept, variable in zip(before, model.variables, strict=True):
        np.testing.assert_array_equal(kept, variable)
    assert not np.allclose(outputs_of(model, inputs)[0], outputs_of(tied, inputs)[0])


def test_untie_gives_standard_layers_with_the_same_outputs():
    tied = tiedexp.tie(build_two_towers(), "d4")
    plain = tiedexp.untie(tied)
    assert type(plain.get_layer("shared")) is keras.layers.Conv2D
    assert type(plain.get_layer("block").get_layer("depthwise")) is keras.layers.DepthwiseConv2D
    inputs = sample_inputs()
    for ours, theirs in zip(outputs_of(plain, inputs), outputs_of(tied, inputs), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("layers", "names"),
    [
        ("*", {"shared", "small", "depthwise"}),
        ("s*", {"shared", "small"}),
        (["small", "depth*"], {"small", "depthwise"}),
        (lambda layer: layer.kernel_size == (3, 3), {"shared", "depthwise"}),
    ],
)
def test_which_layers_are_tied(layers, names):
    tied = tiedexp.tie(build_two_towers(), "full", layers=layers)
    flat = tied._flatten_layers()
    kinds = (TiedConv2D, TiedDepthwiseConv2D)
    assert {layer.name for layer in flat if isinstance(layer, kinds)} == names


def test_sequential_models_and_layers_that_are_frozen_or_tied_already():
    model = keras.Sequential(
        [
            keras.Input((9, 9, 2)),
            keras.layers.Conv2D(4, 3, strides=2, groups=2, name="first"),
            TiedConv2D(3, "row", 3, name="second"),
            keras.layers.Flatten(),
            keras.layers.Dense(2),
        ]
    )
    model.get_layer("first").trainable = False
    model.compile("sgd", "mse")
    tied = tiedexp.tie(model, "full")
    assert not tied.get_layer("first").trainable
    assert tied.get_layer("second").pattern == Pattern.preset("full", 3)
    assert tied.compiled
    x = RNG.normal(size=(2, 9, 9, 2)).astype("float32")
    np.testing.assert_allclose(tied(x), model(x), rtol=1e-5, atol=1e-6)
    tied.fit(x, np.zeros((2, 2)), verbose=0)


def test_a_model_that_is_not_built_yet():
    tied = tiedexp.tie(keras.Sequential([keras.layers.Conv2D(4, 3)]), "row")
    assert tied(np.ones((1, 5, 5, 2), "float32")).shape == (1, 3, 3, 4)
    assert type(tiedexp.untie(tiedexp.tie(keras.Sequential([keras.layers.Conv2D(4, 3)]), "row")).layers[0]) is (
        keras.layers.Conv2D
    )


def test_a_low_rank_update_is_part_of_the_kernel():
    model = keras.Sequential([keras.Input((6, 6, 2)), keras.layers.Conv2D(4, 3, name="conv")])
    model.get_layer("conv").enable_lora(2)
    model.get_layer("conv").lora_kernel_b.assign(RNG.normal(size=model.get_layer("conv").lora_kernel_b.shape))
    tied = tiedexp.tie(model, "full")
    np.testing.assert_allclose(tied.get_layer("conv").kernel, model.get_layer("conv").kernel, rtol=1e-6)


def test_an_application_of_keras_and_its_gradients():
    keras.utils.set_random_seed(0)
    model = keras.applications.MobileNetV2(weights=None, input_shape=(32, 32, 3), classes=10, alpha=0.35)
    tied = tiedexp.tie(model, "full", layers="*depthwise*")
    assert sum(isinstance(layer, TiedDepthwiseConv2D) for layer in tied.layers) == 17
    images = tf.constant(RNG.uniform(-1, 1, (4, 32, 32, 3)), tf.float32)

    def gradients(of):
        with tf.GradientTape() as tape:
            tape.watch(images)
            outputs = of(images, training=False)
            loss = tf.reduce_sum(outputs[:, 3])
        return outputs, tape.gradient(loss, [images, *(variable.value for variable in of.trainable_variables)])

    outputs, theirs = gradients(model)
    again, ours = gradients(tied)
    np.testing.assert_allclose(again, outputs, rtol=1e-5, atol=1e-7)
    for mine, other in zip(ours, theirs, strict=True):
        scale = float(tf.reduce_max(tf.abs(other))) + 1e-12
        np.testing.assert_allclose(np.ravel(mine), np.ravel(other), atol=1e-5 * scale)


class Custom(keras.Model):
    def call(self, x):
        return x


class OwnConvolution(keras.layers.Conv2D):
    pass


class OwnTied(TiedConv2D):
    def build(self, input_shape):
        super().build(input_shape)
        self.scale = self.add_weight(name="scale", shape=(), initializer="ones")

    def call(self, inputs):
        return super().call(inputs) * self.scale


def test_layers_of_other_classes_are_copied_with_all_their_weights():
    own, plain = OwnTied(3, "row", 3, name="own"), keras.layers.Conv2D(2, 3, name="plain")
    model = keras.Sequential([keras.Input((9, 9, 2)), own, plain])
    own.scale.assign(2.5)
    images = RNG.normal(size=(2, 9, 9, 2)).astype("float32")
    for other in (tiedexp.tie(model, "full"), tiedexp.untie(model)):
        assert type(other.get_layer("own")) is OwnTied
        np.testing.assert_allclose(other(images), model(images), rtol=1e-5, atol=1e-6)


def test_what_cannot_be_tied_is_refused_in_a_sentence():
    model = build_two_towers()
    with pytest.raises(ValueError, match="no convolution's name matches 'conv_9'; the model's convolutions are shared"):
        tiedexp.tie(model, "row", layers=["shared", "conv_9"])
    with pytest.raises(ValueError, match="selects none"):
        tiedexp.tie(model, "row", layers=lambda layer: False)
    with pytest.raises(PatternError, match="layer 'small' cannot be tied: the pattern is 3x3"):
        tiedexp.tie(model, "ABA/BAB/ABA")
    with pytest.raises(PatternError, match="did you mean"):
        tiedexp.tie(model, "rwo")
    with pytest.raises(TypeError, match=r"only Functional and Sequential .* Received: Custom"):
        tiedexp.tie(Custom(), "row")
    with pytest.raises(TypeError, match="Received: Custom"):
        tiedexp.untie(Custom())
    own = keras.Sequential([keras.Input((5, 5, 1)), OwnConvolution(2, 3, name="own")])
    with pytest.raises(ValueError, match="the model's convolutions are none"):
        tiedexp.tie(own, "row")
