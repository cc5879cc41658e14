"""The lock of a run: who may be in it, and who was."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import tiedexp.runs.lock
from tiedexp.errors import RunError
from tiedexp.runs.directory import RunDirectory


@pytest.fixture
def run(tmp_path):
    directory = RunDirectory(tmp_path / "runs" / "try-0123456789" / "seed-3")
    with directory.lock():
        directory.write_json("manifest.json", {})
    return directory


def test_a_second_process_is_kept_out_and_learns_who_is_in(run):
    code = (
        "import sys; from pathlib import Path; from tiedexp.runs.directory import RunDirectory\n"
        "with RunDirectory(Path(sys.argv[1])).lock(): pass"
    )
    command = [sys.executable, "-c", code, str(run.path)]
    with run.lock():
        held = subprocess.run(command, capture_output=True, text=True, check=False)
    free = subprocess.run(command, capture_output=True, text=True, check=False)
    assert held.returncode != 0
    assert f"{run.path} is in use by another process (pid {os.getpid()} on {os.uname().nodename} since 2" in held.stderr
    assert free.returncode == 0, free.stderr


def test_the_lock_ends_with_the_block_even_if_that_fails(run):
    with pytest.raises(KeyError), run.lock():
        raise KeyError
    with run.lock():
        pass


def test_only_the_next_process_learns_that_one_was_killed(run):
    code = (
        "import os, sys; from pathlib import Path; from tiedexp.runs.directory import RunDirectory\n"
        "with RunDirectory(Path(sys.argv[1])).lock(): os.kill(os.getpid(), 9)"
    )
    killed = subprocess.Popen([sys.executable, "-c", code, str(run.path)])
    assert killed.wait() == -9
    with run.lock() as left:
        assert left is not None
        assert left.startswith(f"pid {killed.pid} on {os.uname().nodename} since 2")
    with run.lock() as left:
        assert left is None


@pytest.mark.parametrize("text", ["", "pid 1 on \x1b[2J since 2026", "pid 1", "\udcff\0" * 300])
def test_what_others_write_into_the_lock_is_ignored(run, text):
    (run.path / ".lock").write_bytes(text.encode(errors="surrogateescape"))
    with run.lock() as left:
        assert left is None


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_directory_that_cannot_be_written(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(RunError, match="cannot be written: Permission denied"), RunDirectory(tmp_path / "run").lock():
        pass


def test_a_root_that_is_a_file(tmp_path):
    (tmp_path / "runs").write_text("")
    directory = RunDirectory.locate(tmp_path / "runs", name="a", digest="b", seed=0)
    with pytest.raises(RunError, match="cannot be written"), directory.lock():
        pass


def test_a_lock_that_is_a_pipe(run):
    (run.path / ".lock").unlink()
    os.mkfifo(run.path / ".lock")
    with pytest.raises(RunError, match=r"\.lock is not a regular file"), run.lock():
        pass
    assert not run.is_locked()


def test_a_lock_that_gets_a_second_name_before_it_is_held(run, tmp_path, monkeypatch):
    (run.path / ".lock").write_text("three years")
    flock = tiedexp.runs.lock._lock_exclusively

    def link(descriptor):
        (tmp_path / "thesis").hardlink_to(run.path / ".lock")
        flock(descriptor)

    monkeypatch.setattr(tiedexp.runs.lock, "_lock_exclusively", link)
    with pytest.raises(RunError, match="is a hard link"):
        run.lock().__enter__()
    assert (tmp_path / "thesis").read_text() == "three years"


def test_a_run_that_is_deleted_before_the_lock_is_held(run, monkeypatch):
    """The process that waited makes the directory again, and locks the new file, not the deleted one."""
    flock, waited = tiedexp.runs.lock._lock_exclusively, []

    def wait(descriptor):
        if not waited:
            waited.append(True)
            run.delete()
        flock(descriptor)

    monkeypatch.setattr(tiedexp.runs.lock, "_lock_exclusively", wait)
    with run.lock():
        assert run.is_locked()
        assert str(os.getpid()) in (run.path / ".lock").read_text()
