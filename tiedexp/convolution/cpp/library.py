"""The compiled operations, loaded into TensorFlow."""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import tensorflow as tf

from tiedexp.convolution.cpp.cache import note_loadable, note_unloadable
from tiedexp.convolution.cpp.compiler import Built, build_library, version_of


class Library(NamedTuple):
    """The operations and the version of their code; or None for both, and the reason, in a few words."""

    operations: Any
    version: str | None
    obstacle: str = ""


@cache
def load_library() -> Library:
    """The library, which is compiled if necessary. If it does not load, it is compiled once more."""
    built = build_library()
    loaded = _load(built)
    if built.library is not None and loaded.operations is None and note_unloadable(built.library):
        loaded = _load(build_library(again=True))
        if loaded.operations is not None:
            note_loadable(built.library)
    return loaded


def find_version() -> str | None:
    """The version of the compiled code that runs in this process; None if none does."""
    return load_library().version


def find_obstacle() -> str:
    """Why no compiled code runs in this process; empty if it does."""
    return load_library().obstacle


def _load(built: Built) -> Library:
    if built.library is None:
        return Library(None, None, built.obstacle)
    try:
        return Library(tf.load_op_library(str(built.library)), version_of(built.library))
    except (OSError, tf.errors.OpError) as error:
        reason = str(getattr(error, "message", None) or error).strip() or type(error).__name__
        return Library(None, None, f"{built.library} was compiled but does not load: {reason.splitlines()[0]}")
