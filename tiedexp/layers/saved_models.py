"""Loading models that have tied layers."""

from __future__ import annotations

import os
from typing import Any

import keras


def load_model(path: str | os.PathLike[str], **kwargs: Any) -> keras.Model:
    """`keras.saving.load_model`, with the layers of tiedexp registered.

    After `import tiedexp`, Keras's own function loads the same files.

    Args:
        path: a `.keras` or `.h5` file.
        **kwargs: as `keras.saving.load_model`: custom_objects, compile, safe_mode.
    """
    return keras.saving.load_model(path, **kwargs)
