"""TiedDepthwiseConv2D: `keras.layers.DepthwiseConv2D` with a kernel tied by any pattern."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras

from tiedexp.layers.tied_layer import TiedLayer, resolve_pattern
from tiedexp.patterns.grid import Pattern


@keras.saving.register_keras_serializable(package="tiedexp")
class TiedDepthwiseConv2D(TiedLayer, keras.layers.DepthwiseConv2D):
    """Depthwise 2D convolution layer whose kernels' cells share weights by a pattern.

    Like `keras.layers.DepthwiseConv2D`, which it subclasses, this layer convolves each input channel with kernels of
    its own, `depth_multiplier` of them. Each kernel has one trainable weight per group of the pattern. The initializer,
    regularizer and constraint apply to the expanded kernel, as in `TiedConv2D`.

    Examples:
        >>> import numpy as np
        >>> from tiedexp import TiedDepthwiseConv2D
        >>> layer = TiedDepthwiseConv2D("rings", kernel_size=7, depth_multiplier=2, padding="same")
        >>> print(layer(np.ones((4, 28, 28, 3), "float32")).shape)
        (4, 28, 28, 6)
        >>> print(layer.free_kernel.shape, layer.kernel.shape)
        (4, 3, 2) (7, 7, 3, 2)

    Args:
        pattern: a `Pattern`, a grid as text, the name of a preset (which needs `kernel_size`), or a mapping with the
            preset's options, e.g. `{"preset": "hashed", "groups": 9, "seed": 0}`.
        kernel_size: the side of a square kernel, or its (rows, cols). A preset needs it. A grid has its own size, with
            which `kernel_size` must agree if it is given.
        gradient: "sum" or "mean" of the gradients of a group's cells, see `TiedConv2D`.
        implementation: "auto", "expand", "factored", or a mapping, see `TiedConv2D`. With a `depth_multiplier` above 1,
            or with both strides and dilation, the kernel is always expanded.
        **kwargs: the other arguments of `keras.layers.DepthwiseConv2D`: `strides`, `padding`, `depth_multiplier`,
            `data_format`, `dilation_rate`, `activation`, `use_bias`, `depthwise_initializer`, `bias_initializer`,
            `depthwise_regularizer`, `bias_regularizer`, `activity_regularizer`, `depthwise_constraint`,
            `bias_constraint`, `name`, `dtype`, ...

    Input shape:
        A 4D tensor (batch, rows, cols, channels), or (batch, channels, rows, cols) with
        `data_format="channels_first"`. Batch, rows and columns can be unknown when the layer is built.

    Output shape:
        A 4D tensor (batch, new_rows, new_cols, channels * depth_multiplier), or
        (batch, channels * depth_multiplier, new_rows, new_cols) with `data_format="channels_first"`: the same as that
        of `keras.layers.DepthwiseConv2D` with this `kernel_size`.

    Raises:
        PatternError: there is no such pattern, or it does not have this `kernel_size`. It is a `ValueError`.
        ValueError: another argument has a wrong value.
    """

    def __init__(
        self,
        pattern: Pattern | str | Mapping[str, Any],
        kernel_size: int | Sequence[int] | None = None,
        *,
        gradient: str = "sum",
        implementation: str | Mapping[str, Any] = "auto",
        **kwargs: Any,
    ):
        resolved = resolve_pattern(pattern, kernel_size, gradient, implementation)
        super().__init__(resolved.shape, **kwargs)
        self.set_tying(resolved, gradient, implementation)

    def build(self, input_shape: Any) -> None:
        """Create the free weights, (tied_groups, channels, depth_multiplier), and the bias.

        Raises:
            ValueError: the number of channels is unknown, or the input is too small.
        """
        channels = self.input_channels(input_shape)
        self.compute_output_shape(input_shape)  # refuses inputs too small for the kernel
        self.add_free_kernel(
            (channels, self.depth_multiplier),
            self.depthwise_initializer,
            self.depthwise_regularizer,
            self.depthwise_constraint,
        )
        self.add_bias(channels * self.depth_multiplier)
        if self.depth_multiplier == 1 and 1 in (max(self.strides), max(self.dilation_rate)):
            self.choose(input_shape, channels, channels)
        self.built = True

    def call(self, inputs: Any) -> Any:
        """The output of the layer, after the activation."""
        if self.is_left_to_keras(inputs.dtype):
            return super().call(inputs)
        free = keras.ops.convert_to_tensor(self.free_kernel)  # (tied_groups, channels, depth_multiplier)
        return self.convolve(inputs, keras.ops.reshape(free, (free.shape[0], 1, -1)))  # one channel group per channel

    def get_config(self) -> dict[str, Any]:
        """The arguments of the layer, from which `from_config` makes it again."""
        return {**super().get_config(), **self.tying_config()}

    def to_depthwise_conv2d(self) -> keras.layers.DepthwiseConv2D:
        """Convert the layer to a `keras.layers.DepthwiseConv2D` with the same outputs.

        Returns:
            A built layer with the same name and arguments, and the expanded kernel.

        Raises:
            AttributeError: this layer is not built yet.
        """
        dense = keras.layers.DepthwiseConv2D.from_config(keras.layers.DepthwiseConv2D.get_config(self))
        return self.fill(dense, self.free_kernel, self.free_kernel.shape[1])
