"""Run directories: where they are, what their files hold, and what is never read or deleted."""

from __future__ import annotations

import json
import math
import os

import pytest
from samples import make_line, make_result

from tiedexp.errors import RunError
from tiedexp.runs.directory import MAX_JSON_BYTES, RunDirectory, find_runs_root
from tiedexp.runs.manifest import MANIFEST_FORMAT

LINE = make_line().as_json()
MANIFEST = {"format": 1, "versions": {"tiedexp": "1"}}
RESULT = make_result().as_json()


@pytest.fixture
def run(tmp_path):
    directory = RunDirectory.locate(tmp_path / "runs", name="try", digest="0123456789", seed=3)
    with directory.lock():
        directory.write_json("manifest.json", MANIFEST)
    return directory


def test_the_location_of_a_run(tmp_path):
    run = RunDirectory.locate(tmp_path, name="mnist", digest="abc", seed=7)
    assert run.path == tmp_path / "mnist-abc" / "seed-7"
    assert not run.path.exists()
    assert not run.finished


def test_the_root_is_the_option_then_the_environment_then_runs(tmp_path, monkeypatch):
    assert str(find_runs_root(None)) == "runs"
    monkeypatch.setenv("TIEDEXP_RUNS", "/some/where")
    assert str(find_runs_root(None)) == "/some/where"
    assert find_runs_root(tmp_path) == tmp_path


@pytest.mark.parametrize("name", [".lock", "log.txt", "metrics.jsonl"])
def test_a_file_with_a_second_name_is_not_written(run, tmp_path, name):
    """An archive can hold a hard link to any file in itself or in the directory that it is unpacked in."""
    (tmp_path / "thesis").write_text("three years")
    (run.path / name).unlink(missing_ok=True)
    (run.path / name).hardlink_to(tmp_path / "thesis")
    write = {
        ".lock": lambda: run.lock().__enter__(),
        "log.txt": run.open_log,
        "metrics.jsonl": lambda: run.append_metrics(make_line()),
    }
    with pytest.raises(RunError, match=rf"{name} is a hard link to a file that has another name too"):
        write[name]()
    assert (tmp_path / "thesis").read_text() == "three years"
    assert not run.is_locked()
    assert run.state == "unfinished"


def test_deleting_keeps_what_others_wrote(run, tmp_path):
    theirs = {"checkpoints/mine.h5", "checkpoints/epoch-0001.json/mine", "tensorboard/plugins/x", "result.json/mine"}
    weights = ("epoch-0001.weights.h5", "epoch-0001-step-000003.json", ".unfinished-1-epoch-0001.json")
    logs = ("events.out.tfevents.1", "train/events.out.tfevents.1.host")
    ours = {*(f"checkpoints/{name}" for name in weights), *(f"tensorboard/{name}" for name in logs)}
    for name in (*theirs, *ours, "metrics.jsonl", "tags.json", "log.txt", ".unfinished-3-result.json"):
        (run.path / name).parent.mkdir(parents=True, exist_ok=True)
        (run.path / name).write_text("mine")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "events.out.tfevents.1").write_text("mine")
    (run.path / "tensorboard" / "test").symlink_to(tmp_path / "outside")
    assert run.delete() == ("checkpoints", "result.json", "tensorboard")
    left = {path.relative_to(run.path).as_posix() for path in run.path.rglob("*") if path.is_file()}
    assert left == theirs
    assert (tmp_path / "outside" / "events.out.tfevents.1").read_text() == "mine"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("metrics.jsonl", {**LINE, "epoch": "1"}),
        ("metrics.jsonl", {**LINE, "epoch": True}),
        ("metrics.jsonl", {**LINE, "epoch": 0}),
        ("metrics.jsonl", {**LINE, "seconds": math.nan}),
        ("metrics.jsonl", {**LINE, "train": {**LINE["train"], "loss": "1.0"}}),
        ("result.json", {**RESULT, "epochs": "3"}),
        ("result.json", {**RESULT, "best_epoch": -1}),
        ("result.json", {**RESULT, "stopped_early": "no"}),
        ("result.json", {**RESULT, "test": {**RESULT["test"], "accuracy": math.inf}}),
    ],
)
def test_values_of_the_wrong_type_are_refused(run, name, content):
    """The content of a file is used as it is, so a text is not read as a number."""
    (run.path / name).write_text(json.dumps(content) + "\n")
    with pytest.raises(RunError, match=f"{name}.* is not as tiedexp writes it: .* is wrong"):
        run.read_metrics() if name == "metrics.jsonl" else run.read_result()


