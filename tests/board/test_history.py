"""The history of a run, and when it is read again."""

from __future__ import annotations

import json

import pytest

from tiedexp.board.history import RunReader
from tiedexp.errors import RunError


def test_a_run_from_nothing_to_its_result(shown, write_run):
    run = shown["block d4 s0"]
    reader = RunReader(run)
    assert reader.read() is None
    write_run(run, [0.2, 0.6, 0.4])
    history = reader.read()
    assert reader.read() is history
    assert (history.epochs, history.succeeded) == (3, None)
    assert history.series["train"][2] == {
        "loss": 1.0,
        "accuracy": 0.3,
        "images_per_second": 9.0,
        "learning_rate": 0.1,
    }
    assert history.validation_accuracy == {1: 0.2, 2: 0.6, 3: 0.4}
    write_run(run, [0.2, 0.6, 0.4], test=0.5, best=2)
    history = reader.read()
    assert history.succeeded is True
    assert history.series["test"] == {2: {"loss": 0.5, "accuracy": 0.5}}
    assert history.validation_accuracy == {1: 0.2, 2: 0.6, 3: 0.6}


def test_a_run_that_failed(shown, write_run):
    run = shown["block d4 s0"]
    write_run(run, [0.2])
    run.write_failure("the disk is full")
    assert RunReader(run).read().succeeded is False


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("manifest.json", "{}", "manifest.json is not as tiedexp writes it"),
        ("metrics.jsonl", "[]\n", "metrics.jsonl, line 1, is not as tiedexp writes it"),
        ("metrics.jsonl", json.dumps({"epoch": 2**40}) + "\n", "epoch is wrong"),
        ("result.json", "{}", "result.json is not as tiedexp writes it"),
    ],
)
def test_what_is_damaged_is_one_message_each_time(shown, write_run, name, content, message):
    run = shown["block d4 s0"]
    write_run(run, [0.2])
    (run.path / name).write_text(content)
    reader = RunReader(run)
    for _ in range(2):
        with pytest.raises(RunError, match=message):
            reader.read()


def test_a_file_that_is_a_link_out_is_not_read(shown, write_run, tmp_path):
    run = shown["block d4 s0"]
    write_run(run, [0.2])
    (run.path / "metrics.jsonl").rename(tmp_path / "outside")
    (run.path / "metrics.jsonl").symlink_to(tmp_path / "outside")
    with pytest.raises(RunError, match="leads out of the run directory"):
        RunReader(run).read()


def test_numbers_as_texts_are_refused(shown, write_run):
    run = shown["block d4 s0"]
    write_run(run, [0.2])
    line = json.loads((run.path / "metrics.jsonl").read_text())
    (run.path / "metrics.jsonl").write_text(json.dumps(line | {"epoch": "1"}) + "\n")
    with pytest.raises(RunError, match="line 1, is not as tiedexp writes it: epoch is wrong"):
        RunReader(run).read()
