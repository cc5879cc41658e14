"""A seal is valid only for this user, this path and this data."""

from __future__ import annotations

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tiedexp.runs.directory import RunDirectory
from tiedexp.runs.seal import has_seal, write_seal

DATA = ("folder", Path("/my/images"), None)


@pytest.fixture(autouse=True)
def key(monkeypatch, tmp_path) -> Path:
    """The path of this test's key, which is made when it is first needed."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state" / "tiedexp" / "key"


@pytest.fixture
def run(tmp_path) -> RunDirectory:
    (tmp_path / "runs" / "a").mkdir(parents=True)
    return RunDirectory(tmp_path / "runs" / "a")


def test_a_run_of_this_user(run, key, monkeypatch):
    assert not has_seal(run, *DATA)
    assert not key.exists()  # a check does not make it
    write_seal(run, *DATA)
    assert has_seal(run, *DATA)
    assert key.stat().st_mode & 0o777 == 0o600
    assert key.parent.stat().st_mode & 0o777 == 0o700
    assert [path.name for path in key.parent.iterdir()] == ["key"]
    monkeypatch.chdir(run.path.parent)
    assert has_seal(RunDirectory(Path("a")), *DATA)


@pytest.mark.parametrize(
    "other",
    [
        ("npz", Path("/my/images"), None),
        ("folder", Path("/my/secrets"), None),
        ("folder", Path("/my/images"), Path("/data")),
        ("folder", None, Path("/my/images")),
        ("folder", None, None),
    ],
)
def test_a_seal_is_valid_only_for_its_data(run, other):
    write_seal(run, *DATA)
    assert not has_seal(run, *other)


def test_a_seal_is_not_valid_for_a_copy(run):
    write_seal(run, *DATA)
    copy = run.path.with_name("b")
    shutil.copytree(run.path, copy)
    assert not has_seal(RunDirectory(copy), *DATA)


def test_a_seal_of_another_user_is_not_valid(run, key):
    write_seal(run, *DATA)
    key.unlink()
    assert not has_seal(run, *DATA)
    write_seal(RunDirectory(run.path.parent), *DATA)  # which makes another key
    assert key.is_file()
    assert not has_seal(run, *DATA)


def test_a_key_that_others_may_read_or_that_is_damaged_is_not_used(run, key):
    write_seal(run, *DATA)
    key.chmod(0o640)
    assert not has_seal(run, *DATA)
    key.chmod(0o600)
    assert has_seal(run, *DATA)
    secret = key.read_bytes()
    key.rename(key.with_name("elsewhere"))
    key.symlink_to("elsewhere")
    assert not has_seal(run, *DATA)
    key.unlink()
    key.write_bytes(secret[:31])
    key.chmod(0o600)
    assert not has_seal(run, *DATA)
    write_seal(run, *DATA)
    assert not (run.path / ".seal").exists()


@pytest.mark.parametrize("content", [b"", b"\xff" * 64, b"0" * 10_000])
def test_a_damaged_seal_is_not_valid(run, content):
    write_seal(run, *DATA)
    (run.path / ".seal").write_bytes(content)
    assert not has_seal(run, *DATA)


def test_a_pipe_with_the_name_of_the_seal_is_not_waited_for(run):
    write_seal(run, *DATA)
    (run.path / ".seal").unlink()
    os.mkfifo(run.path / ".seal")
    assert not has_seal(run, *DATA)


def test_without_a_home_there_are_no_seals(run, monkeypatch):
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setattr(Path, "home", no_home)
    write_seal(run, *DATA)
    assert not has_seal(run, *DATA)
    assert list(run.path.iterdir()) == []


def test_a_home_that_is_not_writable(run, key):
    key.parent.parent.write_text("no directory")
    write_seal(run, *DATA)
    assert not has_seal(run, *DATA)


@pytest.mark.parametrize(("variable", "value"), [("XDG_STATE_HOME", "state"), ("HOME", ".")])
def test_a_key_in_the_working_directory_is_not_used(run, key, monkeypatch, variable, value):
    write_seal(run, *DATA)
    monkeypatch.chdir(key.parent.parent.parent)
    shutil.copytree("state", ".local/state")
    monkeypatch.setenv("HOME", "/nowhere")
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv(variable, value)
    assert not has_seal(run, *DATA)


def _seal(path: Path) -> bool:
    run = RunDirectory(path)
    write_seal(run, *DATA)
    return has_seal(run, *DATA)


def test_processes_that_make_the_key_at_once_agree_on_it(run):
    paths = [run.path / str(number) for number in range(8)]
    for path in paths:
        path.mkdir()
    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(_seal, paths))
    assert all(has_seal(RunDirectory(path), *DATA) for path in paths)


def test_a_seal_is_deleted_with_its_run(run):
    write_seal(run, *DATA)
    run.delete()
    assert not run.path.exists()
