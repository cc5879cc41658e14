"""PaddedShortcut, which Keras needs to load ResNets saved by tiedexp 0.1.0."""

from __future__ import annotations

from typing import Any

import keras


@keras.saving.register_keras_serializable(package="tiedexp")
class PaddedShortcut(keras.layers.Layer):
    """The shortcut without weights of a ResNet saved by tiedexp 0.1.0; now Keras's own layers are used instead.

    Args:
        filters: number of output channels.
        strides: distance between the pixels that are kept.

    Input shape:
        (batch, rows, cols, channels)

    Output shape:
        (batch, ceil(rows / strides), ceil(cols / strides), filters)
    """

    def __init__(self, filters: int, strides: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.filters = filters
        self.strides = strides

    def call(self, x: Any) -> Any:
        """Subsample and pad."""
        missing = self.filters - x.shape[-1]
        x = x[:, :: self.strides, :: self.strides, :]
        return keras.ops.pad(x, [(0, 0), (0, 0), (0, 0), (missing // 2, missing - missing // 2)])

    def get_config(self) -> dict[str, Any]:
        """The arguments of the layer, from which `from_config` makes it again."""
        return {**super().get_config(), "filters": self.filters, "strides": self.strides}
