"""Fixtures shared by all tests."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# Tests must not see, or write into, the runs and data of whoever runs them.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
for variable in ("TIEDEXP_RUNS", "TFDS_DATA_DIR"):
    os.environ.pop(variable, None)
# Choices by the estimate alone, so that they are the same on every machine; the tests of measuring ask for it.
os.environ["TIEDEXP_MEASURE"] = "0"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real MNIST and CIFAR-10 beside the checkout; the tests that need them are skipped where they are not."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("needs the real data in ../shared/data, which is not there")
    return folder


@pytest.fixture(autouse=True)
def _no_determinism_left_behind() -> Iterator[None]:
    """A whole run asks TensorFlow for deterministic operations; tests after it in this process must not get them."""
    yield
    if "tensorflow" in sys.modules:
        from tensorflow.python.framework import config

        if config.is_op_determinism_enabled():
            config.disable_op_determinism()
