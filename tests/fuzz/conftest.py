"""Fixtures for tests that measure time."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def _nothing_of_other_tests_is_collected() -> Iterator[None]:
    """Keep the garbage collector from scanning TensorFlow's objects repeatedly while time is measured."""
    gc.freeze()
    yield
    gc.unfreeze()
