"""The folder that TensorBoard is shown for a sweep, read back by TensorBoard's reader of event files."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata

from tiedexp.board.sweep_board import SweepBoard, name_variants
from tiedexp.errors import RunError
from tiedexp.runs.sweeps import SweepDirectory, SweepRecord, Variant


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "folder").mkdir()
    return tmp_path / "folder"


def read_events(directory: Path) -> EventAccumulator:
    reader = EventAccumulator(str(directory), tensor_size_guidance={"tensors": 0})
    reader.Reload()
    return reader


def read_scalar(directory: Path, tag: str) -> dict[int, float]:
    return {event.step: event.tensor_proto.float_val[0] for event in read_events(directory).Tensors(tag)}


def names_in(folder: Path) -> list[str]:
    """The runs that TensorBoard will find."""
    found = {path.parent.relative_to(folder).as_posix() for path in folder.rglob("events.out.tfevents.*")}
    for link in (path for path in folder.rglob("*") if path.is_symlink()):
        assert link.is_dir()
        found.add(link.relative_to(folder).as_posix())
    return sorted(found)


def test_nothing_has_started(sweep, folder):
    board = SweepBoard(sweep, folder)
    board.update(strict=True)
    assert (board.shown, board.planned, names_in(folder)) == (0, 4, ["."])


def test_one_seed_has_no_synthetic_runs(sweep, shown, folder, write_run):
    write_run(shown["block d4 s0"], [0.2], 0.5)
    SweepBoard(sweep, folder).update(strict=True)
    assert names_in(folder) == [".", *(f"block d4 s0{split}" for split in ("", "/train", "/validation"))]


def test_two_seeds_have_means_of_the_steps_that_both_have(sweep, shown, folder, write_run):
    write_run(shown["block d4 s0"], [0.25, 0.5, 0.75])
    write_run(shown["block d4 s1"], [0.75, 1.0])
    SweepBoard(sweep, folder).update(strict=True)
    deviation = 0.5 / 2**0.5  # of two values 0.5 apart, with n - 1
    for name, sign in (("mean", 0), ("mean-std", -1), ("mean+std", 1)):
        accuracy = read_scalar(folder / f"block d4 {name}" / "validation", "accuracy")
        assert accuracy == pytest.approx({1: 0.5 + sign * deviation, 2: 0.75 + sign * deviation})
    assert read_scalar(folder / "block d4 mean" / "train", "seeds") == {1: 2, 2: 2}
    assert not (folder / "block d4 mean" / "test").exists()
    assert not list(folder.glob("d4*"))


def test_it_follows_its_runs(sweep, shown, folder, write_run):
    board = SweepBoard(sweep, folder)
    for epochs in range(1, 5):
        write_run(shown["block d4 s0"], [0.5] * epochs)
        write_run(shown["block d4 s1"], [0.25] * epochs)
        board.update()
        mean = folder / "block d4 mean" / "validation"
        assert list(read_scalar(mean, "accuracy")) == list(range(1, epochs + 1))
        assert len(list(mean.iterdir())) <= 2  # this one and the one before
    write_run(shown["block d4 s0"], [0.5] * 4, 0.75, best=2)
    board.update()
    assert read_scalar(folder / "block d4 s0", "test accuracy") == {4: 0.75}
    assert board.shown == 2


def test_nothing_new_is_nothing_written(sweep, shown, folder, write_run):
    write_run(shown["block d4 s0"], [0.5])
    board = SweepBoard(sweep, folder)
    board.update()
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    board.update()
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_a_run_that_failed_and_is_restarted_is_gone_for_one_update(sweep, shown, folder, write_run):
    run = shown["block d4 s0"]
    write_run(run, [0.5])
    write_run(shown["block d4 s1"], [0.5])
    run.write_failure("the disk is full")
    board = SweepBoard(sweep, folder)
    board.update()
    assert metadata.SESSION_END_INFO_TAG in read_events(folder / "block d4 s0").Tags()["tensors"]
    run.clear()
    write_run(run, [0.75])
    board.update()
    assert not (folder / "block d4 s0").exists()
    board.update()
    assert read_scalar(folder / "block d4 s0", "validation accuracy") == {1: 0.75}
    assert metadata.SESSION_END_INFO_TAG not in read_events(folder / "block d4 s0").Tags()["tensors"]
    assert list(run.tensorboard.glob("validation/*"))  # only the link was removed
    shutil.rmtree(run.path)
    board.update()
    assert not [name for name in names_in(folder) if "mean" in name]


def test_nothing_is_written_into_the_sweep(sweep, shown, folder, write_run):
    for run in shown.values():
        write_run(run, [0.5, 0.75], 0.5)
    before = {path: path.stat().st_mtime_ns for path in sweep.path.rglob("*")}
    board = SweepBoard(sweep, folder)
    board.update()
    board.update()
    assert {path: path.stat().st_mtime_ns for path in sweep.path.rglob("*")} == before


def test_a_damaged_run_is_an_error_when_strict_and_else_stays_as_it_was(sweep, shown, folder, write_run):
    run = shown["block d4 s0"]
    write_run(run, [0.5])
    board = SweepBoard(sweep, folder)
    board.update(strict=True)
    (run.path / "manifest.json").write_text("{}")
    board.update()
    assert read_scalar(folder / "block d4 s0", "validation accuracy") == {1: 0.5}
    with pytest.raises(RunError, match="not as tiedexp writes it"):
        SweepBoard(sweep, folder).update(strict=True)


@pytest.mark.parametrize("place", ["tensorboard/train", "tensorboard/train/events.out.tfevents.9", "tensorboard"])
def test_a_log_that_leads_out_is_refused(sweep, shown, folder, tmp_path, write_run, place):
    run = shown["block d4 s0"]
    write_run(run, [0.5])
    path = run.path / place
    if path.exists():
        shutil.rmtree(path)
    (tmp_path / "secret").mkdir()
    path.symlink_to(tmp_path / "secret")
    with pytest.raises(RunError, match="leads out of"):
        SweepBoard(sweep, folder).update(strict=True)
    assert not [path for path in folder.rglob("*") if path.is_symlink()]


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (["block d4", "rows of 5x5"], ["block d4", "rows of 5x5"]),
        (["a/b", "../../etc", "...", ""], ["a-b", "-..-etc", "v2", "v3"]),
        (["hashed(groups=9, seed=0) w16"], ["hashed(groups=9, seed=0) w16"]),
        (["same", "same", "same"], ["same", "same (v1)", "same (v2)"]),
        (["größe\n\x00\ud800"], ["größe-"]),
        (["ß" * 1000], ["ß" * 60]),
    ],
)
def test_labels_as_names_of_runs(labels, names):
    variants = tuple(Variant(name=f"v{at}", label=label, settings={}, width=1) for at, label in enumerate(labels))
    record = SweepRecord(name="study", axes=(), variants=variants, runs=())
    assert list(name_variants(record).values()) == names


def test_a_record_that_cannot_be_read(tmp_path, folder):
    with pytest.raises(RunError, match=r"sweep\.json cannot be read"):
        SweepBoard(SweepDirectory(tmp_path), folder)
