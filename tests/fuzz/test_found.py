"""Inputs that once failed badly: with another exception, after seconds or minutes, or by exhausting memory."""

from __future__ import annotations

import io
import json
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tiedexp.board.history import RunReader
from tiedexp.data.npz import describe_npz, load_npz
from tiedexp.errors import DatasetError, PatternError, RunError, SpecError
from tiedexp.patterns.grid import Pattern
from tiedexp.runs.directory import RunDirectory
from tiedexp.spec.document import MAX_BYTES, MAX_VALUES
from tiedexp.spec.loading import load_spec
from tiedexp.sweep.variants import load_sweep

HEAD = "name: x\ndataset: {name: digits}\n"
LARGE = "model: {depth: 1202, kernel_size: 127, tying: {pattern: "
ROOM = MAX_BYTES - 1024


def repeat(text: str) -> str:
    return text * (ROOM // len(text))


SLOW = {
    "scalars in a list": f"{HEAD}a: [{repeat('a,')}]",
    "lists in a list": f"{HEAD}a: [{repeat('[],')}]",
    "mappings in a list": f"{HEAD}a: [{repeat('{},')}]",
    "lines of a list": f"{HEAD}a:\n{repeat('- a' + chr(10))}",
    "unknown keys": HEAD + "".join(f"k{number:x}: 1\n" for number in range(ROOM // 12)),
    "unknown keys of the model": f"{HEAD}model:\n" + "".join(f" k{number:x}: 1\n" for number in range(ROOM // 13)),
    "one key again and again": HEAD + repeat("a: 1\n"),
    "layers that are words": f"{HEAD}model: {{depth: 9, tying: {{pattern: block, layers: [{repeat('x,')}]}}}}",
    "layers that are not there": f"{HEAD}model: {{depth: 9, tying: {{pattern: block, layers: [{repeat('11,')}]}}}}",
    "patterns that are none": f"{HEAD}model: {{depth: 9, tying: {{pattern: [{repeat('x,')}]}}}}",
    "mappings that are no patterns": f"{HEAD}model: {{depth: 9, tying: {{pattern: [{repeat('{a: 1},')}]}}}}",
    "as many wrong layers as fit": f"{HEAD}model: {{tying: {{pattern: block, layers: [{'11,' * (MAX_VALUES - 30)}]}}}}",
    "as many wrong words as fit": f"{HEAD}model: {{tying: {{pattern: block, layers: [{'x,' * (MAX_VALUES - 30)}]}}}}",
    "as many wrong patterns as fit": f"{HEAD}model: {{tying: {{pattern: [{'x,' * (MAX_VALUES - 30)}]}}}}",
    "as many unknown keys as fit": HEAD + "".join(f"k{number:x}: 1\n" for number in range(MAX_VALUES // 2 - 10)),
    "large patterns, all different": HEAD
    + LARGE
    + "["
    + ",".join(f"{{preset: hashed, groups: 16129, seed: {number}}}" for number in range(1202))
    + "]}}",
    "large patterns in each other": f"{HEAD}{LARGE}{'{preset: random_like, of: ' * 27}block{'}' * 27}}}}}",
    "a base with a long name": f"extends: {repeat('a/')}\n",
    "a grid of many rows": f"{HEAD}model: {{tying: {{pattern: '{repeat('A/')}'}}}}",
}


@pytest.mark.parametrize("text", SLOW.values(), ids=SLOW)
def test_specs_that_took_seconds(tmp_path, text):
    path = tmp_path / "spec.yaml"
    path.write_text(text)
    begin = time.thread_time()
    with pytest.raises(SpecError) as caught:
        load_spec(path)
    assert time.thread_time() - begin < 1.0
    assert len(caught.value.problems) <= 101
    assert len(str(caught.value)) < 50_000


def test_one_large_pattern_for_very_many_layers_is_made_once(tmp_path):
    path = tmp_path / "spec.yaml"
    path.write_text(f"{HEAD}{LARGE}hankel}}}}")
    begin = time.thread_time()
    assert len(load_spec(path).model.conv_patterns()) == 1202
    assert time.thread_time() - begin < 1.0


def test_a_hundred_problems_are_told_and_that_there_are_more(tmp_path):
    path = tmp_path / "spec.yaml"
    path.write_text(HEAD + "".join(f"k{number}: 1\n" for number in range(150)))
    with pytest.raises(SpecError) as caught:
        load_spec(path)
    assert caught.value.problems[0].startswith(f"{path}:3:1: k0: unknown key")
    assert caught.value.problems[100] == "there are more problems; these are the first 100"


def test_a_grid_of_no_end():
    begin = time.thread_time()
    with pytest.raises(PatternError, match=r"a grid has at most 262,144 characters. Received: 20,000,000"):
        Pattern.parse("A/" * 10**7)
    assert time.thread_time() - begin < 1.0


@pytest.mark.parametrize("name", ["spec.yaml", "manifest.json", "result.json", "checkpoints", "tensorboard"])
@pytest.mark.parametrize("target", ["x" * 300, "again", "nowhere"])
def test_links_that_lead_nowhere(tmp_path, name, target):
    run = tmp_path / "run"
    run.mkdir()
    (run / "manifest.json").write_text("{}")
    (run / name).unlink(missing_ok=True)
    (run / name).symlink_to(name if target == "again" else target)
    with pytest.raises(RunError, match=f"{name} is a link that leads nowhere"):
        RunDirectory.open(run)


def test_a_run_whose_name_is_too_long():
    with pytest.raises(RunError, match="is not a directory"):
        RunDirectory.open(Path("x" * 5000))


@pytest.mark.parametrize(
    ("name", "value"),
    [("hits", 10**400), ("hits", -1), ("timed_seconds", 0.0), ("seconds", float("nan")), ("loss", float("inf"))],
)
def test_sums_that_are_none(tmp_path, name, value):
    with pytest.raises(RunError, match=r"is not as tiedexp writes it: sums"):
        load_sums(tmp_path, **{name: value})


@pytest.mark.parametrize("norms", ["é", "A", "AAAA", "AAAAAA==", "AAAAAAAAAAA="])
def test_gradient_norms_that_are_none(tmp_path, norms):
    with pytest.raises(RunError, match="is not as tiedexp writes it: its gradient norms"):
        load_sums(tmp_path, gradient_norms=norms)


def load_sums(folder, **changes):
    """The state of a checkpoint whose sums are changed."""
    from tiedexp.experiment.state import load_state
    from tiedexp.training.checkpoint import Checkpoint

    sums = {"loss": 1.0, "hits": 3, "seconds": 1.0, "timed_steps": 1, "timed_seconds": 0.5, "gradient_norms": None}
    split = {"loss": 1.0, "accuracy": 0.5, "images_per_second": 9.0}
    line = {"epoch": 1, "step": 5, "learning_rate": 0.1, "train": split, "validation": None, "seconds": 1.0}
    best = {"epoch": 1, "accuracy": 0.5, "loss": 1.0}
    state = {"best": best, "stopping": None, "metrics": line, "sums": {**sums, **changes}}
    return load_state(Checkpoint(1, 3, folder / "epoch-0001-step-000003.weights.h5", state, ()))


@pytest.mark.parametrize("group", ["grid", "zip"])
def test_a_sweep_with_a_value_in_place_of_a_list(tmp_path, group):
    path = tmp_path / "sweep.yaml"
    path.write_text(f"name: s\nbase: {{name: b, dataset: {{name: digits}}}}\n{group}: {{model.depth: 3}}\n")
    with pytest.raises(
        SpecError, match=rf"3:\d+: {group}.model.depth: must be a list of one or more items. Received: 3"
    ):
        load_sweep(path)


@pytest.mark.parametrize(
    "header",
    [
        "{'descr':'|u1','fortran_order':False,'shape':(4",
        "{'descr':'|u1','fortran_order':False,'shape':(True,3,3)}",
        "{'descr':'|u1','fortran_order':False,'shape':(-1,-3,3)}",
        "{'descr':'|u1','fortran_order':False,'shape':(" + "-" * 5000 + "1,3,3)}",
        "[" * 5000,
    ],
)
@pytest.mark.parametrize("read", [load_npz, describe_npz])
def test_headers_of_arrays(tmp_path, header, read):
    with zipfile.ZipFile(tmp_path / "images.npz", "w") as archive:
        text = f"{header}\n".encode()
        archive.writestr("x_train.npy", b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + bytes(9))
        labels = io.BytesIO()
        np.save(labels, np.array([0]))
        archive.writestr("y_train.npy", labels.getvalue())
    with pytest.raises(
        DatasetError, match=r"images.npz is not a readable .npz archive .*: the header of x_train is damaged"
    ):
        read(tmp_path / "images.npz")


@pytest.mark.parametrize("change", [{"replicas": 10**400}, {"spec": {"name": "a", "seed": 0, "width": -(10**400)}}])
def test_numbers_that_no_float_holds(tiedexp_run, change):
    content = json.loads((tiedexp_run / "manifest.json").read_text())
    (tiedexp_run / "manifest.json").write_text(json.dumps({**content, **change}))
    for read in (RunDirectory(tiedexp_run).read_manifest, RunReader(RunDirectory(tiedexp_run)).read):
        with pytest.raises(RunError, match=r"manifest.json is not JSON: an integer of 40\d digits"):
            read()


@pytest.fixture
def tiedexp_run(make_run):
    """A run whose files are whole."""
    return make_run()