def test_open_says_what_is_wrong_and_what_was_meant(run, tmp_path):
    assert RunDirectory.open(run.path).path == run.path
    with pytest.raises(RunError, match="nowhere is not a directory; a run is one like"):
        RunDirectory.open(tmp_path / "nowhere")
    with pytest.raises(RunError, match=r"is not a run; did you mean .*seed-3\?"):
        RunDirectory.open(run.path.parent)
    (tmp_path / "empty").mkdir()
    with pytest.raises(RunError, match=r"it has no manifest.json"):
        RunDirectory.open(tmp_path / "empty")


def test_json_is_read_as_it_was_written(run):
    run.write_json("result.json", {"test": {"accuracy": 0.5}, "classes": ["é"]})
    assert run.read_json("result.json") == {"test": {"accuracy": 0.5}, "classes": ["é"]}
    assert run.finished
    with pytest.raises(ValueError, match="not JSON compliant"):
        run.write_json("result.json", {"loss": float("nan")})
    assert run.read_json("result.json")["classes"] == ["é"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "result.json is not JSON"),
        ("[1]", "is not a JSON object"),
        ("[" * 100_000, "result.json is not JSON"),
        (" " * (MAX_JSON_BYTES + 1), "larger than 16 MiB"),
    ],
)
def test_files_that_are_not_json(run, content, message):
    (run.path / "result.json").write_text(content)
    with pytest.raises(RunError, match=message):
        run.read_json("result.json")


def test_metrics_are_lines_and_an_incomplete_last_one_is_left_out(run):
    assert run.read_metrics() == []
    lines = [make_line(epoch) for epoch in (1, 2)]
    for line in lines:
        run.append_metrics(line)
    with (run.path / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 3, "tr')
    assert run.read_metrics() == lines
    run.rewrite_metrics(lines[:1])
    assert run.read_metrics() == lines[:1]
    assert [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()] == [LINE]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("[]", r"line 2, is not as tiedexp writes it: the whole is wrong"),
        ("{}", r"line 2, is not as tiedexp writes it: epoch is missing"),
        (json.dumps({**LINE, "train": 3}), r"line 2, is not as tiedexp writes it: train is wrong"),
        ('{"epoch": 2, ', r"line 2 is not JSON"),
        ("[" * 100_000, r"line 2 is not JSON"),
    ],
)
def test_metrics_that_somebody_else_wrote(run, line, message):
    (run.path / "metrics.jsonl").write_text(f"{json.dumps(LINE)}\n{line}\n{json.dumps(LINE)}\n")
    with pytest.raises(RunError, match=message):
        run.read_metrics()


def test_a_manifest_that_somebody_else_wrote(run):
    with pytest.raises(RunError, match=r"manifest.json is not as tiedexp writes it: commit is missing"):
        run.read_manifest()
    run.write_json("manifest.json", {"format": MANIFEST_FORMAT + 1})
    with pytest.raises(RunError, match=r"seed-3 was written by a newer tiedexp \(format \d+; this one knows \d+\)"):
        run.read_manifest()


@pytest.mark.parametrize("content", [{"error": 3, "time": "now"}, {"error": "x"}])
def test_a_failure_that_somebody_else_wrote(run, content):
    run.write_json("failure.json", content)
    with pytest.raises(RunError, match=r"failure.json is not as tiedexp writes it"):
        run.read_failure()


