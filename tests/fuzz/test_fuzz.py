"""Every input gives a value or one of our errors, within a second.

Here each test takes a few dozen inputs, the same every time. `python experiments/faults/fuzz.py --inputs 20000` takes
many, and new ones every time.
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import resource
import shutil
import time
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from samples import make_line, make_manifest, make_result

from tiedexp.compare.where import parse_condition
from tiedexp.data.npz import describe_npz, load_npz
from tiedexp.errors import TiedexpError
from tiedexp.patterns.grid import Pattern
from tiedexp.patterns.presets import PRESETS
from tiedexp.runs.directory import RunDirectory
from tiedexp.runs.sweeps import SweepDirectory
from tiedexp.runs.tags import read_tags
from tiedexp.spec.document import Location, parse_value, read_document
from tiedexp.spec.loading import dump_spec, load_spec
from tiedexp.spec.schema import ExperimentSpec
from tiedexp.sweep.variants import load_sweep
from tiedexp.training import weights_file

MAX_SECONDS = 1.0
INPUTS = int(os.environ.get("TIEDEXP_FUZZ_INPUTS", "0"))  # of each test; 0 for the few of the default
COUNTS: Counter[str] = Counter()

fuzzed = settings(
    max_examples=INPUTS or 60,
    derandomize=not INPUTS,
    database=None,
    deadline=None,  # the clock of `ends` does not count what else the machine does
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large],
)


def ends(name: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """The function's result, or None if it raises one of our errors; anything else fails."""
    begin = time.thread_time()
    try:
        value = function(*arguments)
    except TiedexpError as error:
        value, text = None, str(error)
    else:
        text = "no error"
    taken = time.thread_time() - begin
    assert text.strip(), "an error that says nothing"
    assert taken < MAX_SECONDS, f"{taken:.1f} seconds"
    COUNTS[name] += 1
    return value


# Text that is nearly right

SPEC = """\
name: mnist-block
dataset: {name: mnist, validation: 5000}
model:
  family: plain            # plain | resnet
  depth: 4
  width: 16
  kernel_size: [5, 5]
  tying:
    pattern: |
      A A B C C
      A A B C C
      D D E -F F
      G G . I I
      G G H I I
    layers: [1, 2]
training:
  epochs: 3
  optimizer: {name: adamw, learning_rate: 1e-3, weight_decay: 1e-4}
  schedule: {name: step, warmup_epochs: 1, epochs: [1, 2]}
  augmentation: {pad_crop: 4, flip: horizontal}
  early_stopping: {metric: loss}
seed: 0
"""
TOKENS = [
    *""":-,[]{}#&*!|>'"%@`?~./\\=<\n\t\0\x7f\x85\u2028\ufeff\U0001f600\ud800é٣""",
    *("\n", " ", "  ", "\n  ", ": ", "- ", "---\n", "...\n", "<<: ", "&a ", "*a", "!!python/object:os.system ", "!x "),
    *(
        "null",
        "true",
        ".nan",
        ".inf",
        "-0",
        "1e999",
        "0x",
        "0o8",
        "1_0",
        "9" * 99,
        "9" * 5000,
        "2147483648",
        "-1",
        "1.5",
    ),
    *("name: x\n", "extends: doc.yaml\n", "extends: .\n", "preset", "of", "{preset: hashed, groups: 9}", "{}", "[]"),
    *("random_like", "block", "folder", "npz", "path: ..", "resnet", "depth", "kernel_size: 127", "layers: all"),
    *('{"a":', "[1,", '"', "Infinity", "NaN", "\\ud800", "\\u0000", "]" * 50, "[" * 50, "{" * 50, "../..", "%s", "{0}"),
]


@st.composite
def nearly(draw: st.DrawFn, text: str) -> str:
    """A text with a few random deletions, duplications, insertions and replacements."""
    for _ in range(draw(st.integers(1, 4))):
        begin = draw(st.integers(0, len(text)))
        end = min(len(text), begin + draw(st.integers(0, 40)))
        kind = draw(st.sampled_from(("cut", "double", "token", "token", "replace", "text")))
        if kind == "cut":
            text = text[:begin] + text[end:]
        elif kind == "double":
            text = text[:end] + text[begin:]
        else:
            new = draw(st.text(max_size=8)) if kind == "text" else draw(st.sampled_from(TOKENS))
            text = text[:begin] + new + text[end if kind == "replace" else begin :]
    return text


def encode(text: str) -> bytes:
    return text.encode("utf-8", errors="surrogatepass")


