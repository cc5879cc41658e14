"""`tiedexp sweep`."""

from __future__ import annotations

import json
from contextlib import nullcontext

import pytest

SWEEP = """\
name: two
base:
  name: base
  dataset: {name: digits, limit: 200}
  model: {depth: 1, width: 4, kernel_size: 3}
  training: {epochs: 1, batch_size: 50, threads: 1}
grid:
  model.tying.pattern: [point, rings]
"""


@pytest.fixture
def sweep(tmp_path):
    path = tmp_path / "two.yaml"
    path.write_text(SWEEP)
    return path


def test_a_sweep_from_plan_to_end(tiedexp_cli, sweep, tmp_path):
    answer = tiedexp_cli("sweep", sweep, "--plan", "--json", "--jobs", 2)
    assert answer.code == 0
    plan = json.loads(answer.out)
    assert [run["state"] for run in plan["runs"]] == ["missing", "missing"]
    assert plan["left"] == 2
    assert 0 < plan["seconds"] < sum(run["seconds"] for run in plan["runs"])
    assert not (tmp_path / "runs").exists()

    answer = tiedexp_cli("sweep", sweep, "--jobs", 2)
    assert answer.code == 0
    assert "two: 2 of 2 runs to do, 2 at a time" in answer.out
    assert "(2 of 2)" in answer.out
    assert "2 runs of two: 2 done" in answer.out
    assert "tiedexp compare runs/two" in answer.out
    results = sorted(tmp_path.glob("runs/two/*/seed-0/result.json"))
    assert len(results) == 2
    assert (tmp_path / "runs" / "two" / "sweep.yaml").read_text() == SWEEP

    before = [path.stat().st_mtime_ns for path in results]
    answer = tiedexp_cli("sweep", sweep, "seeds=2", "--only", "point", "--json")
    assert answer.code == 0
    states = json.loads(answer.out)["runs"]
    assert [path.split("-")[0] for path in states] == ["point", "point"]
    assert set(states.values()) == {"finished"}
    assert [path.stat().st_mtime_ns for path in results] == before  # what was finished was left alone
    record = json.loads((tmp_path / "runs" / "two" / "sweep.json").read_text())
    assert len(record["runs"]) == 4

    answer = tiedexp_cli("sweep", sweep, "seeds=2", "--plan")
    assert answer.code == 0
    assert "3 of 4 runs finished, 1 left: about" in answer.out

    answer = tiedexp_cli("sweep", sweep, "--only", "point", "--fresh", "-q")
    assert answer.code == 0
    assert results[1].stat().st_mtime_ns == before[1]
    assert results[0].stat().st_mtime_ns > before[0]


def test_what_is_wrong_is_said_and_nothing_is_made(tiedexp_cli, sweep, tmp_path):
    sweep.write_text(SWEEP.replace("rings", "ring").replace("grid", "grids"))
    answer = tiedexp_cli("sweep", sweep)
    assert (answer.code, answer.out) == (2, "")
    assert answer.err == f"error: {sweep}:7:1: grids: unknown key; did you mean 'grid'?\n"
    answer = tiedexp_cli("sweep", sweep.with_name("none.yaml"))
    assert (answer.code, answer.err) == (2, f"error: {sweep.with_name('none.yaml')}: there is no such file\n")
    sweep.write_text(SWEEP)
    answer = tiedexp_cli("sweep", sweep, "--only", "block")
    assert answer.code == 2
    assert "--only block: no run of the sweep matches" in answer.err
    assert not (tmp_path / "runs").exists()


def test_failures_are_told_and_the_rest_is_done(tiedexp_cli, sweep, tmp_path):
    sweep.write_text(SWEEP + "list:\n  - {name: bad, training.optimizer: {name: sgd, learning_rate: 1e30}}\n")
    answer = tiedexp_cli("sweep", sweep, "--jobs", 2)
    assert answer.code == 1
    assert "failed  bad s0: epoch 1: the loss became" in answer.out
    assert "3 runs of two: 2 done, 1 failed" in answer.out
    assert answer.err.startswith("error: 1 of 3 runs failed; the same command tries again\nbad-")


def test_asked_to_stop(tiedexp_cli, sweep, monkeypatch):
    monkeypatch.setattr("tiedexp.signals.stop_on_signals", lambda: nullcontext(lambda: True))
    answer = tiedexp_cli("sweep", sweep)
    assert answer.code == 130
    assert answer.err == "error: interrupted; the same command continues with the remaining runs\n"


def test_widths_that_a_budget_gives(tiedexp_cli, sweep):
    answer = tiedexp_cli("sweep", sweep, "match=weights", "baseline=point", "--plan", "--json")
    assert answer.code == 0
    assert [run["width"] for run in json.loads(answer.out)["runs"]] == [4, 5]
    answer = tiedexp_cli("sweep", sweep, "match=time", "baseline=point", "--plan", "--json")
    assert answer.code == 0
    assert json.loads(answer.out)["runs"][0]["width"] == 4
