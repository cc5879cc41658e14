"""What can happen to a run on a machine, and what the run then reports and keeps."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from run_checks import stop_after
from sklearn.datasets import load_digits

from tiedexp.errors import RunError, RunInterruptedError
from tiedexp.experiment.observer import RunObserver
from tiedexp.experiment.preparation import locate_run
from tiedexp.experiment.reproduce import compare_runs
from tiedexp.experiment.run import run_experiment
from tiedexp.spec.schema import ExperimentSpec

pytestmark = pytest.mark.filterwarnings("ignore:Implicitly cleaning up:ResourceWarning")


@pytest.fixture
def spec():
    return ExperimentSpec.model_validate(
        {
            "name": "small",
            "dataset": {"name": "digits", "limit": 200},
            "model": {"depth": 2, "width": 4, "dropout": 0.2, "tying": {"pattern": "point"}},
            "training": {"epochs": 3, "batch_size": 30},
            "checkpoint": {"every_steps": 2},
        }
    )


@pytest.fixture
def straight(spec, tmp_path):
    return run_experiment(spec, root=tmp_path / "straight")


@pytest.fixture
def small_disk(tmp_path):
    """Makes a file system of a given size, which only root may."""
    made = []

    def make(size):
        folder = tmp_path / f"disk-{len(made)}"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
        if os.geteuid() or subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("needs the right to mount a file system")
        made.append(folder)
        return folder

    yield make
    for folder in made:
        subprocess.run(["umount", folder], check=True)


def test_a_full_disk(spec, straight, small_disk, tmp_path):
    """On a disk of any size below what it needs, a run fails with one message, and resumes once there is room."""
    for size in (16, 48, 96, 160, 224):
        disk = small_disk(f"{size}k")
        with pytest.raises((RunError, OSError)) as failed:
            run_experiment(spec, root=disk)
        assert "No space left on device" in str(failed.value)
        subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)
        assert compare_runs(straight, run_experiment(spec, root=disk)).differences == ()


def test_a_read_only_disk(spec, small_disk):
    disk = small_disk("1m")
    with pytest.raises(RunInterruptedError):
        run_experiment(spec, root=disk, should_stop=stop_after(6))
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    with pytest.raises(RunError, match="cannot be written: Read-only file system"):
        run_experiment(spec, root=disk)


def test_a_root_on_another_file_system(spec, straight, tmp_path):
    shared = Path("/dev/shm")
    if not shared.is_dir() or shared.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("needs a second file system at /dev/shm")
    link = tmp_path / "runs"
    target = shared / f"tiedexp-test-{os.getpid()}"
    target.mkdir()
    try:
        link.symlink_to(target)
        with pytest.raises(RunInterruptedError):
            run_experiment(spec, root=link, should_stop=stop_after(9))
        assert compare_runs(straight, run_experiment(spec, root=link)).differences == ()
    finally:
        subprocess.run(["rm", "-r", target], check=True)


def test_paths_with_spaces_and_letters_of_all_kinds(tmp_path):
    folder = tmp_path / "meine Läufe \u2713 [bold] %s {x}"
    folder.mkdir()
    digits = load_digits()
    np.savez(folder / "Zahlen 一.npz", x_train=digits.images[:300].astype("uint8"), y_train=digits.target[:300])
    spec = ExperimentSpec.model_validate(
        {
            "name": "small",
            "dataset": {"name": "npz", "path": str(folder / "Zahlen 一.npz")},
            "model": {"depth": 1, "width": 2},
            "training": {"epochs": 2},
        }
    )
    with pytest.raises(RunInterruptedError):
        run_experiment(spec, root=folder, should_stop=stop_after(2))
    assert run_experiment(spec, root=folder).finished


def test_a_clock_that_goes_backwards(spec, straight, tmp_path, monkeypatch):
    hours = iter(range(10_000, 0, -1))
    monkeypatch.setattr(time, "time", lambda: next(hours) * 3600.0)
    monkeypatch.setattr(time, "time_ns", lambda: next(hours) * 3600 * 10**9)
    for calls in (5, 12, 10_000):
        try:
            run = run_experiment(spec, root=tmp_path / "back", should_stop=stop_after(calls))
        except RunInterruptedError:
            continue
    assert compare_runs(straight, run).differences == ()
    steps = read_steps(run)
    assert steps == read_steps(straight)
    assert all(values == sorted(set(values)) for values in steps.values())
    assert min(line.seconds for line in run.read_metrics()) >= 0


def read_steps(run):
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    steps = {}
    for split in ("train", "validation"):
        for path in sorted((run.tensorboard / split).glob("events*")):
            for event in EventFileLoader(str(path)).Load():
                for value in event.summary.value:
                    steps.setdefault((split, value.tag), []).append(event.step)
    return steps


def test_a_process_without_memory(spec, tmp_path):
    class Full(RunObserver):
        def progressed(self, progress):
            if locate_run(spec, tmp_path).read_metrics():
                raise MemoryError

    with pytest.raises(RunError, match="epoch 2: out of memory; the checkpoint of epoch 1 is kept"):
        run_experiment(spec, root=tmp_path, observer=Full())
    run = locate_run(spec, tmp_path)
    assert run.state == "failed"
    assert run.read_failure().startswith("epoch 2: out of memory; the checkpoint of epoch 1 is kept")
    assert run_experiment(spec, root=tmp_path).finished
    assert not run.inside("failure.json").exists()


KILLED = """
import os, sys
from pathlib import Path
from tiedexp.experiment.observer import RunObserver
from tiedexp.experiment.run import run_experiment
from tiedexp.spec.schema import ExperimentSpec

class Aborted(RunObserver):
    def epoch_started(self, epoch, num_steps):
        if epoch == 2:
            os.abort()  # as TensorFlow does on std::bad_alloc

spec = ExperimentSpec.model_validate_json(sys.argv[1])
run_experiment(spec, root=Path(sys.argv[2]), observer=Aborted())
"""


def test_a_process_that_ran_out_of_memory_is_reported_by_the_next(spec, straight, tmp_path):
    class Listener(RunObserver):
        def __init__(self):
            self.heard = []

        def warned(self, text):
            self.heard.append(text)

        def resumed(self, epochs_done, steps_done):
            self.heard.append(f"resuming after epoch {epochs_done}")

    command = [sys.executable, "-c", KILLED, spec.model_dump_json(exclude_none=True), str(tmp_path)]
    killed = subprocess.run(command, capture_output=True, check=False)
    assert killed.returncode == -signal.SIGABRT
    listener = Listener()
    assert compare_runs(straight, run_experiment(spec, root=tmp_path, observer=listener)).differences == ()
    warning, resumed = listener.heard
    assert re.fullmatch(r"the process before this one \(pid \d+ on \S+ since [-+: 0-9]+\) was killed, .*", warning)
    assert "possibly out of memory" in warning
    assert resumed == "resuming after epoch 1"
    again = Listener()
    with pytest.raises(RunInterruptedError):
        run_experiment(spec, root=tmp_path, fresh=True, should_stop=stop_after(6), observer=again)
    run_experiment(spec, root=tmp_path, observer=again)
    assert len(again.heard) == 1  # that it resumes