soup = st.lists(st.sampled_from(TOKENS) | st.text(max_size=3), max_size=30).map("".join)
scalars = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10) | st.sampled_from(TOKENS)
    | st.sampled_from([*PRESETS, "all", "plain", "resnet", "adamw", "step", "digits", "AB/BA", 1, 3, 8, 20, 0.5])
)  # fmt: skip


def keys_of(schema: dict[str, Any]) -> list[str]:
    """Every key of a JSON schema's objects."""
    keys = set()
    for definition in (schema, *schema.get("$defs", {}).values()):
        keys |= definition.get("properties", {}).keys()
    return sorted(keys)


KEYS = keys_of(ExperimentSpec.model_json_schema())
keys = st.sampled_from(KEYS) | st.text(max_size=4)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4), max_leaves=12
)


def paths_of(tree: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every value in a tree of dicts and lists."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [path, *(below for key, value in items for below in paths_of(value, (*path, key)))]


def put(tree: Any, path: tuple[Any, ...], new: Any) -> Any:
    """The tree with another value at a path."""
    if not path:
        return new
    copy = dict(tree) if isinstance(tree, dict) else list(tree)
    copy[path[0]] = put(copy[path[0]], path[1:], new)
    return copy


@st.composite
def changed(draw: st.DrawFn, tree: Any) -> Any:
    """A tree in which one to three values are changed, or get another key beside them."""
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(paths_of(tree)))
        new = draw(values)
        at = tree
        for step in path:
            at = at[step]
        if isinstance(at, dict) and draw(st.booleans()):
            new = {**at, draw(keys): new}
        tree = put(tree, path, new)
    return tree


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


# YAML and specs


@fuzzed
@given(st.binary(max_size=300) | (soup | nearly(SPEC) | st.text(max_size=200)).map(encode))
def test_yaml(folder, content):
    path = folder / "doc.yaml"
    path.write_bytes(content)
    ends("yaml", read_document, path)


@fuzzed
@given(soup | st.text(max_size=60))
def test_yaml_values(text):
    ends("yaml", parse_value, text, Location("here"))


def check_spec(name: str, path: Path, overrides: list[str] = []) -> None:  # noqa: B006
    spec = ends(name, load_spec, path, overrides)
    if spec is not None:
        path.with_name("again.yaml").write_text(dump_spec(spec), encoding="utf-8")
        assert load_spec(path.with_name("again.yaml")) == spec


@fuzzed
@given(nearly(SPEC).map(encode))
def test_specs_of_damaged_text(folder, content):
    path = folder / "spec.yaml"
    path.write_bytes(content)
    check_spec("spec", path)


TREE = {
    "name": "small",
    "dataset": {"name": "digits", "validation": 0.1, "limit": 300},
    "model": {"family": "plain", "depth": 3, "width": 4, "kernel_size": [3, 3], "tying": {"pattern": ["point"]}},
    "training": {
        "epochs": 3,
        "optimizer": {"name": "adam", "learning_rate": 0.01},
        "schedule": {"name": "step", "epochs": [1, 2]},
        "early_stopping": {"patience": 3},
        "augmentation": {"pad_crop": 1, "flip": "both"},
    },
    "tensorboard": {"kernels": True},
}


@fuzzed
@given(changed(TREE))
def test_specs_of_other_values(folder, tree):
    path = folder / "spec.yaml"
    path.write_text(json.dumps(tree))
    check_spec("spec", path)


@fuzzed
@given(st.lists(st.tuples(st.lists(keys, min_size=1, max_size=4), st.sampled_from(["=", "", "=="]), soup), max_size=3))
def test_overrides(folder, overrides):
    path = folder / "base.yaml"
    path.write_text(SPEC)
    check_spec("overrides", path, [".".join(path) + equals + text for path, equals, text in overrides])


dotted = st.sampled_from([".".join(map(str, path)) for path in paths_of(TREE) if path])


@fuzzed
@given(st.lists(st.tuples(dotted, values), min_size=1, max_size=3))
def test_overrides_of_keys_that_are_there(folder, overrides):
    path = folder / "tree.yaml"
    path.write_text(json.dumps(TREE))
    check_spec("overrides", path, [f"{key}={json.dumps(value)}" for key, value in overrides])


# Patterns

GRID_PARTS = [
    "A",
    "B",
    "b1",
    "-A",
    "-",
    ".",
    " ",
    "/",
    "\n",
    "A1",
    "left",
    "_",
    "0",
    "é",
    "\r",
    "\u2028",
    "\t",
    "-.",
    "AB",
]
grids = st.lists(st.sampled_from(GRID_PARTS), max_size=60).map("".join) | nearly("AABCC/AABCC/DDE-FF/GG.II/GGHII")


