"""The differences between two runs."""

from __future__ import annotations

from tiedexp.compare.differing import DifferingValue, diff_runs
from tiedexp.labels import PATTERN
from tiedexp.runs.directory import RunDirectory


def test_runs_of_two_patterns(make_run):
    left, right = make_run("block", test=0.9, weights=100), make_run("none", test=0.8, weights=200)
    found = diff_runs(RunDirectory(left), RunDirectory(right))
    spec = {each.key: (each.left, each.right) for each in found.spec}
    assert spec == {"name": ("block", "none"), "model.tying.layers": ("all", None), PATTERN: ("block", None)}
    assert DifferingValue("unique_weights", 100, 200) in found.manifest
    assert DifferingValue("test/accuracy", 0.9, 0.8) in found.metrics
    assert (found.same_epochs, found.epochs) == (0, 3)


def test_two_of_the_same(make_run, tmp_path):
    """Times and process numbers are not differences."""
    left, right = make_run(), make_run(root=tmp_path / "again")
    manifest = RunDirectory(right).read_manifest()
    times = {"pid": 7, "started": "now", "command": ("x",)}
    RunDirectory(right).write_manifest(manifest.model_copy(update=times))
    (right / "metrics.jsonl").write_text(
        (right / "metrics.jsonl").read_text().replace('"seconds": 1.0', '"seconds": 9')
    )
    found = diff_runs(RunDirectory(left), RunDirectory(right))
    assert (found.spec, found.manifest, found.metrics) == ((), (), ())
    assert (found.same_epochs, found.epochs) == (3, 3)


def test_one_that_is_not_finished(make_run):
    left, right = make_run(seed=0), make_run(seed=1)
    (right / "result.json").unlink()
    lines = (right / "metrics.jsonl").read_text().splitlines(keepends=True)
    (right / "metrics.jsonl").write_text("".join(lines[:2]))
    found = diff_runs(RunDirectory(left), RunDirectory(right))
    assert [each.key for each in found.spec] == ["seed"]
    assert DifferingValue("best_epoch", 3, None) in found.metrics
    assert (found.same_epochs, found.epochs) == (2, 2)
