"""Which directories are runs."""

from __future__ import annotations

import json

import pytest
from samples import make_line, make_manifest, make_result

from tiedexp.errors import RunError
from tiedexp.runs.finding import REPRODUCED, find_runs

FAILURE = {"error": "the loss became NaN", "time": "2026-01-01T00:00:00+00:00"}


def make(path, name="failure.json", content=FAILURE):
    path.mkdir(parents=True)
    (path / name).write_text(json.dumps(content))
    return path


def test_runs_and_runs_of_sweeps(tmp_path):
    runs = [make(tmp_path / "a-1" / "seed-0"), make(tmp_path / "sweep" / "b-2" / "seed-3")]
    make(tmp_path / ".hidden" / "seed-0")
    make(runs[0] / "checkpoints")
    assert [run.path for run in find_runs(tmp_path)] == runs
    assert [run.path for run in find_runs(runs[0])] == [runs[0]]


def test_reproduced_runs_are_found_only_if_their_directory_is_named(tmp_path):
    run = make(tmp_path / "a-1" / "seed-0")
    again = make(tmp_path / REPRODUCED / "a-1" / "seed-0")
    assert [found.path for found in find_runs(tmp_path)] == [run]
    for path in (tmp_path / REPRODUCED, tmp_path / REPRODUCED / "a-1", again):
        assert [found.path for found in find_runs(path)] == [again]


def test_the_search_ends_at_a_depth(tmp_path):
    make(tmp_path / "1/2/3/4/5/6")
    assert list(find_runs(tmp_path)) == []


def test_links(tmp_path):
    run = make(tmp_path / "runs" / "a-1" / "seed-0")
    (tmp_path / "runs" / "again").symlink_to(run.parent)
    assert [found.path for found in find_runs(tmp_path / "runs")] == [run]
    (tmp_path / "runs" / "out").symlink_to("/")
    with pytest.raises(RunError, match="out is a link that leads out of"):
        list(find_runs(tmp_path / "runs"))


def test_a_path_that_is_not_a_directory(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"file is not a directory of runs$"):
        list(find_runs(tmp_path / "file"))
    with pytest.raises(RunError, match="does not exist"):
        list(find_runs(tmp_path / "absent"))


MANIFEST, LINE, RESULT = make_manifest().as_json(), make_line().as_json(), make_result().as_json()


@pytest.mark.parametrize(
    "files",
    [
        {"manifest.json": json.dumps(MANIFEST)},
        {"manifest.json": json.dumps({"format": 99, "versions": {"tiedexp": "9.0"}})},  # of a later version
        {"manifest.json": "{", "metrics.jsonl": json.dumps(LINE) + "\n"},
        {"manifest.json": "{", "result.json": json.dumps(RESULT)},
        {"failure.json": json.dumps(FAILURE)},
        {"spec.yaml": "name: a", ".lock": "pid 1 on host since 2026-01-01 00:00:00+00:00\n"},
    ],
)
def test_what_is_a_run(tmp_path, files):
    """At any path, and even if other files in it are damaged."""
    path = tmp_path / "moved"
    path.mkdir()
    for name, content in files.items():
        (path / name).write_text(content)
    assert [run.path for run in find_runs(tmp_path)] == [path]


@pytest.mark.parametrize(
    "files",
    [
        {"manifest.json": "{}"},
        {"manifest.json": "["},
        {"manifest.json": '{"manifest_version": 3, "name": "an extension", "version": "1.0"}'},
        {"manifest.json": '{"format": 1, "versions": {"npm": "9"}}'},
        {"manifest.json": "{}", "result.json": '{"ok": true}', "metrics.jsonl": '{"loss": 1}\n'},
        {"failure.json": '{"error": "x"}'},
        {"spec.yaml": "name: a\n", ".lock": ""},
        {"metrics.jsonl": json.dumps(LINE) + "\n"},  # nothing else of the run is there
    ],
)
def test_what_is_not_a_run(tmp_path, files):
    path = make(tmp_path / "project", "unrelated.txt")
    inside = make(path / "runs" / "a-1" / "seed-0")
    for name, content in files.items():
        (path / name).write_text(content)
    assert [run.path for run in find_runs(tmp_path)] == [inside]


def test_a_directory_where_tiedexp_puts_runs_is_a_run_even_if_nothing_can_be_read(tmp_path):
    run = make(tmp_path / "mnist-block-1a2b3c4d5e" / "seed-0", "manifest.json", {})
    make(tmp_path / "mnist-block-1a2b3c4d5e" / "notes", "manifest.json", {})
    assert [found.path for found in find_runs(tmp_path)] == [run]
