"""`tiedexp board`: which runs it shows, and that it ends without a trace."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

# A test run may have been started with SIGINT ignored, which children inherit.
CODE = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from tiedexp.cli import main; main()"

# Those that show what a run writes. Others open files that a log names, as the projector does, wherever they are.
SHOWN_PLUGINS = {
    "timeseries", "scalars", "custom_scalars", "images", "distributions", "histograms", "text", "hparams",
}  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["absent"], "absent is not a directory of runs: it does not exist"),
        (["file"], "file is not a directory of runs"),
        (["empty"], "empty holds no run with a TensorBoard log"),
        ([], "runs is not a directory of runs: it does not exist"),
        (["--runs", "empty"], "empty holds no run"),
    ],
)
def test_what_is_no_run_is_one_message(tiedexp_cli, tmp_path, keep_signals, arguments, message):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    answer = tiedexp_cli("board", *arguments)
    assert answer.code == 1
    assert answer.err.startswith(f"error: {message}")
    assert answer.err.count("\n") == 1
    assert answer.out == ""


def test_a_sweep_is_shown_by_itself(tiedexp_cli, logged_runs, keep_signals):
    (logged_runs / "sweep.json").write_text("{}")
    answer = tiedexp_cli("board", logged_runs / "tiny-1a2b", logged_runs)
    assert (answer.code, answer.out) == (2, "")
    assert (
        f"a sweep can only be shown alone; to show it beside other runs, name its runs: {logged_runs}/*" in answer.err
    )


def test_a_sweep_that_is_damaged_is_one_message(tiedexp_cli, logged_runs, keep_signals):
    (logged_runs / "sweep.json").write_text("{}")
    answer = tiedexp_cli("board", logged_runs)
    assert (answer.code, answer.out) == (1, "")
    assert answer.err == f"error: {logged_runs}/sweep.json is not as tiedexp writes it: name is missing\n"


@pytest.fixture
def keep_signals() -> Iterator[None]:
    """For commands that are run in this process and set handlers."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


def wait_for(is_true: Callable[[], object]) -> None:
    """TensorBoard reads in the background, and has no other sign that it is done."""
    deadline = time.monotonic() + 30
    while not is_true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def children_of(parent: int) -> list[int]:
    """The processes started by the main thread of one."""
    return [int(child) for child in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs /proc to see which processes are left")
@pytest.mark.parametrize(
    ("arguments", "shown", "ending"),
    [
        ([], ["other-3c4d/seed-0", "tiny-1a2b/seed-0", "tiny-1a2b/seed-1"], signal.SIGINT),
        (["runs/tiny-1a2b/seed-1", "runs/other-3c4d"], ["other-3c4d/seed-0", "tiny-1a2b/seed-1"], signal.SIGTERM),
    ],
    ids=["all, SIGINT", "two, SIGTERM"],
)
def test_it_serves_until_it_is_stopped_and_leaves_nothing(logged_runs, tmp_path, arguments, shown, ending):
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-c", CODE, "board", *arguments, "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "TMPDIR": str(temporary), "TIEDEXP_RUNS": str(logged_runs), "PYTHONUNBUFFERED": "1"},
    )
    try:
        line = process.stdout.readline()
        url = re.fullmatch(
            rf"TensorBoard shows {len(shown)} runs \(stop it with Ctrl-C\): (http://localhost:\d+/)\n", line
        )[1]

        def read(path: str, content: object = None):
            data = None if content is None else json.dumps(content).encode()
            request = urllib.request.Request(f"{url}data/{path}", data, {"Content-Type": "application/json"})
            with urllib.request.urlopen(request, timeout=20) as answer:
                return json.loads(answer.read())

        wait_for(lambda: len(read("runs")) == 2 * len(shown))
        assert set(read("runs")) == {name for run in shown for name in (run, f"{run}/train")}
        wait_for(lambda: len(read("plugin/scalars/tags")) == len(shown))
        ((_, step, loss),) = read("plugin/scalars/scalars?run=other-3c4d/seed-0/train&tag=loss")
        assert (step, loss) == (1, 1.0)
        query = {"startIndex": 0, "sliceSize": 100, "allowedStatuses": ["STATUS_SUCCESS"], "colParams": []}
        rows = read("plugin/hparams/session_groups", query)["sessionGroups"]
        assert sorted(row["name"] for row in rows) == shown
        assert read("plugin/custom_scalars/layout")["category"]
        assert set(read("plugins_listing")) == SHOWN_PLUGINS
        assert "libtensorflow" not in Path(f"/proc/{process.pid}/maps").read_text()
        servers = children_of(process.pid)
        process.send_signal(ending)
        out, err = process.communicate(timeout=20)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 0
    assert (out, err) == ("\nTensorBoard has stopped.\n", "")
    assert not list(temporary.glob("tiedexp-board-*"))
    wait_for(lambda: not any(Path(f"/proc/{server}").exists() for server in servers))


def test_a_port_in_use_is_one_message(logged_runs, tmp_path):
    with socket.create_server(("localhost", 0)) as taken:
        port = taken.getsockname()[1]
        done = subprocess.run(
            [sys.executable, "-c", CODE, "board", logged_runs, "--port", str(port)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 1
    assert re.fullmatch(rf"error: TensorBoard does not start: .*port {port}.*in use.*\n", done.stderr)
