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
    """2D convolution whose kernel's cells share weights by a pattern.

    It is a `keras.layers.Conv2D` and takes all of its arguments. Initializer, regularizer and constraint mean the
    expanded kernel, so a layer behaves like the dense convolution that happens to be tied: the same variance of
    outputs at the start, the same penalty.

    Example:

    >>> layer = TiedConv2D(32, "AABCC/AABCC/DDEFF/GGHII/GGHII", padding="same")
    >>> layer(numpy.ones((4, 28, 28, 3), "float32")).shape
    (4, 28, 28, 32)
    >>> layer.free_kernel.shape, layer.kernel.shape
    ((9, 3, 32), (5, 5, 3, 32))

    Args:
        filters: number of output channels.
        pattern: a `Pattern`, the text of a grid, the name of a preset ("block", with `kernel_size`), or a mapping
            such as `{"preset": "hashed", "groups": 9, "seed": 0}`.
        kernel_size: side, or (rows, cols). Needed by a preset; a grid has its own, and must agree.
        gradient: "sum" gives a weight the sum of its cells' gradients (the chain rule); "mean" their mean, which is
            gradient descent on the untied kernel projected onto the tied ones.
        implementation: "expand" computes the dense kernel and convolves with it; "factored" multiplies sums of the
            input by one weight per group (see `tiedexp.convolution.factoring`), in compiled code, where that can run;
            "auto" chooses the faster one at the layer's sizes, for output, input gradient and weight gradient apart.
            A mapping of the fields of `tiedexp.convolution.choosing.Choice` fixes each. All agree to rounding. While a
            model is exported, the kernel is always expanded, so that other programs can load the result.
        **kwargs: as `keras.layers.Conv2D`: strides, padding, data_format, dilation_rate, groups, activation, ...

    Input shape:
        (batch, rows, cols, channels), or (batch, channels, rows, cols) with `data_format="channels_first"`.

    Output shape:
        As `keras.layers.Conv2D` with the same `kernel_size`.

    Raises:
        PatternError (a ValueError): no such pattern, or one of another size than `kernel_size`.
        ValueError: any other argument out of its range.

    Reference: weight sharing inside a kernel, for example Chen et al. 2023 (arXiv 2206.10555) for blocks; the presets
    name their sources.
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
        """Create the free weights, (groups of the pattern, in_channels // groups, filters), and the bias."""
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
        """The output, activation included."""
        if self.groups == 1 and self.is_left_to_keras(inputs.dtype):
            return super().call(inputs)
        return self.convolve(inputs, self._adapted_free_kernel())

    @property
    def kernel(self) -> Any:
        """The expanded kernel, a tensor (rows, cols, in_channels // groups, filters).

        `kernel.assign` sets it, as that of a standard layer, if the pattern ties what is assigned. With a low-rank
        update it cannot be assigned, as in `keras.layers.Conv2D`.
        """
        if self.lora_enabled:
            return expand_kernel(self._adapted_free_kernel(), self.pattern, self.gradient)
        return super().kernel

    def _adapted_free_kernel(self) -> Any:
        """The free weights with the low-rank update of `enable_lora`, which acts on them and so keeps the tying."""
        free = keras.ops.convert_to_tensor(self.free_kernel)
        if not self.lora_enabled:
            return free
        update = keras.ops.matmul(self.lora_kernel_a, self.lora_kernel_b) * (self.lora_alpha / self.lora_rank)
        return free + keras.ops.cast(update, free.dtype)

    def save_own_variables(self, store: Any) -> None:
        """Save the free weights (a low-rank update merged in) and the bias."""
        if self.built:
            store["0"] = self._adapted_free_kernel()
            if self.use_bias:
                store["1"] = self.bias

    # `load_own_variables` of Conv2D fills `_kernel`, which here holds the free weights: it serves as it is.

    def get_config(self) -> dict[str, Any]:
        """The arguments, for `from_config`."""
        return {**super().get_config(), **self.tying_config()}

    def to_conv2d(self) -> keras.layers.Conv2D:
        """A built `keras.layers.Conv2D` with the same name, arguments and outputs, and the expanded kernel."""
        config = keras.layers.Conv2D.get_config(self)
        for name in ("lora_rank", "lora_alpha"):  # merged into the kernel
            config.pop(name, None)
        dense = keras.layers.Conv2D.from_config(config)
        free = self._adapted_free_kernel()
        return self.fill(dense, free, free.shape[1] * self.groups)
