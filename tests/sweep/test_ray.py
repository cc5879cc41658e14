"""Sweeps on a real Ray cluster of two nodes."""

from __future__ import annotations

import socket
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tiedexp.errors import RunError
from tiedexp.sweep.loading import load_sweep
from tiedexp.sweep.plan import plan_sweep
from tiedexp.sweep.ray import RayExecutor
from tiedexp.sweep.watching import Watcher
from tiedexp.sweep.worker import Task

SCRIPT = Path(__file__).with_name("lose_ray_node.py")
needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="needs Ray: pip install 'tiedexp[ray]'")


@needs_ray
def test_a_sweep_outlives_a_node(write_sweep, train_alone, tmp_path):
    sweep = write_sweep(("[point, rings]", "[point]"), ("epochs: 2", "epochs: 120"), ("seeds: 2", "seeds: 1"))
    done = subprocess.run(
        [sys.executable, SCRIPT, sweep, tmp_path / "runs"], capture_output=True, text=True, timeout=400, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "a node is lost" in done.stdout
    assert "on 2 Ray nodes, 1 CPUs and 0 GPUs each" in done.stdout
    plan = plan_sweep(load_sweep(sweep), tmp_path / "runs")
    assert {run.directory.state for run in plan.runs} == {"finished"}
    attempts = {run.title: (run.directory.path / "log.txt").read_text().split("--- ")[1:] for run in plan.runs}
    (lost,) = [title for title, texts in attempts.items() if len(texts) > 1]  # the run that was on the node
    assert sum("epoch 1:" in text for text in attempts[lost]) == 1  # it went on, and did not begin again
    run = next(run for run in plan.runs if run.title == lost)
    assert train_alone(run.directory.path) == run.directory.read_result()["test"]["accuracy"]


@needs_ray
@pytest.mark.parametrize(
    ("address", "reason"), [("127.0.0.1:{free}", "Connection refused"), ("nowhere", "an address is HOST:PORT")]
)
def test_no_cluster_is_said_at_once(write_sweep, tmp_path, address, reason):
    with socket.create_server(("127.0.0.1", 0)) as server:
        free = server.getsockname()[1]
    plan = plan_sweep(load_sweep(write_sweep()), tmp_path)
    executor = RayExecutor(
        address.replace("{free}", str(free)),
        Task(plan.runs[0].spec, tmp_path),
        num_cpus=1,
        num_gpus=0,
        retries=0,
        fail_fast=False,
        watcher=Watcher(),
    )
    with pytest.raises(RunError, match=f"no Ray cluster at {address.partition(':')[0]}.*: {reason}"):
        executor.run(plan, plan.runs, lambda: False)


def test_without_ray(write_sweep, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    plan = plan_sweep(load_sweep(write_sweep()), tmp_path)
    task = Task(plan.runs[0].spec, tmp_path)
    executor = RayExecutor("", task, num_cpus=1, num_gpus=0, retries=0, fail_fast=False, watcher=Watcher())
    with pytest.raises(RunError, match=r"pip install 'tiedexp\[ray\]'"):
        executor.run(plan, plan.runs, lambda: False)
