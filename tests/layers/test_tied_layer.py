"""The mixin of the tied layers, and the Keras layers into which it is mixed."""

from __future__ import annotations

import keras
import pytest

from tiedexp.layers.tied_conv import TiedConv2D
from tiedexp.layers.tied_depthwise_conv import TiedDepthwiseConv2D
from tiedexp.layers.tied_layer import KerasConvolution, TiedLayer


@pytest.mark.parametrize("layer", [keras.layers.Conv2D(2, 3), keras.layers.DepthwiseConv2D(3, strides=2)])
def test_keras_defines_all_attributes_that_the_mixin_declares(layer):
    layer.build((None, 7, 7, 2))
    assert len(KerasConvolution.__annotations__) == 16
    assert not [name for name in KerasConvolution.__annotations__ if not hasattr(layer, name)]
    for pair in (layer.strides, layer.dilation_rate):
        assert type(pair) is tuple
        assert len(pair) == 2


@pytest.mark.parametrize("kind", [TiedConv2D, TiedDepthwiseConv2D])
def test_the_mixin_comes_before_the_layer_of_keras_and_hides_nothing_of_it_by_accident(kind):
    _, mixin, *others = kind.__mro__
    assert mixin is TiedLayer
    keras_own = set().union(*(vars(base) for base in others if base.__module__.startswith("keras.")))
    assert {name for name in vars(TiedLayer) if not name.startswith("__")} & keras_own <= {"kernel", "quantize"}
