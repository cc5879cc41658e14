"""What the live view shows of a sweep on Ray: the real executor and view, and a Ray that follows a script."""

from __future__ import annotations

import io
import re
import shutil
import sys
from types import SimpleNamespace

import pytest
from rich.console import Console
from samples import make_line

from tiedexp.cli import sweep_view
from tiedexp.sweep.planning import plan_sweep
from tiedexp.sweep.ray import RayExecutor
from tiedexp.sweep.variants import load_sweep
from tiedexp.sweep.worker import Outcome, Task


class RayError(Exception):
    """Ray's own."""


class ScriptedRay:
    """The part of Ray that the executor uses. At each look the next step of the script happens.

    Args:
        script: functions that write what a worker would have written, and give the task that ended and its outcome (or
            error), or None.
        screen: what the view has drawn so far.
    """

    exceptions = SimpleNamespace(RayError=RayError)

    def __init__(self, script, screen):
        self._script, self._screen = iter(script), screen
        self._outcomes, self._at = {}, 0
        self.submitted, self.shown, self.cancelled = [], [], []

    def init(self, **_):
        pass

    shutdown = init

    def get_runtime_context(self):
        return SimpleNamespace(gcs_address="127.0.0.1:6379")

    def nodes(self):
        return [{"Alive": True}, {"Alive": True}, {"Alive": False}]

    def remote(self, **_):
        return lambda _: SimpleNamespace(remote=self._submit)

    def _submit(self, task):
        self.submitted.append(task.spec.name)
        return len(self.submitted), task.spec.name

    def wait(self, references, *, num_returns, timeout):
        self._note()
        ended = next(self._script)()
        if ended is None:
            return [], references
        (reference,) = [each for each in references if each[1] == ended[0]]
        self._outcomes[reference] = ended[1]
        return [reference], [each for each in references if each != reference]

    def _note(self):
        """What was drawn since the last look."""
        text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\r", "", self._screen.getvalue()[self._at :])
        self._at = len(self._screen.getvalue())
        self.shown.append([" ".join(line.split()) for line in text.splitlines() if line.strip()])

    def get(self, reference):
        outcome = self._outcomes[reference]
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


@pytest.fixture
def sweep(write_sweep, tmp_path):
    """Two runs of two epochs, `point s0` and `rings s0`."""
    path = write_sweep(("seeds: 2", "seeds: 1"), ("list:\n  - {name: untied}\n", ""), ("baseline: untied\n", ""))
    return plan_sweep(load_sweep(path), tmp_path / "runs")


def rows(shown):
    """The rows of the table as it was drawn last, without heads, bars and times."""
    begin = max(at for at, line in enumerate(shown) if line.endswith("run epoch accuracy time"))
    return [re.sub(r" ━+| \d+ s$", "", line) for line in shown[begin + 1 : -1]]


def test_the_live_view_follows_a_sweep_on_ray(sweep, make_run, tmp_path, monkeypatch):
    screen = io.StringIO()
    monkeypatch.setattr("tiedexp.sweep.ray._check_head", lambda address: None)  # there is none
    monkeypatch.setattr(
        sweep_view, "Console", lambda **options: Console(file=screen, force_terminal=True, width=100, **options)
    )
    point, rings = sweep.runs

    def begin(run):
        run.directory.path.mkdir(parents=True)
        run.directory.write_json("manifest.json", {})

    def end_epoch(run, epoch, accuracy):
        run.directory.append_metrics(make_line(epoch, validation=accuracy))

    def end(run, accuracy):
        shutil.copy(make_run(test=accuracy) / "result.json", run.directory.path)
        return "point", Outcome("finished", accuracy=accuracy)

    crash = Outcome("failed", "it crashed", may_retry=True)
    script = [
        lambda: None,  # nothing is on disk yet
        lambda: begin(point),
        lambda: end_epoch(point, 1, 0.75),
        lambda: ("rings", crash),  # before it began
        lambda: ("point", RayError("while it ran\nthe worker died")),
        lambda: None,  # the second attempt is in the run
        lambda: ("rings", crash),
        lambda: end_epoch(point, 2, 0.875),
        lambda: end(point, 0.8),
    ]
    ray = ScriptedRay(script, screen)
    monkeypatch.setitem(sys.modules, "ray", ray)
    with sweep_view.LiveView() as view:
        results = RayExecutor(
            "", Task(point.spec, tmp_path), num_cpus=2, num_gpus=0, retries=1, fail_fast=False, observer=view
        ).run(sweep, sweep.runs, lambda: False)
        ray._note()

    assert (results.finished, results.failed) == ([point.path], {rings.path: "it crashed"})
    assert ray.submitted == ["point", "rings", "rings", "point"]
    before, *looks = ray.shown
    assert before[-1] == "small-sweep: 2 of 2 runs to do, on 2 Ray nodes, 2 CPUs and 0 GPUs each"
    started, at_one, at_two = "point s0 1/2", "point s0 2/2 0.7500", "point s0 2/2 0.8750"
    assert [rows(look) for look in looks] == [
        [], [started], [at_one], [at_one], [started], [at_one], [at_one], [at_two], []
    ]  # fmt: skip
    said = [(at, line) for at, look in enumerate(looks) for line in look if re.match(r"retry|failed|done", line)]
    assert said == [
        (3, "retry rings s0: it crashed"),
        (4, "retry point s0: Ray could not run it: the worker died"),
        (6, "failed rings s0: it crashed"),
        (8, "done point s0: test accuracy 0.8000 (2 of 2)"),
    ]
    assert "[bold]" not in screen.getvalue()  # nor in the table that a line takes along
    assert [look[-1].partition(" done")[0] for look in looks] == [*["0 of 2"] * 6, "1 of 2", "1 of 2", "2 of 2"]
