"""TiedConv2D: `keras.layers.Conv2D` with a kernel tied by any pattern."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras

from tiedexp.convolution.kernel import expand_kernel
from tiedexp.layers.tied_layer import TiedLayer, resolve_pattern
from tiedexp.patterns.grid import Pattern


@keras.saving.register_keras_serializable(package="tiedexp")
class TiedConv2D(TiedLayer, keras.layers.Conv2D):
    """2D convolution layer whose kernel's cells share weights by a pattern.

    Like `keras.layers.Conv2D`, which it subclasses, this layer convolves its input with a kernel, adds a bias, and
    applies an activation. Its kernel has one trainable weight per group of the pattern for each pair of input channel
    and filter; all cells of a group have the value of that weight, or its negative.

    The initializer, regularizer and constraint of the kernel apply to the expanded kernel, so a layer behaves like a
    dense convolution that happens to be tied: its outputs start with the same variance, and it has the same penalty.

    Examples:
        >>> import numpy as np
        >>> from tiedexp import TiedConv2D
        >>> layer = TiedConv2D(32, "AABCC/AABCC/DDEFF/GGHII/GGHII", padding="same", activation="relu")
        >>> print(layer(np.ones((4, 28, 28, 3), "float32")).shape)
        (4, 28, 28, 32)
        >>> print(layer.free_kernel.shape, layer.kernel.shape)
        (9, 3, 32) (5, 5, 3, 32)
        >>> TiedConv2D(32, "block", kernel_size=5).pattern == layer.pattern
        True

    Args:
        filters: number of output channels.
        pattern: a `Pattern`, a grid as text, the name of a preset (which needs `kernel_size`), or a mapping with the
            preset's options, e.g. `{"preset": "hashed", "groups": 9, "seed": 0}`.
        kernel_size: the side of a square kernel, or its (rows, cols). A preset needs it. A grid has its own size, with
            which `kernel_size` must agree if it is given.
        gradient: how the gradients of a group's cells make up the gradient of its weight. "sum" adds them, which is
            the chain rule. "mean" averages them, which is gradient descent on the untied kernel, projected onto the
            tied kernels.
        implementation: how the layer computes. "expand" convolves with the expanded kernel. "factored" multiplies sums
            of the input by one weight per group (see `tiedexp.convolution.factoring`), in compiled code, wherever that
            can run. "auto" chooses the faster method at the layer's sizes, for the output, the input gradient and the
            weight gradient separately. A mapping of the fields of `tiedexp.convolution.choosing.Choice` sets each. All
            give the same result up to rounding. While a model is exported, the kernel is always expanded, so that
            other programs can load the result.
        **kwargs: the other arguments of `keras.layers.Conv2D`: `strides`, `padding`, `data_format`, `dilation_rate`,
            `groups` (of channels), `activation`, `use_bias`, `kernel_initializer`, `bias_initializer`,
            `kernel_regularizer`, `bias_regularizer`, `activity_regularizer`, `kernel_constraint`, `bias_constraint`,
            `name`, `dtype`, ...

    Input shape:
        A 4D tensor (batch, rows, cols, channels), or (batch, channels, rows, cols) with
        `data_format="channels_first"`. Batch, rows and columns can be unknown when the layer is built.

    Output shape:
        A 4D tensor (batch, new_rows, new_cols, filters), or (batch, filters, new_rows, new_cols) with
        `data_format="channels_first"`: the same as that of `keras.layers.Conv2D` with this `kernel_size`.

    Raises:
        PatternError: there is no such pattern, or it does not have this `kernel_size`. It is a `ValueError`.
        ValueError: another argument has a wrong value.

    Reference:
        Weight sharing inside a kernel, e.g. by blocks: Chen et al. 2023, arXiv 2206.10555. The source of each preset is
        shown by `tiedexp pattern show NAME`.
    """

    def __init__(
        self,
        filters: int,
        pattern: Pattern | str | Mapping[str, Any],
        kernel_size: int | Sequence[int] | None = None,
        *,
        gradient: str = "sum",
        implementation: str | Mapping[str, Any] = "auto",
        **kwargs: Any,
    ):
        resolved = resolve_pattern(pattern, kernel_size, gradient, implementation)
        super().__init__(filters, resolved.shape, **kwargs)
        self.set_tying(resolved, gradient, implementation)

    def build(self, input_shape: Any) -> None:
        """Create the free weights, (tied_groups, in_channels // groups, filters), and the bias.

        Raises:
            ValueError: the number of channels is unknown or no multiple of `groups`, or the input is too small.
        """
        in_channels = self.input_channels(input_shape)
        if in_channels % self.groups:
            raise ValueError(
                "The number of input channels must be a multiple of `groups`. "
                f"Received: groups={self.groups}, input shape {tuple(input_shape)}"
            )
        self.compute_output_shape(input_shape)  # refuses inputs too small for the kernel
        self.add_free_kernel(
            (in_channels // self.groups, self.filters),
            self.kernel_initializer,
            self.kernel_regularizer,
            self.kernel_constraint,
        )
        self.add_bias(self.filters)
        self.choose(input_shape, self.filters, self.groups)
        self.built = True
        if self.lora_rank:
            self.enable_lora(self.lora_rank, lora_alpha=self.lora_alpha)

    def call(self, inputs: Any) -> Any:
        """The output of the layer, after the activation."""
        if self.groups == 1 and self.is_left_to_keras(inputs.dtype):
            return super().call(inputs)
        return self.convolve(inputs, self._adapted_free_kernel())

    @property
    def kernel(self) -> Any:
        """The expanded kernel, a tensor (rows, cols, in_channels // groups, filters).

        `kernel.assign(value)` sets the free weights from an expanded kernel; `value` must be tied by the pattern. As
        in `keras.layers.Conv2D`, it does not work after `enable_lora`.
        """
        if self.lora_enabled:
            return expand_kernel(self._adapted_free_kernel(), self.pattern, self.gradient)
        return super().kernel

    def _adapted_free_kernel(self) -> Any:
        """The free weights, plus the low-rank update of `enable_lora`, which therefore keeps the tying."""
        free = keras.ops.convert_to_tensor(self.free_kernel)
        if not self.lora_enabled:
            return free
        update = keras.ops.matmul(self.lora_kernel_a, self.lora_kernel_b) * (self.lora_alpha / self.lora_rank)
        return free + keras.ops.cast(update, free.dtype)

    def save_own_variables(self, store: Any) -> None:
        """Save the bias and the free weights, into which a low-rank update is merged."""
        if self.built:
            store["0"] = self._adapted_free_kernel()
            if self.use_bias:
                store["1"] = self.bias

    # `load_own_variables` of Conv2D sets `_kernel`, which holds the free weights here, so it needs no override.

    def get_config(self) -> dict[str, Any]:
        """The arguments of the layer, from which `from_config` makes it again."""
        return {**super().get_config(), **self.tying_config()}

    def to_conv2d(self) -> keras.layers.Conv2D:
        """Convert the layer to a `keras.layers.Conv2D` with the same outputs.

        Returns:
            A built layer with the same name and arguments, and the expanded kernel.

        Raises:
            AttributeError: this layer is not built yet.
        """
        config = keras.layers.Conv2D.get_config(self)
        for name in ("lora_rank", "lora_alpha"):  # merged into the kernel
            config.pop(name, None)
        dense = keras.layers.Conv2D.from_config(config)
        free = self._adapted_free_kernel()
        return self.fill(dense, free, free.shape[1] * self.groups)
