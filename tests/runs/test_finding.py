"""Which directories are runs."""

from __future__ import annotations

import pytest

from tiedexp.errors import RunError
from tiedexp.runs.finding import REPRODUCED, find_runs


def make(path, name="manifest.json"):
    path.mkdir(parents=True)
    (path / name).write_text("{}")
    return path


def test_runs_and_runs_of_sweeps(tmp_path):
    runs = [make(tmp_path / "a-1" / "seed-0"), make(tmp_path / "sweep" / "b-2" / "seed-3", "failure.json")]
    make(tmp_path / ".hidden" / "seed-0")
    make(runs[0] / "checkpoints")
    assert [run.path for run in find_runs(tmp_path)] == runs
    assert [run.path for run in find_runs(runs[0])] == [runs[0]]


def test_runs_done_again_are_found_only_where_they_are_looked_for(tmp_path):
    run = make(tmp_path / "a-1" / "seed-0")
    again = make(tmp_path / REPRODUCED / "a-1" / "seed-0")
    assert [found.path for found in find_runs(tmp_path)] == [run]
    for path in (tmp_path / REPRODUCED, tmp_path / REPRODUCED / "a-1", again):
        assert [found.path for found in find_runs(path)] == [again]


def test_not_too_deep(tmp_path):
    make(tmp_path / "1/2/3/4/5/6")
    assert list(find_runs(tmp_path)) == []


def test_links(tmp_path):
    run = make(tmp_path / "runs" / "a-1" / "seed-0")
    (tmp_path / "runs" / "again").symlink_to(run.parent)
    assert [found.path for found in find_runs(tmp_path / "runs")] == [run]
    (tmp_path / "runs" / "out").symlink_to("/")
    with pytest.raises(RunError, match="out is a link that leads out of"):
        list(find_runs(tmp_path / "runs"))


def test_no_directory(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"file is no directory of runs$"):
        list(find_runs(tmp_path / "file"))
    with pytest.raises(RunError, match="does not exist"):
        list(find_runs(tmp_path / "absent"))
