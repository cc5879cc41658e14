"""A step that does not fit into memory is refused before anything is made; the estimate is a lower bound."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tiedexp.errors import RunError
from tiedexp.experiment import limits
from tiedexp.experiment.run import run_experiment

PEAK = """
import json, sys
from pathlib import Path
from tiedexp.experiment import limits, run
from tiedexp.spec.schema import ExperimentSpec

def status(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(name)).split()[1])

counted = []
limits._check_memory = lambda needed, *_: counted.append((needed, status("VmRSS")))
run.run_experiment(ExperimentSpec.model_validate(json.loads(sys.argv[1])), root=Path(sys.argv[2]))
((needed, before),) = counted
print(needed, status("VmHWM") - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
def test_what_is_counted_is_less_than_what_a_step_takes_and_not_far_less(make_spec, tmp_path, precision):
    spec = make_spec(
        dataset={"image_size": 32},
        model={"width": 48, "kernel_size": 5, "tying": {"pattern": "block"}, "dropout": 0.0},
        training={"epochs": 1, "batch_size": 256, "steps_per_epoch": 2, "precision": precision},
    )
    command = [sys.executable, "-c", PEAK, json.dumps(spec.model_dump(mode="json", exclude_none=True)), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    counted, taken = map(int, done.stdout.split())
    assert taken / 10 < counted < taken


def test_a_step_that_does_not_fit_is_refused_before_anything_is_made(make_spec, tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "find_memory", lambda: 2**28)
    spec = make_spec(dataset={"limit": None}, model={"width": 400}, training={"batch_size": 1000, "epochs": 1})
    with pytest.raises(
        RunError, match=r"need about 0\.\d GiB of memory; there are 0\.2; a smaller training.batch_size"
    ):
        run_experiment(spec, root=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()
