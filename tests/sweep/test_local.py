"""A sweep on this machine: real processes, forked from one that has imported TensorFlow."""

from __future__ import annotations

import os
import signal
import time

import pytest

from tiedexp import host
from tiedexp.experiment import limits
from tiedexp.host import count_cores
from tiedexp.sweep import local
from tiedexp.sweep.estimate import estimate_runs
from tiedexp.sweep.local import LocalExecutor, choose_jobs, deal_gpus, find_gpus
from tiedexp.sweep.observer import SweepObserver
from tiedexp.sweep.planning import plan_sweep
from tiedexp.sweep.variants import load_sweep
from tiedexp.sweep.worker import Task


class Recorder(SweepObserver):
    """Records all events; `on_progress` is called with each progress."""

    def __init__(self, on_progress=lambda run: None):
        self.events, self.on_progress = [], on_progress

    def begins(self, plan, todo, workers):
        self.workers = workers

    def started(self, run):
        self.events.append(("started", run.title))

    def progressed(self, run, progress):
        assert 0 < progress.share <= 1
        self.events.append(("progressed", run.title))
        self.on_progress(run)

    def waits(self, run):
        self.events.append(("waits", run.title))

    def retries(self, run, message):
        self.events.append(("retries", run.title))

    def finished(self, run, accuracy):
        assert accuracy == run.directory.read_result().test.accuracy
        self.events.append(("finished", run.title))

    def failed(self, run, message):
        self.events.append(("failed", run.title))

    def of(self, kind):
        return [title for event, title in self.events if event == kind]


@pytest.fixture
def make_plan(write_sweep, tmp_path):
    return lambda *overrides: plan_sweep(load_sweep(write_sweep(), overrides), tmp_path / "runs")


def run_sweep(plan, recorder=None, *, jobs=2, runs=None, retries=0, fail_fast=False, should_stop=lambda: False, **task):
    recorder = recorder or Recorder()
    executor = LocalExecutor(
        jobs,
        Task(plan.runs[0].spec, plan.directory.path, **task),
        retries=retries,
        fail_fast=fail_fast,
        observer=recorder,
    )
    return executor.run(plan, plan.runs if runs is None else runs, should_stop), recorder


def test_all_runs_give_the_same_result_as_alone(make_plan, train_alone):
    plan = make_plan()
    results, seen = run_sweep(plan)
    assert sorted(results.finished) == sorted(run.path for run in plan.runs)
    assert not results.failed
    assert seen.workers == f"2 at a time, {max(1, count_cores() // 2)} threads each".replace("1 threads", "1 thread")
    assert sorted(seen.of("finished")) == sorted(run.title for run in plan.runs)
    assert {run.directory.state for run in plan.runs} == {"finished"}
    run = plan.runs[0]
    assert "finished" in (run.directory.path / "log.txt").read_text()
    assert train_alone(run.directory.path) == run.directory.read_result().test.accuracy
    estimate = estimate_runs(plan, plan.runs, None, jobs=1)[run.path]
    assert estimate.seconds == pytest.approx(
        sum(each.directory.read_result().seconds for each in plan.runs[:2]) / 2, rel=1e-6
    )


def test_a_worker_that_is_killed_is_a_failure_of_its_run_alone(make_plan):
    plan = make_plan("training.epochs=200")
    victim, others = plan.runs[0], make_plan().runs[2:4]

    def kill(run):
        log = (run.directory.path / "log.txt").read_text()
        if run.path == victim.path:
            os.kill(int(log.split("process ")[-1].split()[0]), signal.SIGKILL)

    results, seen = run_sweep(plan, Recorder(kill), runs=[victim, *others])
    (message,) = results.failed.values()
    assert "its process was killed by SIGKILL, possibly out of memory; see " in message
    assert seen.of("failed") == [victim.title]
    assert victim.directory.state == "failed"
    assert victim.directory.read_failure() == message
    assert sorted(results.finished) == sorted(run.path for run in others)


def test_a_run_that_fails_is_tried_again_and_goes_on(make_plan):
    plan = make_plan("training.epochs=30")
    run, killed = plan.runs[0], []

    def kill_once(run):
        if not killed and (run.directory.path / "checkpoints").is_dir():
            killed.append(run.title)
            log = (run.directory.path / "log.txt").read_text()
            os.kill(int(log.split("process ")[-1].split()[0]), signal.SIGKILL)

    results, seen = run_sweep(plan, Recorder(kill_once), runs=[run], retries=1)
    assert killed
    assert seen.of("retries") == [run.title]
    assert results.finished == [run.path]
    assert not run.directory.inside("failure.json").exists()


def test_a_loss_that_diverges_is_not_tried_again(make_plan):
    plan = make_plan("training.optimizer={name: sgd, learning_rate: 1e30}")
    results, seen = run_sweep(plan, runs=plan.runs[:1], retries=3)
    assert list(results.failed) == [plan.runs[0].path]
    assert not seen.of("retries")
    assert len(seen.of("started")) == 1
    assert "--- " in (plan.runs[0].directory.path / "log.txt").read_text()


