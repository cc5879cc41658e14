"""For tests that look at the clock."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def _nothing_of_other_tests_is_collected() -> Iterator[None]:
    """Else the collector walks all that TensorFlow made in this process, again and again, while the clock runs."""
    gc.freeze()
    yield
    gc.unfreeze()
