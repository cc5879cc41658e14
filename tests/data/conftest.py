"""Fixtures of the data tests."""

from __future__ import annotations

import pytest

from tiedexp.training.devices import set_up_process


@pytest.fixture(autouse=True, scope="session")
def threads():
    """TensorFlow as a run sets it up: whole runs that are tested later in this process could not change it any more."""
    set_up_process(threads=None, deterministic=False)
