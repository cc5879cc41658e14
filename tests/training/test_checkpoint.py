"""A checkpoint is loaded as it was saved, to the bit, and damage is noticed."""

from __future__ import annotations

import json
import resource
import shutil
from dataclasses import replace

import h5py
import numpy as np
import pytest

from tiedexp.errors import RunError
from tiedexp.training.checkpoint import FORMAT, CheckpointStore, load_weights, restore


def all_state(trainer):
    return [v.numpy() for v in [*trainer.model.variables, *trainer.optimizer.variables]]


@pytest.mark.parametrize(
    ("name", "precision"), [("sgd", "float32"), ("adam", "float32"), ("lion", "float32"), ("adamw", "mixed_float16")]
)
def test_resumed_training_gives_the_same_bits(make_trainer, tmp_path, name, precision):
    options = {"model": {"dropout": 0.4, "batch_norm": True, "dtype": precision}, "optimizer": {"precision": precision}}
    straight = make_trainer(name, **options)
    straight.run_epoch(0, 6)
    CheckpointStore(tmp_path / "new").save(1, straight.model, {"step": 6})
    straight.run_epoch(6, 6)

    resumed = make_trainer(name, **options)
    checkpoint = CheckpointStore(tmp_path / "new").latest()
    assert (checkpoint.epoch, checkpoint.state) == (1, {"step": 6})
    restore(checkpoint, resumed.model)
    resumed.run_epoch(6, 6)
    for ours, theirs in zip(all_state(resumed), all_state(straight), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_without_the_seed_generators_the_bits_would_differ(make_trainer, tmp_path):
    """Guards the test above: dropout must matter in it."""
    options = {"model": {"dropout": 0.4}}
    straight = make_trainer(**options)
    straight.run_epoch(0, 6)
    checkpoint = CheckpointStore(tmp_path).save(1, straight.model, {})
    straight.run_epoch(6, 6)
    resumed = make_trainer(**options)
    load_weights(checkpoint, resumed.model)
    resumed.run_epoch(6, 6)
    assert any((a != b).any() for a, b in zip(all_state(resumed)[:2], all_state(straight)[:2], strict=True))


@pytest.mark.parametrize(
    "damage", ["torn", "empty", "altered", "missing", "linked", "json torn", "json altered", "json missing"]
)
def test_a_damaged_checkpoint_is_passed_over(make_trainer, tmp_path, damage):
    store = CheckpointStore(tmp_path)
    model = make_trainer().model
    for epoch in (1, 2):
        store.save(epoch, model, {"best": epoch})
    weights, about = tmp_path / "epoch-0002.weights.h5", tmp_path / "epoch-0002.json"
    content = weights.read_bytes()
    if damage == "torn":
        weights.write_bytes(content[:-100])
    elif damage == "empty":
        weights.write_bytes(b"")
    elif damage == "altered":
        weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif damage == "linked":
        weights.rename(tmp_path / "elsewhere")
        weights.symlink_to(tmp_path / "elsewhere")
    elif damage == "missing":
        weights.unlink()
    elif damage == "json torn":
        about.write_text(about.read_text()[:-5])
    elif damage == "json altered":
        about.write_text(about.read_text().replace('"best": 2', '"best": 1'))
    else:
        about.unlink()
    warnings = []
    assert store.latest(warnings.append).epoch == 1
    unfinished = damage == "json missing"  # as after a kill, which is not damage
    assert warnings == ([] if unfinished else [f"the checkpoint {about} is damaged and is not used"])
    with pytest.raises(RunError, match=r"epoch-0002.json is missing, or it and its weights are not what"):
        store.of_epoch(2)


def test_pruning_keeps_what_it_is_told_and_leaves_nothing_else(make_trainer, tmp_path):
    store = CheckpointStore(tmp_path)
    model = make_trainer().model
    for epoch in range(1, 5):
        store.save(epoch, model, {})
    store.prune(keep={(2, 0), (4, 0)})
    names = [f"epoch-000{epoch}.{ending}" for epoch in (2, 4) for ending in ("json", "weights.h5")]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    store.prune(keep=())
    assert list(tmp_path.iterdir()) == []
    assert store.latest() is None


def test_renamed_files_are_not_a_checkpoint(tmp_path, make_trainer):
    """Neither as another epoch nor as another step; nor is a directory, or a number that no run reaches."""
    store = CheckpointStore(tmp_path)
    store.save(1, make_trainer().model, {})
    for name in ("epoch-0009", "epoch-0000-step-000007", f"epoch-{10**30}"):
        for ending in ("json", "weights.h5"):
            shutil.copy(tmp_path / f"epoch-0001.{ending}", tmp_path / f"{name}.{ending}")
    (tmp_path / "epoch-0012.json").mkdir()
    (tmp_path / "epoch-0012.weights.h5").mkdir()
    (tmp_path / ".unfinished-1-epoch-0003.json").mkdir()
    warnings = []
    assert store.latest(warnings.append).epoch == 1
    assert warnings == [f"the checkpoint {tmp_path / 'epoch-0009.json'} is damaged and is not used"]
    store.prune([(1, 0)])
    left = {path.name for path in tmp_path.iterdir() if path.is_file()}
    assert left == {f"epoch-{epoch}.{ending}" for epoch in ("0001", 10**30) for ending in ("json", "weights.h5")}


@pytest.mark.parametrize("state", [(1, 2, 3), (10**40, 0)])
def test_wrong_seed_generators_are_refused(tmp_path, make_trainer, state):
    model = make_trainer(model={"dropout": 0.3}).model
    checkpoint = CheckpointStore(tmp_path).save(1, model, {})
    with pytest.raises(RunError, match=r"epoch-0001.weights.h5 cannot be loaded: its seed generators"):
        restore(replace(checkpoint, seed_generators=(state,)), model)


def test_the_newest_is_the_furthest(make_trainer, tmp_path):
    store = CheckpointStore(tmp_path)
    model = make_trainer().model
    for place in [(2, 0), (10_000, 5), (9_999, 7), (10_000, 1_000_000), (10_000, 0), (9_999, 0)]:
        store.save(place[0], model, {}, step=place[1])
    order = []
    while (checkpoint := store.latest()) is not None:
        order.append((checkpoint.epoch, checkpoint.step))
        checkpoint.weights.unlink()
    assert order == [(10_000, 1_000_000), (10_000, 5), (10_000, 0), (9_999, 7), (9_999, 0), (2, 0)]


def test_what_killed_writers_left_is_deleted(make_trainer, tmp_path):
    store = CheckpointStore(tmp_path)
    store.save(1, make_trainer().model, {})
    for name in (".unfinished-123-epoch-0002.json", ".unfinished-9-epoch-0002.weights.h5", "epoch-0003.weights.h5"):
        (tmp_path / name).write_text("half")
    (tmp_path / "notes.txt").write_text("mine")
    assert store.latest().epoch == 1
    store.prune(keep={(1, 0)})
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "epoch-0001.json",
        "epoch-0001.weights.h5",
        "notes.txt",
    ]