@fuzzed
@given(grids | st.text(max_size=40))
def test_grids(text):
    pattern = ends("pattern", Pattern.parse, text)
    if pattern is not None:
        assert Pattern.parse(str(pattern)) == pattern


options = st.sampled_from(["blocks", "tile", "radius", "rate", "centre", "groups", "seed", "of", "x"])
pattern_values = st.deferred(
    lambda: (
        st.sampled_from([*PRESETS])
        | grids
        | st.builds(
            lambda name, rest: {"preset": name, **rest},
            st.sampled_from([*PRESETS]),
            st.dictionaries(
                options, st.integers(-2, 30) | scalars | st.lists(st.integers(0, 9), max_size=3), max_size=3
            ),
        )
        | st.builds(
            lambda of, seed: {"preset": "random_like", "of": of, "seed": seed}, pattern_values, st.integers(0, 3)
        )
        | st.dictionaries(options, scalars, max_size=3)
        | scalars
    )
)
sizes = (
    st.integers(-1, 12)
    | st.tuples(st.integers(0, 9), st.integers(0, 9))
    | st.sampled_from([127, 128, (127, 1)])
    | scalars
)


@fuzzed
@given(pattern_values, sizes)
def test_patterns(value, size):
    pattern = ends("pattern", Pattern.of, value, size)
    if pattern is not None:
        assert Pattern.parse(str(pattern)) == pattern


# Run directories

LINE, MANIFEST, RESULT = (
    json.loads(json.dumps(record.as_json())) for record in (make_line(validation=0.5), make_manifest(), make_result())
)
FAILURE = {"error": "epoch 2: out of memory", "time": "2026-01-01T00:00:00+00:00"}
RECORD = {
    "format": 1, "name": "study", "baseline": "a", "match": "weights", "axes": ["model.width"],
    "variants": [{"name": "a", "label": "a b", "settings": {"model.width": 4}, "width": 4}],
    "runs": [{"variant": "a", "seed": 0, "path": "a-1/seed-0"}, {"variant": "a", "seed": 1, "path": "a-1/seed-1"}],
}  # fmt: skip


def json_of(tree: Any) -> st.SearchStrategy[bytes]:
    """A JSON file: of a changed tree, of damaged text, or of anything."""
    return (
        changed(tree).map(json.dumps)
        | nearly(json.dumps(tree))
        | values.map(json.dumps)
        | soup
        | st.just(json.dumps(tree))
    ).map(encode) | st.binary(max_size=40)


entries = st.one_of(
    st.just(("none", b"")),
    st.sampled_from(
        [("link", b"/etc/passwd"), ("link", b".."), ("link", b"spec.yaml"), ("link", b"loop"), ("link", b"x" * 300)]
    ),
    st.sampled_from([("pipe", b""), ("directory", b"")]),
)


def make_entry(path: Path, kind: str, content: bytes) -> None:
    """What exists under a name: a file, or something else."""
    if not path.is_symlink() and path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    if kind == "file":
        path.write_bytes(content)
    elif kind == "link":
        path.symlink_to(os.fsdecode(content))
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()


def read_run(path: Path) -> None:
    """Everything that is read of a run without TensorFlow."""
    run = RunDirectory.open(path)
    load_spec(run.spec, allow_extends=False)
    run.read_manifest()
    read_tags(run)
    run.read_metrics()
    if run.finished:
        run.read_result()
    if run.state == "failed":
        run.read_failure()


def as_file(content: st.SearchStrategy[bytes]) -> st.SearchStrategy[tuple[str, bytes]]:
    return st.tuples(st.just("file"), content)


@fuzzed
@given(
    st.fixed_dictionaries(
        {
            "spec.yaml": as_file(st.just(SPEC.encode()) | nearly(SPEC).map(encode)) | entries,
            "manifest.json": as_file(json_of(MANIFEST)) | as_file(st.just(json.dumps(MANIFEST).encode())) | entries,
            "metrics.jsonl": as_file(st.just(json.dumps(LINE).encode()) | json_of(LINE)) | entries,
            "result.json": as_file(json_of(RESULT)) | entries,
            "failure.json": as_file(json_of(FAILURE)) | entries,
            "tags.json": as_file(json_of({"tags": ["paper", "a.b-c"]})) | entries,
            "checkpoints": st.just(("directory", b"")) | entries,
            "initial_kernel.h5": as_file(st.just(b"")) | entries,
            "tensorboard": st.just(("directory", b"")) | entries,
        }
    )
)
def test_run_directories(folder, files):
    path = folder / "run"
    path.mkdir(exist_ok=True)
    for name, (kind, content) in files.items():
        make_entry(path / name, kind, content)
    ends("run directory", read_run, path)


