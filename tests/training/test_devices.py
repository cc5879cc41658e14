"""Setting up the process: threads and determinism; several machines are refused."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tiedexp.errors import RunError
from tiedexp.host import count_cores
from tiedexp.training.devices import build_strategy, set_up_process


def run(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_threads_and_determinism_are_set():
    answer = run(
        "from tiedexp.training.devices import set_up_process; import tensorflow as tf\n"
        "print(set_up_process(threads=None, deterministic=False, preferred_threads=4))\n"
        "print(set_up_process(threads=2, deterministic=False, preferred_threads=4))\n"
        "print(set_up_process(threads=3, deterministic=True), tf.config.threading.get_intra_op_parallelism_threads())\n"
        "try: tf.random.uniform([1])\n"
        "except RuntimeError as error: print('seed' in str(error))"  # unseeded random operations are refused
    )
    assert answer.splitlines() == ["4", "2", "3 3", "True"]


def test_threads_cannot_change_once_tensorflow_runs():
    import tensorflow as tf

    tf.constant(0.0)
    assert set_up_process(threads=None, deterministic=False) == count_cores()
    assert set_up_process(threads=None, deterministic=False, preferred_threads=count_cores() + 5) == count_cores()
    with pytest.raises(RunError, match=f"threads instead of {count_cores() + 5}"):
        set_up_process(threads=count_cores() + 5, deterministic=False)


def test_a_cluster_configuration_is_refused(monkeypatch):
    monkeypatch.setenv("TF_CONFIG", "{}")
    with pytest.raises(RunError, match="TF_CONFIG is set, but training over several machines does not work"):
        build_strategy(1)


def test_one_device_needs_no_strategy():
    assert build_strategy(1).num_replicas_in_sync == build_strategy("all").num_replicas_in_sync == 1


FACTORED = """
    import keras, numpy as np, tensorflow as tf
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
    )
    import sys
    sys.path.insert(0, sys.argv[1])
    import conftest
    from tiedexp.layers.tied_conv import TiedConv2D
    from tiedexp.training.devices import build_strategy
    from tiedexp.training.optimizers import build_optimizer
    from tiedexp.training.trainer import Trainer

    def train(pattern, devices, implementation):
        strategy = build_strategy(devices)
        keras.utils.set_random_seed(11)
        with strategy.scope():
            model = keras.Sequential([
                keras.Input(conftest.IMAGE_SHAPE),
                TiedConv2D(6, pattern, kernel_size=5, padding="same", implementation=implementation),
                keras.layers.ReLU(),
                TiedConv2D(4, pattern, kernel_size=5, padding="same", implementation=implementation),
                keras.layers.Flatten(),
                keras.layers.Dense(conftest.NUM_CLASSES),
            ])
            optimizer = build_optimizer(keras.optimizers.SGD, 0.05, momentum=0.0)
            optimizer.build(model.trainable_variables)
        assert all(layer.choice.is_expanded == (implementation == "expand") for layer in model.layers[:3:2])
        before = [variable.numpy() for variable in model.trainable_variables]
        Trainer(model, optimizer, conftest.RandomBatches(), batch_size=8, strategy=strategy).run_epoch(0, 1)
        return [variable.numpy() - old for variable, old in zip(model.trainable_variables, before)]

    for pattern in ("block", "row", "d4", {"preset": "hashed", "groups": 4}):
        one, two, dense = train(pattern, 1, "factored"), train(pattern, 2, "factored"), train(pattern, 2, "expand")
        for a, b, c in zip(one, two, dense):
            assert np.abs(a).max() > 1e-3
            np.testing.assert_allclose(a, b, atol=1e-6)
            np.testing.assert_allclose(a, c, atol=1e-6)
        print(pattern)
"""


def test_factored_convs_train_on_two_devices_as_on_one(tmp_path):
    """One step on two logical CPUs, which must be configured before TensorFlow starts, so in a separate process."""
    script = tmp_path / "factored.py"
    script.write_text(textwrap.dedent(FACTORED))
    command = [sys.executable, script, str(Path(__file__).parent)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 4
