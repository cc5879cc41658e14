"""How the tied layers compute: as chosen for their sizes when they are built."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from tiedexp.convolution.choosing import Choice
from tiedexp.convolution.costs import BATCH, SIDE, ConvSize
from tiedexp.convolution.measuring import choose_implementation
from tiedexp.convolution.native import count_threads
from tiedexp.convolution.operation import TiedConvolution, resolve
from tiedexp.layers.tied_kernel import TiedKernel


class TiedLayer(TiedKernel):
    """Mixin of the tied layers, which adds a choice to the variable."""

    choice: Choice  # the methods that `implementation` stands for; known once the layer is built

    def choose(self, input_shape: Any, filters: int, groups: int) -> Choice:
        """The fastest methods; for unknown sizes of batch and images, those at usual sizes."""
        layer: Any = self
        last = layer.data_format == "channels_last"
        convolution = self._convolution(Choice())
        sides = [
            side or max(SIDE, convolution.extent(axis))
            for axis, side in enumerate(input_shape[1:3] if last else input_shape[2:4])
        ]
        size = ConvSize(
            batch=input_shape[0] or BATCH,
            input_size=(sides[0], sides[1]),
            output_size=(convolution.output_length(sides[0], 0), convolution.output_length(sides[1], 1)),
            in_channels=input_shape[-1 if last else 1],
            filters=filters,
            strides=tuple(layer.strides),
            dilation=tuple(layer.dilation_rate),
            groups=groups,
            threads=count_threads(),
        )
        return choose_implementation(convolution, size, self.implementation, layer.compute_dtype)

    def is_left_to_keras(self, dtype: Any) -> bool:
        """Whether the layer of Keras may compute the output, from the expanded kernel.

        It may not with channels first on a CPU, where TensorFlow has such a convolution for some processors only.
        """
        layer: Any = self
        runs_there = layer.data_format == "channels_last" or bool(tf.config.get_visible_devices("GPU"))
        return runs_there and resolve(self.choice, dtype).is_expanded

    def convolve(self, inputs: Any, free: Any) -> Any:
        """The output as chosen, activation included, with free weights (groups, in_channels // groups, filters)."""
        layer: Any = self
        first = layer.data_format == "channels_first"
        images = keras.ops.transpose(inputs, (0, 2, 3, 1)) if first else inputs
        outputs = self._convolution(self.choice)(images, free)
        if layer.use_bias:
            outputs = outputs + keras.ops.cast(layer.bias, outputs.dtype)
        outputs = keras.ops.transpose(outputs, (0, 3, 1, 2)) if first else outputs
        return outputs if layer.activation is None else layer.activation(outputs)

    def _convolution(self, choice: Choice) -> TiedConvolution:
        layer: Any = self
        return TiedConvolution(
            self.pattern, choice, tuple(layer.strides), tuple(layer.dilation_rate), layer.padding, self.gradient
        )
