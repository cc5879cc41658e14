"""Setting up the process: threads, determinism, several machines refused."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tiedexp.errors import RunError
from tiedexp.processor import count_cores
from tiedexp.training.devices import build_strategy, set_up_process


def run(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_threads_and_determinism_are_set():
    answer = run(
        "from tiedexp.training.devices import set_up_process; import tensorflow as tf\n"
        "print(set_up_process(threads=3, deterministic=True), tf.config.threading.get_intra_op_parallelism_threads())\n"
        "try: tf.random.uniform([1])\n"
        "except RuntimeError as error: print('seed' in str(error))"  # unseeded chance is refused
    )
    assert answer.splitlines() == ["3 3", "True"]


def test_threads_cannot_change_once_tensorflow_runs():
    import tensorflow as tf

    tf.constant(0.0)
    assert set_up_process(threads=None, deterministic=False) == count_cores()
    with pytest.raises(RunError, match=f"another number of threads than {count_cores() + 5}"):
        set_up_process(threads=count_cores() + 5, deterministic=False)


def test_a_cluster_configuration_is_refused(monkeypatch):
    monkeypatch.setenv("TF_CONFIG", "{}")
    with pytest.raises(RunError, match="TF_CONFIG is set, but training over several machines does not work"):
        build_strategy(1)


def test_one_device_needs_no_strategy():
    assert build_strategy(1).num_replicas_in_sync == build_strategy("all").num_replicas_in_sync == 1
