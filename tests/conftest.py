"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# Tests must not see, or write into, the runs and data of whoever runs them.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
for variable in ("TIEDEXP_RUNS", "TFDS_DATA_DIR"):
    os.environ.pop(variable, None)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real MNIST and CIFAR-10 beside the checkout; the tests that need them are skipped where they are not."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("needs the real data in ../shared/data, which is not there")
    return folder