def read_sweep(path: Path) -> None:
    """Everything that is read of a sweep, and the states of its runs."""
    if SweepDirectory.is_at(path):
        for _, run in SweepDirectory(path).runs():
            if run.state == "failed":
                run.read_failure()


@fuzzed
@given(
    as_file(json_of(RECORD)) | as_file(st.just(json.dumps(RECORD).encode())) | entries,
    st.just(("directory", b"")) | entries,
    st.just(("directory", b"")) | entries,
    st.fixed_dictionaries(
        {
            "manifest.json": as_file(json_of(MANIFEST)) | entries,
            "result.json": as_file(json_of(RESULT)) | st.just(("none", b"")) | entries,
            "failure.json": as_file(json_of(FAILURE)) | entries,
            ".lock": as_file(st.binary(max_size=40)) | entries,
        }
    ),
)
def test_sweeps(folder, record, variant, seed, files):
    path = folder / "sweep"
    path.mkdir(exist_ok=True)
    make_entry(path / "sweep.json", *record)
    make_entry(path / "a-1", *variant)
    if variant[0] == "directory":
        make_entry(path / "a-1" / "seed-0", *seed)
        if seed[0] == "directory":
            for name, (kind, content) in files.items():
                make_entry(path / "a-1" / "seed-0" / name, kind, content)
    ends("sweeps", read_sweep, path)


@fuzzed
@given(st.lists(json_of(LINE), max_size=4), st.sampled_from([b"\n", b"", b"\r\n", b"\n\n", b"\0"]))
def test_metrics(folder, lines, separator):
    path = folder / "metrics"
    path.mkdir(exist_ok=True)
    (path / "metrics.jsonl").write_bytes(separator.join(lines))
    ends("metrics", RunDirectory(path).read_metrics)


STATE = {
    "best": {"epoch": 1, "accuracy": 0.5, "loss": 1.0},
    "stopping": None,
    "metrics": LINE,
    "sums": {
        "loss": 1.0, "hits": 3, "seconds": 1.0, "timed_steps": 1, "timed_seconds": 0.5,
        "gradient_norms": base64.b64encode(bytes(24)).decode(),
    },
}  # fmt: skip


@fuzzed
@given(json_of({"format": 2, "epoch": 1, "step": 3, "seed_generators": [[1, 2]], "state": STATE}), st.booleans())
def test_checkpoints(folder, content, seal):
    """`seal` gives the JSON its right checksum."""
    from tiedexp.experiment.state import load_state
    from tiedexp.training import checkpoint

    def read() -> None:
        for newest in (store.latest(), store.latest()):
            if newest is not None:
                state = load_state(newest)
                if state.sums.steps:
                    state.sums.result(batch_size=30)

    path = folder / "checkpoints"
    path.mkdir(exist_ok=True)
    store = checkpoint.CheckpointStore(path)
    (path / "epoch-0001-step-000003.weights.h5").write_bytes(b"")
    about = path / "epoch-0001-step-000003.json"
    about.write_bytes(content)
    if seal:
        try:
            tree = {**json.loads(content), "sha256": checkpoint._hash(about.with_suffix(".weights.h5"))}
            tree.pop("checksum", None)
            about.write_text(json.dumps({**tree, "checksum": checkpoint._checksum(tree)}))
        except (ValueError, TypeError, RecursionError):
            pass
    ends("checkpoints", read)


# Images


@pytest.fixture(scope="module")
def archive(folder) -> bytes:
    images, labels = np.zeros((4, 3, 3), np.uint8), np.array([0, 1, 0, 1])
    np.savez_compressed(folder / "images.npz", x_train=images, y_train=labels, class_names=["a", "b"])
    return (folder / "images.npz").read_bytes()


@fuzzed
@given(
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.binary(min_size=1, max_size=8)), min_size=1, max_size=5)
)
def test_archives(folder, archive, changes):
    content = bytearray(archive)
    for where, new in changes:
        at = int(where * len(content))
        content[at : at + len(new)] = new
    path = folder / "changed.npz"
    path.write_bytes(content)
    for read in (describe_npz, load_npz):
        ends("archives", read, path)


