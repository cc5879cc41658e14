"""Small sweeps on the built-in digits."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

SWEEP = """\
name: small-sweep
base:
  name: base
  dataset: {name: digits, limit: 200}
  model: {depth: 2, width: 4, kernel_size: 3}
  training: {epochs: 2, batch_size: 50, threads: 1}
grid:
  model.tying.pattern: [point, rings]
list:
  - {name: untied}
seeds: 2
baseline: untied
"""


@pytest.fixture
def write_sweep(tmp_path) -> Callable[..., Path]:
    """Writes the small sweep, with parts of its text replaced: `write_sweep(("seeds: 2", "seeds: 3"))`."""

    def write(*changes: tuple[str, str], name: str = "sweep.yaml") -> Path:
        text = SWEEP
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.fixture
def train_alone(tmp_path) -> Callable[[Path], float]:
    """Runs `tiedexp train` on a run's spec, in another directory and process, and returns the test accuracy."""

    def train(run: Path) -> float:
        code = "from tiedexp.cli import main; main()"
        command = [sys.executable, "-c", code, "train", run / "spec.yaml", "--runs", tmp_path / "alone", "--json"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
        return json.loads(done.stdout)["test"]["accuracy"]

    return train
