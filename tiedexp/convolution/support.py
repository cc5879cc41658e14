"""What the device can do, found out by trying."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf


def is_supported(operation: Callable[[], Any]) -> bool:
    """Whether the device has a kernel for an operation, which is run at once, outside of any graph being built."""
    with tf.init_scope():
        try:
            operation()
        except (tf.errors.InvalidArgumentError, tf.errors.UnimplementedError):
            return False
    return True
