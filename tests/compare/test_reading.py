"""Reading runs, including damaged and hostile ones."""

from __future__ import annotations

import json
import os
from contextlib import suppress

import pytest

from tiedexp.compare.reading import read_run, read_runs
from tiedexp.errors import RunError
from tiedexp.labels import PATTERN
from tiedexp.runs.directory import RunDirectory
from tiedexp.runs.sweeps import PlannedRun, SweepDirectory, SweepRecord, Variant


def change(path, **changes):
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, **changes}))


def test_a_run(make_run):
    record = read_run(RunDirectory(make_run("rings", seed=3, test=0.91, validation=0.87, weights=70)))
    assert (record.name, record.seed, record.unique_weights, record.macs_dense) == ("rings", 3, 70, 8000)
    assert record.metrics["test/accuracy"] == 0.91
    assert record.metrics["validation/loss"] == pytest.approx(0.13)
    assert "test/top5_accuracy" not in record.metrics
    assert record.settings[PATTERN] == "rings"
    assert record.settings["model.kernel_size"] == 5
    assert record.epoch_seconds == 1.0  # 10 seconds in all, 8 of the first of three epochs


def test_untied_and_without_validation(make_run):
    record = read_run(RunDirectory(make_run("none", validation=None, model__kernel_size=[3, 5])))
    assert record.settings[PATTERN] == "none"
    assert record.settings["model.kernel_size"] == "[3, 5]"
    assert {key.partition("/")[0] for key in record.metrics} == {"test"}


def test_a_directory_of_runs(make_run, tmp_path):
    runs = [make_run(pattern, seed) for pattern in ("block", "rings") for seed in (0, 1)]
    (runs[0] / "result.json").unlink()
    (runs[1] / "result.json").write_text("{")
    found = read_runs([tmp_path / "runs"])
    assert [run.run.path for run in found.runs] == runs[2:]
    assert (found.unfinished, found.sweeps) == (1, ())
    assert len(found.left_out) == 1
    assert f"{runs[1] / 'result.json'} is not JSON" in found.left_out[0]
    with pytest.raises(RunError, match="is not JSON"):  # among the given paths, so it is not left out
        read_runs([runs[1]])


def test_a_run_twice(make_run, tmp_path):
    run = make_run()
    copy = make_run(root=tmp_path / "copies")
    found = read_runs([run, copy, run])
    assert len(found.runs) == 1
    assert found.left_out[0] == f"{copy} has the same spec and seed as {run}, which is compared instead"


def test_a_run_done_again_is_compared_only_if_it_is_named(make_run, tmp_path):
    run, again = make_run(), make_run(root=tmp_path / "runs" / "reproduced")
    found = read_runs([tmp_path / "runs"])
    assert ([each.run.path for each in found.runs], found.left_out) == ([run], ())
    assert [each.run.path for each in read_runs([tmp_path / "runs" / "reproduced"]).runs] == [again]


