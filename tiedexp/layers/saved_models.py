"""Loading saved models that have tied layers."""

from __future__ import annotations

import os
from typing import Any

import keras


def load_model(path: str | os.PathLike[str], **kwargs: Any) -> keras.Model:
    """Load a Keras model that has tied layers.

    It calls `keras.saving.load_model`, which loads the same files itself once tiedexp is imported.

    Examples:
        >>> import keras, tiedexp
        >>> model = keras.Sequential([keras.Input((28, 28, 1)), tiedexp.TiedConv2D(4, "block", 5)])
        >>> model.save("model.keras")
        >>> tiedexp.load_model("model.keras").layers[0].pattern
        Pattern.parse('AABCC/AABCC/DDEFF/GGHII/GGHII')

    Args:
        path: a `.keras` or `.h5` file.
        **kwargs: the other arguments of `keras.saving.load_model`: `custom_objects`, `compile`, `safe_mode`.

    Returns:
        The model, compiled if it was saved so.

    Raises:
        ValueError: there is no such file, or it holds no model that Keras can load.
    """
    return keras.saving.load_model(path, **kwargs)
