"""TiedDepthwiseConv2D: `keras.layers.DepthwiseConv2D` with a kernel tied by any pattern."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras

from tiedexp.layers.tied_layer import TiedLayer, resolve_pattern
from tiedexp.patterns.grid import Pattern


@keras.saving.register_keras_serializable(package="tiedexp")
class TiedDepthwiseConv2D(TiedLayer, keras.layers.DepthwiseConv2D):
    """Depthwise 2D convolution whose kernels' cells share weights by a pattern.

    It is a `keras.layers.DepthwiseConv2D` and takes all of its arguments; tying follows the rules of `TiedConv2D`.

    Args:
        pattern: a `Pattern`, the text of a grid, the name of a preset, or a mapping with its options.
        kernel_size: side, or (rows, cols). Needed by a preset; a grid has its own, and must agree.
        gradient: "sum" or "mean", as in `TiedConv2D`.
        implementation: as in `TiedConv2D`. With `depth_multiplier` above 1, or strides and dilation at once, the
            kernel is always expanded.
        **kwargs: as `keras.layers.DepthwiseConv2D`: strides, padding, depth_multiplier, data_format, ...

    Input shape:
        (batch, rows, cols, channels), or (batch, channels, rows, cols) with `data_format="channels_first"`.

    Output shape:
        As `keras.layers.DepthwiseConv2D`: channels x depth_multiplier channels.

    Raises:
        PatternError (a ValueError): no such pattern, or one of another size than `kernel_size`.
        ValueError: any other argument out of its range.
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
        """Create the free weights, (groups of the pattern, channels, depth_multiplier), and the bias."""
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
        """The output, activation included."""
        if self.is_left_to_keras(inputs.dtype):
            return super().call(inputs)
        free = keras.ops.convert_to_tensor(self.free_kernel)  # (groups of the pattern, channels, multiplier)
        return self.convolve(inputs, keras.ops.reshape(free, (free.shape[0], 1, -1)))  # a group for each channel

    def get_config(self) -> dict[str, Any]:
        """The arguments, for `from_config`."""
        return {**super().get_config(), **self.tying_config()}

    def to_depthwise_conv2d(self) -> keras.layers.DepthwiseConv2D:
        """A built `keras.layers.DepthwiseConv2D` with the same name, arguments and outputs."""
        dense = keras.layers.DepthwiseConv2D.from_config(keras.layers.DepthwiseConv2D.get_config(self))
        return self.fill(dense, self.free_kernel, self.free_kernel.shape[1])
