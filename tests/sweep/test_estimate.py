"""What a sweep needs, before it runs."""

from __future__ import annotations

import shutil
from types import SimpleNamespace

import pytest

from tiedexp.errors import RunError
from tiedexp.sweep.estimate import CHECKPOINTS, LOG_BYTES, check_disk
from tiedexp.sweep.planning import plan_sweep
from tiedexp.sweep.variants import load_sweep


def test_a_sweep_larger_than_the_disk_is_refused(write_sweep, tmp_path, monkeypatch):
    plan = plan_sweep(load_sweep(write_sweep()), tmp_path / "runs")
    one = LOG_BYTES + CHECKPOINTS * 12 * 450  # adamw keeps two numbers for each weight, of which there are below 450
    asked = []

    def with_free(free):
        def usage(path):
            asked.append(path)
            return SimpleNamespace(free=free)

        monkeypatch.setattr(shutil, "disk_usage", usage)

    with_free(6 * one)
    check_disk(plan, plan.runs, None)
    with_free(6 * LOG_BYTES)
    with pytest.raises(
        RunError,
        match=rf"the 6 runs need about 2 MB, but {tmp_path} has 2 MB free; choose another directory with --runs",
    ):
        check_disk(plan, plan.runs, None)
    check_disk(plan, plan.runs[:5], None)
    assert set(asked) == {tmp_path}  # nothing is made to find out
    for run in plan.runs:  # what is there already needs no more room
        run.directory.path.mkdir(parents=True)
        (run.directory.path / "log.txt").write_bytes(bytes(20_000))
    check_disk(plan, plan.runs, None)
