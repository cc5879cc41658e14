"""Sweeps on a real Ray cluster of two nodes."""

from __future__ import annotations

import socket
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest

from tiedexp.errors import RunError
from tiedexp.sweep.local import LocalExecutor
from tiedexp.sweep.observer import SweepObserver
from tiedexp.sweep.planning import plan_sweep
from tiedexp.sweep.ray import RayExecutor
from tiedexp.sweep.variants import load_sweep
from tiedexp.sweep.worker import Outcome, Task

SCRIPT = Path(__file__).with_name("lose_ray_node.py")
HEAD_SCRIPT = SCRIPT.with_name("lose_ray_head.py")
needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="needs Ray: pip install 'tiedexp[ray]'")


@needs_ray
def test_a_sweep_outlives_a_node(write_sweep, train_alone, tmp_path):
    sweep = write_sweep(("[point, rings]", "[point]"), ("epochs: 2", "epochs: 60"), ("seeds: 2", "seeds: 1"))
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
    assert sum("epoch 1:" in text for text in attempts[lost]) == 1  # it resumed and did not start over
    run = next(run for run in plan.runs if run.title == lost)
    assert train_alone(run.directory.path) == run.directory.read_result().test.accuracy


@needs_ray
def test_the_loss_of_the_head_is_said_and_the_sweep_goes_on_later(write_sweep, tmp_path):
    sweep = write_sweep(("[point, rings]", "[point]"), ("epochs: 2", "epochs: 60"), ("seeds: 2", "seeds: 1"))
    done = subprocess.run(
        [sys.executable, HEAD_SCRIPT, sweep, tmp_path / "runs"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "error: the head of the Ray cluster is lost" in done.stderr
    assert "the same command resumes from the last checkpoints" in done.stderr
    assert "Traceback" not in done.stderr
    plan = plan_sweep(load_sweep(sweep), tmp_path / "runs")
    (run,) = [run for run in plan.runs if run.directory.state != "missing"]
    assert run.directory.state == "unfinished"
    results = LocalExecutor(
        1, Task(run.spec, plan.directory.path), retries=0, fail_fast=False, observer=SweepObserver()
    ).run(plan, [run], lambda: False)
    assert results.finished == [run.path]
    assert (run.directory.path / "log.txt").read_text().count("epoch 1:") == 1  # it resumed and did not start over


class RayOfAnotherDisk:
    """A cluster whose workers report that they are finished but write to a directory that this machine cannot see."""

    exceptions = SimpleNamespace(RayError=RuntimeError)

    def __init__(self):
        self.init = self.shutdown = lambda *arguments, **options: None
        self.get = lambda reference: Outcome("finished", accuracy=0.5)
        self.nodes = lambda: [{"Alive": True}]
        self.get_runtime_context = lambda: SimpleNamespace(gcs_address="127.0.0.1:1")

    def remote(self, **options):
        return lambda function: SimpleNamespace(remote=lambda task: object())

    def wait(self, references, **options):
        return references[:1], references[1:]


def test_a_result_that_is_not_here_is_a_failure(write_sweep, make_run, tmp_path, monkeypatch):
    monkeypatch.setattr("tiedexp.sweep.ray._import_ray", RayOfAnotherDisk)
    monkeypatch.setattr("tiedexp.sweep.ray._check_head", lambda address: None)
    monkeypatch.setattr("tiedexp.sweep.ray.SHARE_SECONDS", 0.1)
    plan = plan_sweep(load_sweep(write_sweep()), tmp_path)
    for run, accuracy in zip(plan.runs[1:3], (0.5, 0.25), strict=True):  # the result, and one of an earlier training
        run.directory.path.parent.mkdir(parents=True, exist_ok=True)
        make_run("none", seed=run.spec.seed, test=accuracy, root=tmp_path / str(accuracy)).rename(run.directory.path)
    task = Task(plan.runs[0].spec, tmp_path)
    executor = RayExecutor("", task, num_cpus=1, num_gpus=0, retries=3, fail_fast=False, observer=SweepObserver())
    results = executor.run(plan, plan.runs[:3], lambda: False)
    assert results.finished == [plan.runs[1].path]
    assert list(results.failed) == [plan.runs[0].path, plan.runs[2].path]
    for path, message in results.failed.items():
        assert message == (
            f"a Ray node finished the run, but its result is not in {plan.directory.path / path} on this machine: "
            "--runs must be a directory that all nodes share"
        )


@needs_ray
@pytest.mark.parametrize(
    ("address", "reason"),
    [("127.0.0.1:{free}", "Connection refused"), ("nowhere", "an address has the form HOST:PORT")],
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
        observer=SweepObserver(),
    )
    with pytest.raises(RunError, match=f"no Ray cluster at {address.partition(':')[0]}.*: {reason}"):
        executor.run(plan, plan.runs, lambda: False)


def test_without_ray(write_sweep, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    plan = plan_sweep(load_sweep(write_sweep()), tmp_path)
    task = Task(plan.runs[0].spec, tmp_path)
    executor = RayExecutor("", task, num_cpus=1, num_gpus=0, retries=0, fail_fast=False, observer=SweepObserver())
    with pytest.raises(RunError, match=r"pip install 'tiedexp\[ray\]'"):
        executor.run(plan, plan.runs, lambda: False)