HEADER_PARTS = [
    *("{'descr':", "'|u1'", "'<f4'", "'|O'", "'fortran_order':", "False", "True", "'shape':", "(4,3,3)", "(", ")", ","),
    *(
        "-1",
        "9" * 30,
        "None",
        "[",
        "{",
        "}",
        "'",
        "1L",
        "()",
        "[('a','<i4')]",
        "'<U999999999'",
        "\n",
        "  ",
        "#",
        "\\",
        "\0",
    ),
]
header = "{'descr':'|u1','fortran_order':False,'shape':(4,3,3), }"


@fuzzed
@given(
    nearly(header) | st.lists(st.sampled_from(HEADER_PARTS), max_size=12).map("".join),
    st.sampled_from([(1, 0), (1, 0), (2, 0), (3, 0), (9, 9)]),
    st.sampled_from(["x_train", "y_train", "class_names"]),
)
def test_array_headers(folder, text, version, name):
    """Wrong headers in intact archives."""
    encoded = encode(text)
    length = len(encoded).to_bytes(2 if version == (1, 0) else 4, "little")
    path = folder / "headers.npz"
    with zipfile.ZipFile(path, "w") as archive:
        for each, array in (("x_train", np.zeros((4, 3, 3), np.uint8)), ("y_train", np.array([0, 1, 0, 1]))):
            if each != name:
                buffer = io.BytesIO()
                np.save(buffer, array)
                archive.writestr(f"{each}.npy", buffer.getvalue())
        archive.writestr(f"{name}.npy", b"\x93NUMPY" + bytes(version) + length + encoded + bytes(36))
    for read in (describe_npz, load_npz):
        ends("npz headers", read, path)


# Sweeps and conditions

SWEEP = """\
name: patterns
base:
  name: small
  dataset: {name: digits}
  model: {depth: 2, width: 4}
grid:
  model.tying.pattern: [block, rings, null]
  training.batch_size: [32, 64]
zip: {model.depth: [2, 3], model.width: [4, 6]}
list:
  - {name: untied, model.tying: null}
seeds: [0, 1]
exclude:
  - {model.depth: 3, training.batch_size: 64}
baseline: untied
match: weights
"""


@fuzzed
@given(nearly(SWEEP).map(encode))
def test_specs_of_sweeps(folder, content):
    path = folder / "sweep.yaml"
    path.write_bytes(content)
    ends("sweep specs", load_sweep, path)


WORDS = [
    "and",
    "or",
    "not",
    "(",
    ")",
    "==",
    "!=",
    "<",
    ">=",
    "in",
    "=",
    "-",
    "+",
    "[",
    "]",
    ",",
    "'",
    '"',
    "lambda",
    "`",
]
FACTS = {"model.width": 4, "name": "a", "test/accuracy": 0.5, "model.tying.pattern": "block", "x": None, "flag": True}


def holds(text: str) -> bool:
    return bool(parse_condition(text, set(FACTS))(FACTS))


@fuzzed
@given(
    nearly("model.width >= 4 and not (name == 'a' or test/accuracy < 0.5)")
    | st.lists(st.sampled_from([*WORDS, *FACTS, "3", "1e999", "9" * 400, "'a'"]), max_size=14).map(" ".join)
    | soup
)
def test_conditions(text):
    ends("where", holds, text)


# Weight files


def check_weights(path: Path) -> None:
    """Checks a file of weights in a child process, whose death counts as a refusal, as in the real check."""
    child = os.fork()
    if child == 0:
        code = 3
        try:
            resource.setrlimit(resource.RLIMIT_CPU, (2, 2))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            for task in ({"shapes": [[3, 4]]}, {"read": ["layers/conv2d/vars/0"]}):
                with contextlib.suppress(weights_file._RefusedError):
                    weights_file._do_task(path, task)
            code = 0
        except MemoryError:
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    assert not os.WIFEXITED(status) or os.WEXITSTATUS(status) == 0, "an exception that is not ours"


@pytest.fixture(scope="module")
def weights(folder) -> bytes:
    path = folder / "whole.weights.h5"
    with h5py.File(path, "w") as file:
        file["layers/conv2d/vars/0"] = np.zeros((3, 4), np.float32)
        file["optimizer/vars/0"] = np.int64(3)
    return path.read_bytes()


@fuzzed
@given(
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.binary(min_size=1, max_size=8)), min_size=1, max_size=5),
    st.booleans(),
)
def test_weight_files(folder, weights, changes, cut):
    content = bytearray(weights)
    for where, new in changes:
        at = int(where * len(content))
        content[at : at + len(new)] = new
    path = folder / "changed.weights.h5"
    path.write_bytes(content[: int(changes[0][0] * len(content))] if cut and changes[0][1][0] < 16 else content)
    ends("weight files", check_weights, path)