def test_fail_fast_stops_the_others(make_plan):
    good = make_plan("training.epochs=2000").runs[2]
    plan = make_plan("training.optimizer={name: sgd, learning_rate: 1e30}")
    results, seen = run_sweep(plan, runs=[good, plan.runs[0], *plan.runs[1:]], fail_fast=True)
    assert list(results.failed) == [plan.runs[0].path]
    assert not results.finished
    assert len(seen.of("started")) == 2
    assert good.directory.state == "unfinished"


def test_asked_to_stop_each_run_keeps_a_checkpoint_and_goes_on_later(make_plan):
    plan = make_plan("training.epochs=40")
    runs, seen_enough = plan.runs[:3], []
    results, seen = run_sweep(
        plan, Recorder(lambda run: seen_enough.append(run)), runs=runs, should_stop=lambda: len(seen_enough) > 2
    )
    assert results.interrupted
    assert not results.failed
    assert len(seen.of("started")) == 2
    stopped = [run for run in runs if run.directory.state == "unfinished"]
    assert stopped
    assert all(list(run.directory.checkpoints.glob("*.h5")) for run in stopped)
    results, _ = run_sweep(plan, runs=runs)
    assert len(results.finished) == 3
    log = (stopped[0].directory.path / "log.txt").read_text()
    assert log.count("epoch 1:") == 1  # it went on, and did not begin again


def test_a_run_that_another_process_is_in_is_waited_for(make_plan):
    plan = make_plan()
    waited = []

    class Releasing(Recorder):
        def waits(self, run):
            super().waits(run)
            if not waited:
                waited.append(time.monotonic())
                lock.__exit__(None, None, None)

    lock = plan.runs[0].directory.lock()
    lock.__enter__()
    results, seen = run_sweep(plan, Releasing(), runs=plan.runs[:1])
    assert seen.of("waits")
    assert results.finished == [plan.runs[0].path]


def test_threads_of_a_run_that_was_begun_stay(make_plan):
    plan = make_plan("training.threads=null", "training.epochs=60")
    run, seen = plan.runs[0], []
    results, _ = run_sweep(plan, Recorder(seen.append), jobs=2, runs=[run], should_stop=lambda: bool(seen))
    before = run.directory.read_manifest().threads
    assert results.interrupted
    short = make_plan("training.threads=null", "training.epochs=60").runs[0]
    results, _ = run_sweep(plan, Recorder(), jobs=1, runs=[short])
    assert results.finished == [run.path]  # without --allow-inexact
    assert run.directory.read_manifest().threads == before


def test_gpus_are_dealt_to_slots(monkeypatch):
    assert deal_gpus([], 2) == [None, None]
    assert deal_gpus(["0", "1", "2", "3"], 2) == [("0", "2"), ("1", "3")]
    assert deal_gpus(["0", "1"], 3) == [("0",), ("1",), ("0",)]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    assert find_gpus() == ("3", "5")
    assert choose_jobs(10) == 2
    assert choose_jobs(1) == 1
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert find_gpus() == ()


def test_gpus_as_the_driver_lists_them(monkeypatch, tmp_path):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'GPU 0: NVIDIA H100 (UUID: GPU-1)'\necho 'GPU 1: NVIDIA H100 (UUID: GPU-2)'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert find_gpus() == ("0", "1")


def test_no_more_runs_at_a_time_than_fit_into_memory(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(local, "count_cores", lambda: 64)
    monkeypatch.setattr(local, "find_available_memory", lambda: None)
    assert choose_jobs(100) == 64
    monkeypatch.setattr(local, "find_available_memory", lambda: 3_500_000 * 1024)
    assert choose_jobs(100) == 3
    assert choose_jobs(2) == 2
    monkeypatch.setattr(local, "find_available_memory", lambda: 1024)
    assert choose_jobs(2) == 1


def test_a_container_has_fewer_runs_at_a_time(monkeypatch, tmp_path):
    """The memory is that of `limits`, and the cores are those of its quota."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(64)))
    monkeypatch.setattr(host, "_CGROUPS", tmp_path)
    monkeypatch.setattr(host, "_OWN_CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(host, "_MEMORY", tmp_path / "meminfo")
    (tmp_path / "meminfo").write_text("MemAvailable: 300000000 kB\n")
    (tmp_path / "cgroup").write_text("0::/\n")
    (tmp_path / "memory.max").write_text(f"{5 << 30}\n")
    host._find_quota.cache_clear()
    try:
        assert choose_jobs(100) == 5
        assert limits.find_memory() == 5 << 30
        (tmp_path / "cpu.max").write_text("250000 100000\n")
        host._find_quota.cache_clear()
        assert choose_jobs(100) == 3
    finally:
        host._find_quota.cache_clear()
