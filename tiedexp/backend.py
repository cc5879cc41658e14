"""Which backend Keras computes with: tiedexp needs TensorFlow. Keras itself is not imported here."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from tiedexp.errors import BackendError

NEEDED = "tensorflow"


def require_tensorflow() -> None:
    """Refuse to go on where Keras computes, or would compute, with another backend.

    Raises:
        BackendError: it does.
    """
    backend, source = find_backend()
    if backend == NEEDED:
        return
    again = " before Python starts" if "keras" in sys.modules else ""
    raise BackendError(
        f"tiedexp needs Keras's TensorFlow backend, but {source} selects '{backend}': "
        f"set the environment variable KERAS_BACKEND={NEEDED}{again}"
    )


def find_backend() -> tuple[str, str]:
    """The name of the backend, and what selects it.

    Keras decides when it is imported, from the environment or its configuration file. Before that the answer comes
    from the same places, since importing Keras with a backend that is not installed fails.
    """
    keras = sys.modules.get("keras")
    if keras is not None and hasattr(keras, "config"):
        return keras.config.backend(), "the Keras that is loaded"
    if os.environ.get("KERAS_BACKEND"):
        return os.environ["KERAS_BACKEND"], "the environment variable KERAS_BACKEND"
    path = _config_file()
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["backend"]), str(path)
    except (OSError, ValueError, KeyError, TypeError):
        return NEEDED, "Keras's default"


def _config_file() -> Path:
    """Where Keras keeps its configuration."""
    home = Path(os.path.expanduser("~"))  # noqa: PTH111 - `Path.home` fails where there is no home directory
    folder = home / ".keras" if os.access(home, os.W_OK) else Path("/tmp/.keras")
    return Path(os.environ.get("KERAS_HOME", folder)) / "keras.json"