def test_a_sweep(make_run, tmp_path):
    root = tmp_path / "study"
    run = make_run("block", root=root)
    make_run("stray", root=root)
    planned = run.relative_to(root).as_posix()
    record = SweepRecord(
        name="study",
        axes=(PATTERN,),
        variants=(Variant(name="block", label="the block", settings={PATTERN: "block"}, width=4),),
        runs=(
            PlannedRun(variant="block", seed=0, path=planned),
            PlannedRun(variant="block", seed=1, path="block-abc/seed-1"),
        ),
    )
    SweepDirectory(root).write(record, "")
    found = read_runs([root])
    assert ([sweep.record for sweep in found.sweeps], found.unfinished) == ([record], 1)
    assert [(run.variant, run.name, run.sweep) for run in found.runs] == [("block", "block", found.sweeps[0])]
    twice = read_runs([root, root])
    assert (len(twice.sweeps), len(twice.runs), twice.left_out) == (1, 1, ())


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("manifest.json", {"unique_weights": -1}, "not as tiedexp writes it"),
        ("manifest.json", {"macs_dense": 10**400}, "is not JSON: an integer of 401 digits"),
        ("manifest.json", {"macs_dense": 2**63}, "not as tiedexp writes it"),
        ("manifest.json", {"spec": {"name": 3, "seed": 0}}, "the spec has no name or seed"),
        ("manifest.json", {"spec": {"name": "a", "seed": True}}, "the spec has no name or seed"),
        ("manifest.json", {"format": 99}, "newer tiedexp"),
        ("result.json", {"test": 3}, "not as tiedexp writes it: test"),
        ("result.json", {"validation": [1]}, "not as tiedexp writes it: validation"),
        ("result.json", {"seconds": float("nan")}, "not as tiedexp writes it: .*finite"),
        ("result.json", {"epochs": -(10**9)}, "not as tiedexp writes it"),
        ("result.json", {"epoch_seconds": -1}, "a metric, weight or time is out of range"),
        ("result.json", {"epoch_seconds": "1"}, "not as tiedexp writes it: epoch_seconds"),
    ],
)
def test_what_cannot_be_meant(make_run, name, changes, message):
    run = make_run()
    change(run / name, **changes)
    with pytest.raises(RunError, match=message):
        read_run(RunDirectory(run))


@pytest.mark.parametrize("levels", [10, 300, 900, 990, 100_000])
def test_nesting_ends_in_a_value_or_an_error_of_ours(make_run, levels):
    run = make_run()
    text = (run / "manifest.json").read_text()
    nested = '"digits", "a": ' + '{"a": ' * levels + "1" + "}" * (levels + 1)
    (run / "manifest.json").write_text(text.replace('"digits"}', nested, 1))
    with suppress(RunError):
        assert read_run(RunDirectory(run)).name == "block"


@pytest.mark.parametrize("seconds", [0.25, None])
def test_a_run_says_how_long_its_epochs_take(make_run, seconds):
    """The first epoch of each process is excluded, which only the run itself can do; None if there is no other."""
    run = make_run()
    change(run / "result.json", epoch_seconds=seconds)
    assert read_run(RunDirectory(run)).epoch_seconds == seconds


def test_the_time_of_a_single_epoch_is_left_out(make_run):
    """A run of an older version took 10 s, and does not say how much of it was for compiling."""
    run = make_run()
    change(run / "result.json", epochs=1)
    record = read_run(RunDirectory(run))
    assert record.epoch_seconds is None
    assert record.facts["epoch_seconds"] is None


def test_only_the_first_epoch_is_read(make_run):
    run = make_run()
    with (run / "metrics.jsonl").open("r+b") as file:
        file.truncate(2**40)
    assert read_run(RunDirectory(run)).epoch_seconds == 1.0


def test_control_characters_do_not_reach_the_terminal(make_run):
    record = read_run(RunDirectory(make_run(dataset__name="a\x1b[2J\n\u202eb")))
    assert record.settings["dataset.name"] == "a�[2J��b"


def test_links_and_pipes(make_run, tmp_path):
    run = make_run()
    outside = tmp_path / "outside.json"
    (run / "result.json").rename(outside)
    (run / "result.json").symlink_to(outside)
    with pytest.raises(RunError, match="leads out of the run directory"):
        read_runs([run])
    (run / "result.json").unlink()
    os.mkfifo(run / "result.json")
    assert read_runs([run]).unfinished == 1
    (tmp_path / "runs" / "elsewhere").symlink_to(tmp_path)
    with pytest.raises(RunError, match="is a link that leads out of"):
        read_runs([tmp_path / "runs"])


@pytest.mark.parametrize("name", ["absent", "empty"])
def test_no_runs(tmp_path, name):
    (tmp_path / "empty").mkdir()
    with pytest.raises(RunError, match="does not exist" if name == "absent" else "holds no run"):
        read_runs([tmp_path / name])