def test_a_checkpoint_of_a_newer_tiedexp_is_refused(make_trainer, tmp_path):
    store = CheckpointStore(tmp_path)
    store.save(1, make_trainer().model, {})
    path = tmp_path / "epoch-0001.json"
    path.write_text(path.read_text().replace(f'"format": {FORMAT}', f'"format": {FORMAT + 1}'))
    with pytest.raises(RunError, match=r"epoch-0001.json was written by a newer tiedexp: update tiedexp"):
        store.latest()


def test_weights_of_another_model_are_refused(make_trainer, tmp_path):
    checkpoint = CheckpointStore(tmp_path).save(1, make_trainer().model, {})
    with pytest.raises(RunError, match=r"epoch-0001.weights.h5 cannot be loaded into this run's model"):
        load_weights(checkpoint, make_trainer(model={"batch_norm": True}).model)
    with pytest.raises(RunError, match="other seed generators"):
        restore(checkpoint, make_trainer(model={"dropout": 0.1}).model)


@pytest.mark.parametrize("share", [0.5, 0.999])
def test_a_failed_write_is_a_message_and_leaves_the_older_checkpoint(make_trainer, tmp_path, share):
    """As on a full disk, where HDF5 itself would abort the process."""
    store = CheckpointStore(tmp_path)
    model = make_trainer().model
    store.save(1, model, {"kept": True})
    size = (tmp_path / "epoch-0001.weights.h5").stat().st_size
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(size * share), before[1]))
    try:
        for epoch in (1, 2):
            with pytest.raises(RunError, match=rf"epoch-000{epoch}.weights.h5 cannot be written: File too large"):
                store.save(epoch, model, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert store.latest().state == {"kept": True}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["epoch-0001.json", "epoch-0001.weights.h5"]


def test_the_weights_are_what_keras_writes(make_trainer, tmp_path):
    """So that they can be read without tiedexp."""
    checkpoint = CheckpointStore(tmp_path).save(1, make_trainer("adam").model, {})
    model = make_trainer("adam").model
    model.get_layer("conv").bias.assign([1.0] * 5)
    model.load_weights(checkpoint.weights)
    np.testing.assert_array_equal(model.get_layer("conv").bias, [0.0] * 5)
    model.save_weights(tmp_path / "keras.weights.h5")
    files = [h5py.File(path) for path in (checkpoint.weights, tmp_path / "keras.weights.h5")]
    names = [[], []]
    for file, found in zip(files, names, strict=True):
        file.visit(found.append)
        file.close()
    assert names[0] == names[1]


def test_the_json_says_what_it_is(make_trainer, tmp_path):
    CheckpointStore(tmp_path).save(7, make_trainer(model={"dropout": 0.1}).model, {"step": 3}, step=12)
    content = json.loads((tmp_path / "epoch-0007-step-000012.json").read_text())
    assert (content["epoch"], content["step"]) == (7, 12)
    assert content["state"] == {"step": 3}
    assert len(content["sha256"]) == 64
    assert len(content["seed_generators"]) == 1


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("epoch-0001", '{"state": [' + "{}," * 200_000 + "{}]}"),
        ("epoch-0001-step-999999", "[" + "[]," * 2**20 + "[]]"),
        ("epoch-0001", " " * (2**20 + 1)),
    ],
)
def test_a_json_that_takes_more_memory_than_a_checkpoint_does_is_not_read(tmp_path, monkeypatch, name, text):
    def load(text):
        raise AssertionError("it is read")

    (tmp_path / f"{name}.json").write_text(text)
    (tmp_path / f"{name}.weights.h5").write_bytes(b"")
    monkeypatch.setattr(json, "loads", load)
    warnings = []
    assert CheckpointStore(tmp_path).latest(warnings.append) is None
    assert len(warnings) == 1
