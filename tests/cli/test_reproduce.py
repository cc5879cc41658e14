"""`tiedexp reproduce` and `tiedexp extend`, from the outside."""

from __future__ import annotations

import json
from pathlib import Path

import pytest


@pytest.fixture
def trained(tiedexp_cli, small_spec):
    answer = tiedexp_cli("train", small_spec, "--json")
    assert answer.code == 0, answer.err
    return Path(json.loads(answer.out)["run"])


def test_reproduce_says_whether_it_is_the_same(tiedexp_cli, trained):
    answer = tiedexp_cli("reproduce", trained)
    assert answer.code == 0, answer.err
    assert "identical to the bit: " in answer.out
    assert "arrays of weights compared" in answer.out
    document = json.loads(tiedexp_cli("reproduce", trained, "--json").out)
    assert document["identical"] is True
    assert document["again"].startswith(str(Path("runs", "reproduced").resolve()))


def test_reproduce_says_what_is_different(tiedexp_cli, trained):
    path = trained / "metrics.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    lines[0]["validation"]["loss"] += 1
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    manifest = json.loads((trained / "manifest.json").read_text())
    manifest["versions"]["keras"] = "3.14.0"
    (trained / "manifest.json").write_text(json.dumps(manifest))
    answer = tiedexp_cli("reproduce", trained)
    assert answer.code == 1
    assert "metrics: validation.loss: 1 of 2 differ, by at most 1" in answer.out
    assert "made with keras 3.15" in answer.out
    assert "in place of 3.14.0" in answer.out


def test_extend_says_whether_it_is_the_same(tiedexp_cli, trained):
    answer = tiedexp_cli("extend", trained, "--epochs", 3, "--json")
    assert answer.code == 0, answer.err
    document = json.loads(answer.out)
    assert document["epochs"] == 3
    assert (
        answer.err == "this is the same as training 3 epochs from scratch: its schedule does not depend on the epochs\n"
    )
    answer = tiedexp_cli("extend", trained, "--epochs", 2)
    assert answer.code == 2
    assert "the run has 2 epochs; --epochs must be larger" in answer.err


def test_extend_says_that_a_cosine_is_another(tiedexp_cli, small_spec):
    run = json.loads(tiedexp_cli("train", small_spec, "training.schedule.name=cosine", "--json").out)["run"]
    answer = tiedexp_cli("extend", run, "--epochs", 3)
    assert answer.code == 0, answer.err
    assert (
        "this differs from training 3 epochs from scratch: up to epoch 2 it followed a cosine of 2 epochs" in answer.err
    )
    assert "resuming after epoch 2" in answer.out
