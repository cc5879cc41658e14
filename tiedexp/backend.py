"""The backend that Keras computes with, which must be TensorFlow, and its quiet import."""

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


@contextmanager
def quiet_tensorflow() -> Iterator[None]:
    """Import TensorFlow here, without the notices that its C++ code prints before it reads any log level.

    If the import fails, what it printed is printed after all. Warnings that TensorFlow and TFDS log about themselves
    are dropped, errors are not.

    Raises:
        BackendError: Keras has another backend.
        RunError: TensorFlow cannot be imported.
    """
    require_tensorflow()
    if os.path.expanduser("~") == "~":  # noqa: PTH111 - without a home, Keras makes a folder of this name
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
                raise RunError(f"TensorFlow cannot be imported: {reason}; `tiedexp doctor` checks the rest") from error
            finally:
                os.dup2(stderr, 2)
                os.close(stderr)
    yield


def _config_file() -> Path:
    """Where Keras keeps its configuration."""
    home = Path(os.path.expanduser("~"))  # noqa: PTH111 - `Path.home` fails where there is no home directory
    folder = home / ".keras" if os.access(home, os.W_OK) else Path("/tmp/.keras")
    return Path(os.environ.get("KERAS_HOME", folder)) / "keras.json"
