"""The backend of Keras, which must be TensorFlow, and how TensorFlow is imported quietly."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile

from tiedexp.errors import BackendError, RunError

NEEDED = "tensorflow"


def require_tensorflow() -> None:
    """Check that Keras uses TensorFlow, or will use it once it is imported.

    Raises:
        BackendError: Keras uses another backend.
    """
    backend, source = find_backend()
    if backend == NEEDED:
        return
    again = " before Python starts" if "keras" in sys.modules else ""
    raise BackendError(
        f"tiedexp needs the TensorFlow backend of Keras, but {source} selects '{backend}': "
        f"set the environment variable KERAS_BACKEND={NEEDED}{again}"
    )


def find_backend() -> tuple[str, str]:
    """The name of the backend, and what selects it.

    Keras chooses its backend when it is imported, from the environment or its configuration file. Before that, this
    function reads the same sources, because importing Keras fails if the backend is not installed.
    """
    keras = sys.modules.get("keras")
    if keras is not None and hasattr(keras, "config"):
        return keras.config.backend(), "the Keras that is already loaded"
    if os.environ.get("KERAS_BACKEND"):
        return os.environ["KERAS_BACKEND"], "the environment variable KERAS_BACKEND"
    path = _config_file()
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["backend"]), str(path)
    except (OSError, ValueError, KeyError, TypeError):
        return NEEDED, "the default of Keras"


@contextmanager
def quiet_tensorflow() -> Iterator[None]:
    """Import TensorFlow without the notices that its C++ code prints before it reads the log level.

    If the import fails, the notices are printed after all. Warnings that TensorFlow and TFDS log are dropped, but
    their errors are not.

    Raises:
        BackendError: Keras uses another backend.
        RunError: TensorFlow cannot be imported.
    """
    require_tensorflow()
    if os.path.expanduser("~") == "~":  # noqa: PTH111 - without a home directory, Keras would create a folder named ~
        os.environ.setdefault("KERAS_HOME", os.devnull)
    for name in ("absl", "tensorflow"):
        logging.getLogger(name).setLevel(logging.ERROR)
    if "tensorflow" not in sys.modules:
        sys.stderr.flush()
        stderr = os.dup(2)
        with TemporaryFile() as printed:
            os.dup2(printed.fileno(), 2)
            try:
                import tensorflow as tf  # noqa: F401
            except ImportError as error:
                printed.seek(0)
                os.write(stderr, printed.read())
                reason = str(error).strip().splitlines()[0]
                raise RunError(
                    f"TensorFlow cannot be imported: {reason}; `tiedexp doctor` checks the installation"
                ) from error
            finally:
                os.dup2(stderr, 2)
                os.close(stderr)
    yield


def _config_file() -> Path:
    """The configuration file of Keras."""
    home = Path(os.path.expanduser("~"))  # noqa: PTH111 - `Path.home` fails without a home directory
    folder = home / ".keras" if os.access(home, os.W_OK) else Path("/tmp/.keras")
    return Path(os.environ.get("KERAS_HOME", folder)) / "keras.json"