def test_a_result_that_somebody_else_wrote(run):
    run.write_json("result.json", {"test": {"accuracy": 0.5}})
    with pytest.raises(RunError, match=r"result.json is not as tiedexp writes it: test.images is missing"):
        run.read_result()


@pytest.mark.parametrize("name", ["spec", "checkpoints", "tensorboard", "finished"])
def test_links_out_of_the_run_are_refused(run, tmp_path, name):
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_text("{}")
    for file in ("spec.yaml", "result.json"):
        (run.path / file).symlink_to(tmp_path / "outside" / "secret")
    for directory in ("checkpoints", "tensorboard"):
        (run.path / directory).symlink_to(tmp_path / "outside")
    with pytest.raises(RunError, match="leads out of the run directory"):
        getattr(run, name)


def test_a_link_to_the_whole_run_is_fine(run, tmp_path):
    (tmp_path / "link").symlink_to(run.path)
    assert RunDirectory.open(tmp_path / "link").read_json("manifest.json") == MANIFEST


def test_clearing_deletes_our_files_and_follows_no_link(run, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "file").write_text("")
    (run.path / "checkpoints").symlink_to(tmp_path / "elsewhere")
    (run.path / "tensorboard").mkdir()
    (run.path / "tensorboard" / "events.out.tfevents.1").write_text("")
    (run.path / "notes.txt").write_text("mine")
    run.write_json("result.json", {})
    run.clear()
    assert sorted(path.name for path in run.path.iterdir()) == [".lock", "notes.txt"]
    assert (tmp_path / "elsewhere" / "file").exists()


@pytest.mark.parametrize("name", ["manifest.json", "tensorboard/train", "checkpoints/epoch-0001.json"])
def test_a_run_with_a_link_out_of_it_is_not_opened(run, tmp_path, name):
    (tmp_path / "outside").mkdir()
    (run.path / name).parent.mkdir(exist_ok=True)
    (run.path / name).unlink(missing_ok=True)
    if name == "manifest.json":
        (tmp_path / "outside" / "manifest.json").write_text("{}")
    (run.path / name).symlink_to(tmp_path / "outside" / name if name == "manifest.json" else tmp_path / "outside")
    with pytest.raises(RunError, match=rf"{name} leads out of the run directory; it is not read or written"):
        RunDirectory.open(run.path)


@pytest.mark.parametrize("name", ["spec.yaml", "metrics.jsonl", "result.json", "tensorboard/events.out.tfevents.1"])
def test_a_run_with_a_pipe_in_it_is_not_opened(run, name):
    (run.path / name).parent.mkdir(exist_ok=True)
    os.mkfifo(run.path / name)
    with pytest.raises(RunError, match=rf"{name} is neither a file nor a directory"):
        RunDirectory.open(run.path)


def test_a_pipe_is_not_waited_for(run):
    os.mkfifo(run.path / "result.json")
    with pytest.raises(RunError, match=r"result.json cannot be read: it is not a regular file"):
        run.read_json("result.json")


def test_a_huge_file_of_metrics_is_not_read(run):
    with (run.path / "metrics.jsonl").open("wb") as file:
        file.truncate(2**40)  # a sparse file, which takes no space
    with pytest.raises(RunError, match=r"metrics.jsonl is larger than 64 MiB"):
        run.read_metrics()


def test_json_that_is_not_utf_8(run):
    (run.path / "result.json").write_bytes(b'{"a": "\xff"}')
    with pytest.raises(RunError, match=r"result.json cannot be read: 'utf-8' codec"):
        run.read_json("result.json")


def test_a_directory_with_only_a_log_is_removed(tmp_path):
    run = RunDirectory(tmp_path / "a-0123456789" / "seed-0")
    run.remove_empty()  # it does not exist
    os.close(run.open_log())
    with run.lock():
        run.remove_empty()
    assert (run.path / "log.txt").exists()
    run.remove_empty()
    assert list(tmp_path.iterdir()) == []
    os.close(run.open_log())
    (run.path / "mine.txt").touch()
    run.remove_empty()
    assert (run.path / "log.txt").exists()
