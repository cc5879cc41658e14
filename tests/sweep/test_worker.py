"""A worker on a full disk."""

from __future__ import annotations

from errno import ENOSPC
from os import strerror

import pytest

from tiedexp.runs.directory import RunDirectory
from tiedexp.sweep.ledger import Ledger
from tiedexp.sweep.observer import SweepObserver
from tiedexp.sweep.planning import plan_sweep
from tiedexp.sweep.variants import load_sweep
from tiedexp.sweep.worker import Outcome, Task, execute_with_log


@pytest.fixture
def plan(write_sweep, tmp_path):
    return plan_sweep(load_sweep(write_sweep()), tmp_path / "runs")


def test_a_full_disk_is_the_outcome(plan, monkeypatch):
    def refuse(self):
        raise OSError(ENOSPC, strerror(ENOSPC), str(self.path / "log.txt"))

    monkeypatch.setattr(RunDirectory, "open_log", refuse)
    run = plan.runs[0]
    outcome = execute_with_log(Task(run.spec, plan.directory.path), lambda progress: None, lambda: False)
    assert (outcome.kind, outcome.may_retry) == ("failed", True)
    assert outcome.message == f"No space left on device: {run.directory.path}/log.txt"


def test_why_runs_failed_is_written_once_there_is_room(plan, monkeypatch):
    full = True
    write = RunDirectory.write_failure

    def write_if_there_is_room(self, message):
        if full:
            raise OSError(ENOSPC, strerror(ENOSPC))
        write(self, message)

    monkeypatch.setattr(RunDirectory, "write_failure", write_if_there_is_room)
    ledger = Ledger(0, SweepObserver())
    for run in plan.runs[:2]:
        run.directory.path.mkdir(parents=True)
        assert not ledger.note(run, Outcome("failed", "No space left on device"))
    assert [run.directory.state for run in plan.runs[:2]] == ["missing", "missing"]
    full = False
    ledger.write_failures()
    assert [run.directory.state for run in plan.runs[:2]] == ["failed", "failed"]
    assert plan.runs[1].directory.read_failure() == "No space left on device"
