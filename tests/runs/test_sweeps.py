"""The record of a sweep, and what is refused in it."""

from __future__ import annotations

import json

import pytest

from tiedexp.errors import RunError
from tiedexp.runs.directory import RunDirectory
from tiedexp.runs.sweeps import PlannedRun, SweepDirectory, SweepRecord, Variant

RECORD = SweepRecord(
    name="study",
    baseline="full",
    axes=("model.tying.pattern",),
    variants=(
        Variant(name="full", label="full", settings={"model.tying.pattern": "full"}, width=4),
        Variant(name="block", label="block", settings={"model.tying.pattern": "block"}, width=4),
    ),
    runs=(
        PlannedRun(variant="full", seed=0, path="full-0123456789/seed-0"),
        PlannedRun(variant="block", seed=0, path="block-0123456789/seed-0"),
    ),
)


def change(path, **changes):
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, **changes}))


def test_what_is_written_is_read(tmp_path):
    sweep = SweepDirectory(tmp_path / "study")
    assert not SweepDirectory.is_at(sweep.path)
    sweep.write(RECORD, "name: study\n")
    assert SweepDirectory.is_at(sweep.path)
    assert sweep.read() == RECORD
    assert (sweep.path / "sweep.yaml").read_text() == "name: study\n"
    assert [run.path.parent.name for _, run in sweep.runs()] == ["full-0123456789", "block-0123456789"]


def test_the_runs_of_an_earlier_plan_can_stay_planned(tmp_path):
    sweep = SweepDirectory(tmp_path / "study")
    sweep.write(RECORD, "", keep=True)  # there is no earlier plan
    assert sweep.read() == RECORD
    other_seed = PlannedRun(variant="full", seed=1, path="full-0123456789/seed-1")
    other_block = PlannedRun(variant="block", seed=0, path="block-9876543210/seed-0")
    rings = Variant(name="rings", label="rings", settings={"model.tying.pattern": "rings"}, width=4)
    first_rings = PlannedRun(variant="rings", seed=0, path="rings-0123456789/seed-0")
    before = {"variants": (*RECORD.variants, rings), "runs": (RECORD.runs[0], other_seed, other_block, first_rings)}
    sweep.write(RECORD.model_copy(update={**before, "axes": ("seed_of_data",)}), "")
    sweep.write(RECORD, "new", keep=True)
    joined = sweep.read()
    assert joined.variants == (*RECORD.variants, rings)
    assert joined.runs == (*RECORD.runs, other_seed, first_rings)  # `block` is a different experiment now
    assert joined.axes == ("model.tying.pattern", "seed_of_data")
    assert (sweep.path / "sweep.yaml").read_text() == "new"
    sweep.write(RECORD, "")
    assert sweep.read() == RECORD


@pytest.mark.parametrize(
    "path", ["../other-0123456789/seed-0", "/etc/seed-0", "a/b/seed-0", ".hidden/seed-0", "a/seed-x"]
)
def test_runs_are_below_the_sweep(tmp_path, path):
    sweep = SweepDirectory(tmp_path)
    sweep.write(RECORD, "")
    change(tmp_path / "sweep.json", runs=[{"variant": "full", "seed": 0, "path": path}])
    with pytest.raises(RunError, match=r"sweep.json is not as tiedexp writes it: runs.0.path is wrong"):
        sweep.read()


def test_links_out_of_the_sweep_are_refused(tmp_path):
    (tmp_path / "elsewhere" / "seed-0").mkdir(parents=True)
    sweep = SweepDirectory(tmp_path / "study")
    sweep.write(RECORD, "")
    (sweep.path / "full-0123456789").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RunError, match="leads out of the sweep's directory"):
        list(sweep.runs())


@pytest.mark.parametrize("target", ["x" * 300, "full-0123456789", "nowhere"])
@pytest.mark.parametrize("name", ["full-0123456789", "full-0123456789/seed-0"])
def test_links_that_lead_nowhere_are_refused(tmp_path, name, target):
    sweep = SweepDirectory(tmp_path)
    sweep.write(RECORD, "")
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).symlink_to(target)
    with pytest.raises(RunError, match=f"{name} is a link that leads nowhere"):
        list(sweep.runs())


def test_a_record_that_is_elsewhere_is_refused(tmp_path):
    sweep = SweepDirectory(tmp_path / "study")
    sweep.write(RECORD, "")
    (sweep.path / "sweep.json").rename(tmp_path / "sweep.json")
    (sweep.path / "sweep.json").symlink_to("../sweep.json")
    with pytest.raises(RunError, match=r"sweep.json leads out of the sweep's directory"):
        sweep.read()
    (sweep.path / "sweep.json").unlink()
    (sweep.path / "sweep.json").symlink_to("x" * 300)
    assert not SweepDirectory.is_at(sweep.path)


def test_strange_records(tmp_path):
    sweep = SweepDirectory(tmp_path)
    sweep.write(RECORD, "")
    change(tmp_path / "sweep.json", baseline="ring")
    with pytest.raises(RunError, match="no variant has the name ring"):
        sweep.read()
    change(tmp_path / "sweep.json", format=2)
    with pytest.raises(RunError, match=r"newer tiedexp \(format 2"):
        sweep.read()
    (tmp_path / "sweep.json").write_text("[]")
    with pytest.raises(RunError, match="not as tiedexp writes it"):
        sweep.read()


def test_the_states_of_a_run(tmp_path):
    run = RunDirectory(tmp_path / "a-0123456789" / "seed-0")
    assert run.state == "missing"
    with run.lock():
        assert run.state == "running"
    assert run.state == "missing"
    run.write_json("manifest.json", {})
    assert run.state == "unfinished"
    run.write_failure("the disk is full")
    assert (run.state, run.read_failure()) == ("failed", "the disk is full")
    with run.lock():
        assert run.state == "running"
    run.write_json("result.json", {})
    assert run.state == "finished"
