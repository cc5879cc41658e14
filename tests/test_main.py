"""The command as a process: signals from its first moment on."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest

BASE = """\
name: small
dataset: {name: digits, limit: 200}
model: {depth: 1, width: 4, kernel_size: 3}
training: {epochs: 100000, batch_size: 50, threads: 1}
"""
SWEEP = "name: two\nbase: spec.yaml\ngrid: {model.tying.pattern: [point, rings]}\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("command", ["train", "sweep"])
def test_a_signal_while_it_loads_ends_it_at_once_and_leaves_nothing(tmp_path, command, number):
    """TensorFlow takes seconds to load, much of it in C++, where Python runs no handler."""
    (tmp_path / "spec.yaml").write_text(BASE)
    (tmp_path / "sweep.yaml").write_text(SWEEP)
    file = {"train": "spec.yaml", "sweep": "sweep.yaml"}[command]
    for delay in (0.4, 1.0, 1.8):
        with subprocess.Popen(
            [sys.executable, "-m", "tiedexp", command, file],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        ) as process:
            time.sleep(delay)
            process.send_signal(number)
            begin = time.monotonic()
            out, err = process.communicate(timeout=60)  # its children have ended, too: they hold the pipes
        assert (process.returncode, out, err) == (130, "", "interrupted\n"), delay
        assert time.monotonic() - begin < 5, delay  # a busy machine; a quiet one takes a tenth of a second
        assert sorted(path.name for path in tmp_path.iterdir()) == ["spec.yaml", "sweep.yaml"], delay


NO_HOME = """
import os, pwd, sys
def unknown(number):
    raise KeyError(number)
pwd.getpwuid = unknown
for name in ("HOME", "XDG_CACHE_HOME", "XDG_STATE_HOME", "KERAS_HOME"):
    os.environ.pop(name, None)
sys.argv = ["tiedexp", "train", "spec.yaml", "training.epochs=1", "--quiet"]
from tiedexp.__main__ import main
main()
"""


def test_a_user_without_a_home_trains(tmp_path, monkeypatch):
    """As in a container that is started with the number of a user it does not know."""
    monkeypatch.setenv("TIEDEXP_NATIVE", "0")
    (tmp_path / "spec.yaml").write_text(BASE)
    done = subprocess.run([sys.executable, "-c", NO_HOME], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "test accuracy" in done.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["runs", "spec.yaml"]
