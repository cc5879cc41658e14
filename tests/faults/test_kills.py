"""A few kills, in the ordinary tests; `kill_loop.py` does as many as you want."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "experiments" / "faults" / "kill_loop.py"


@pytest.mark.parametrize(
    "arguments",
    [["--config", "resnet", "--config", "mixup", "--kills", "2"], ["--writes", "--sample", "3"]],
    ids=["moments", "writes"],
)
def test_killed_runs_end_with_the_same_bits(arguments):
    done = subprocess.run(
        [sys.executable, SCRIPT, *arguments], capture_output=True, text=True, timeout=500, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    killed = int(arguments[-1])
    assert f"{killed} killed runs, {killed} identical to the run that was never stopped" in done.stdout


def test_a_killed_sweep_is_completed_with_nothing_lost_done_twice_or_different():
    script = SCRIPT.with_name("sweep_kills.py")
    done = subprocess.run(
        [sys.executable, script, "--kills", "1", "--seed", "3"],
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"1 kills in \d+ sweeps: all runs are there, done once, and identical", done.stdout)
