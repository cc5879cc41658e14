"""`extends`, overrides, paths, and writing a spec back as text."""

from __future__ import annotations

import string
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tiedexp.errors import SpecError
from tiedexp.patterns.grid import Pattern
from tiedexp.patterns.presets import PRESETS
from tiedexp.spec.loading import MAX_EXTENDS, dump_spec, load_spec
from tiedexp.spec.optimizers import AdamWSpec, SgdSpec
from tiedexp.spec.schema import ExperimentSpec, PatternOptions

MINIMAL = "name: a\ndataset: {name: digits}\n"
FULL = """\
name: full
dataset: {name: mnist, validation: 5000}
model:
  kernel_size: 5
  tying: {pattern: [block, row, column, d4]}
training:
  epochs: 3
  optimizer: {name: sgd, momentum: 0.5, learning_rate: 1e-2}
  schedule: {name: step, epochs: [1, 2]}
  early_stopping: {patience: 2}
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("spec.yaml").write_text(FULL)
    return tmp_path


def write(path: str, text: str) -> str:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(text)
    return path


def problems_of(path: str, *overrides: str, **options: bool) -> list[str]:
    with pytest.raises(SpecError) as caught:
        load_spec(path, overrides, **options)
    return list(caught.value.problems)


# extends


def test_a_chain_of_specs_is_merged_from_the_root_on() -> None:
    write("base/root.yaml", FULL)
    write("base/middle.yaml", "extends: root.yaml\ntraining:\n  epochs: 7\n  optimizer: {momentum: 0.25}\nseed: 1\n")
    spec = load_spec(write("leaf.yaml", "extends: base/middle.yaml\nname: leaf\ntraining: {batch_size: 32}\n"))
    assert (spec.name, spec.seed, spec.dataset.name) == ("leaf", 1, "mnist")
    assert (spec.training.epochs, spec.training.batch_size) == (7, 32)
    assert spec.training.optimizer == SgdSpec(name="sgd", momentum=0.25, learning_rate=0.01)


def test_an_optimizer_schedule_or_pattern_of_another_kind_replaces_the_bases() -> None:
    text = """\
extends: spec.yaml
model:
  tying: {pattern: {preset: hashed, groups: 3}}
training:
  optimizer: {name: adamw}
  schedule: {name: cosine}
"""
    spec = load_spec(write("leaf.yaml", text))
    assert spec.training.optimizer == AdamWSpec(name="adamw")
    assert spec.training.schedule.name == "cosine"
    assert spec.model.tying is not None
    assert spec.model.tying.pattern == PatternOptions(preset="hashed", groups=3)


def test_null_removes_an_optional_section_of_the_base() -> None:
    spec = load_spec(write("leaf.yaml", "extends: spec.yaml\nmodel: {tying: null}\n"))
    assert spec.model.tying is None
    assert spec.model.kernel_size == 5


def test_a_mistake_in_a_base_is_shown_in_the_base_after_those_of_the_file() -> None:
    write("base/b.yaml", "name: b\ndataset: {name: digits}\ntraining:\n  epoch: 3\nseed: x\n")
    write("leaf.yaml", "extends: base/b.yaml\nseed: 3\nmodel: {deep: 3}\n")
    assert problems_of("leaf.yaml", "model.width=x") == [
        "leaf.yaml:3:9: model.deep: unknown key; did you mean 'depth'?",
        "base/b.yaml:4:3: training.epoch: unknown key; did you mean 'epochs'?",
        "override 'model.width=x': model.width: must be a whole number from 1 to 4096. Received: 'x'",
    ]
    write("base/b.yaml", "name: [\n")
    assert problems_of("leaf.yaml") == ["base/b.yaml:2:1: a value is missing here, or a [ or { before it is not closed"]


def test_circles_and_endless_chains_are_refused_at_the_line_that_closes_them() -> None:
    write("a.yaml", "extends: sub/b.yaml\n")
    write("sub/b.yaml", "name: b\nextends: ../a.yaml\n")
    assert problems_of("a.yaml") == [
        "sub/b.yaml:2:10: extends: the files extend each other in a circle: a.yaml -> sub/b.yaml -> sub/../a.yaml"
    ]
    write("0.yaml", MINIMAL)
    for at in range(1, MAX_EXTENDS + 2):
        write(f"{at}.yaml", f"extends: {at - 1}.yaml\n")
    assert load_spec(f"{MAX_EXTENDS}.yaml").name == "a"
    assert problems_of(f"{MAX_EXTENDS + 1}.yaml") == ["1.yaml:1:10: extends: the chain is longer than 16 files"]


@pytest.mark.parametrize("value", ["nowhere.yaml", "x" * 5000, ".", '"\\0"'])
def test_a_base_that_is_not_a_file(value: str) -> None:
    (problem,) = problems_of(write("leaf.yaml", f"extends: {value}\n"))
    assert problem.startswith("leaf.yaml:1:10: extends: there is no file ")


@pytest.mark.parametrize("text", ["name: a\nbase: other.yaml\n", "grid: {model.depth: [2, 3]}\nseeds: 2\n"])
@pytest.mark.parametrize("extends", [False, True])
def test_a_sweep_is_not_a_spec(text: str, extends: bool) -> None:
    Path("sweep.yaml").write_text(text)
    Path("leaf.yaml").write_text("extends: sweep.yaml\nname: b\n")
    assert problems_of("leaf.yaml" if extends else "sweep.yaml") == [
        "sweep.yaml:1:1: this is a sweep, not the spec of one experiment; run it with `tiedexp sweep sweep.yaml` "
        "(--plan only checks it)"
    ]


def test_extends_can_be_forbidden() -> None:
    write("leaf.yaml", "extends: spec.yaml\n")
    assert problems_of("leaf.yaml", allow_extends=False) == [
        "leaf.yaml:1:10: extends: this spec must be self-contained, so it cannot extend another"
    ]
    assert load_spec("spec.yaml", allow_extends=False) == load_spec("leaf.yaml")


# Overrides


@pytest.mark.parametrize(
    ("overrides", "path", "value"),
    [
        (["training.epochs=9"], "training.epochs", 9),
        (["training.epochs=8", "training.epochs=9"], "training.epochs", 9),
        (["training.optimizer.learning_rate=1e-3"], "training.optimizer.learning_rate", 0.001),
        (
            ["training.optimizer.learning_rate=0.5", "training.optimizer.name=adam"],
            "training.optimizer.learning_rate",
            0.5,
        ),
        (["training.optimizer={name: lion}"], "training.optimizer.learning_rate", 1e-4),
        (["model.tying.pattern.3=full"], "model.tying.pattern", ("block", "row", "column", "full")),
        (["model.tying.pattern=block"], "model.tying.pattern", "block"),
        (["model.kernel_size=[3, 5]", "model.tying=null"], "model.kernel_size", (3, 5)),
        (["training.early_stopping=null"], "training.early_stopping", None),
        (["training.early_stopping="], "training.early_stopping", None),
        (["model.tying=null", "model.tying.pattern=d4"], "model.tying.layers", "all"),
        (["training.augmentation.flip=both"], "training.augmentation.flip", "both"),
        (["name=no"], "name", "no"),
        (["name='1'"], "name", "1"),
        ([" seed = 5"], "seed", 5),
        (["dataset.name=a=b"], "dataset.name", "a=b"),
    ],
)
def test_overrides_apply_in_order_after_the_file(overrides: list[str], path: str, value: Any) -> None:
    found: Any = load_spec("spec.yaml", overrides)
    for name in path.split("."):
        found = getattr(found, name)
    assert (type(found), found) == (type(value), value)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.epoch=3", "training.epoch: unknown key; did you mean 'epochs'?"),
        ("trainig.epochs=3", "trainig: unknown key; did you mean 'training'?"),
        ("training.zzz=null", "training.zzz: unknown key; the keys here are epochs, batch_size, "),
        ("training.epochs=ten", "training.epochs: must be a whole number from 1 to 100000. Received: 'ten'"),
        ("training.epochs=null", "training.epochs: must be a whole number from 1 to 100000. Received: null (a key"),
        (
            "training.optimizer.momentum=1",
            "training.optimizer.momentum: must be a finite number of at least 0 and below 1.",
        ),
        ("training.optimizer.name=admw", "training.optimizer.name: must be adam, adamw, lion or sgd. Received: 'admw'"),
        ("model.tying.pattern.4=row", "model.tying.pattern: the list has 4 items, numbered from 0. Received: '4'"),
        ("name.x=1", "name: this is 'full', which has no keys; to replace it, use name=..."),
        ("training.epochs", "an override has the form key.path=value, e.g. training.epochs=3"),
        ("=3", "an override has the form key.path=value, e.g. training.epochs=3"),
        ("training..epochs=3", "an override has the form key.path=value, e.g. training.epochs=3"),
        ("training.epochs=[", "a value is missing here, or a [ or { before it is not closed"),
        ("training.epochs=*x", "specs do not allow anchors and aliases (& and *)"),
        ("model={depth: 3, depth: 4}", "the key 'depth' is given twice"),
        ("extends=other.yaml", "only a file can use `extends`"),
        (".".join("a" * 5000) + "=1", "the key has more than 32 levels"),
        ("seed=1\n---\n2", "a second document starts here; a spec is a single document"),
    ],
)
def test_a_wrong_override_is_named_in_the_message(override: str, message: str) -> None:
    (problem,) = problems_of("spec.yaml", override)
    assert "\n" not in problem
    location, _, text = problem.partition(": ")
    assert location.startswith("override '" + override[:10].split("\n")[0])
    assert text.startswith(message) or problem.endswith(message)


# dataset.path


def test_a_path_is_relative_to_the_file_that_contains_it_or_to_the_working_directory(here: Path) -> None:
    write("base/b.yaml", "name: b\ndataset: {name: folder, path: ../images}\n")
    write("leaf.yaml", "extends: base/b.yaml\n")
    assert load_spec("leaf.yaml").dataset.path == str(here / "images")
    assert load_spec("leaf.yaml", ["dataset.path=x"]).dataset.path == str(here / "x")
    assert load_spec("base/b.yaml", ["dataset={name: npz, path: x.npz}"]).dataset.path == str(here / "x.npz")
    assert load_spec("leaf.yaml", ["dataset.path=/data/x"]).dataset.path == "/data/x"


# The way back


@pytest.mark.parametrize("text", [MINIMAL, FULL, "name: a\ndataset: {name: npz, path: x}\n"])
def test_dumped_text_is_the_same_spec(text: str) -> None:
    spec = load_spec(write("a.yaml", text))
    assert load_spec(write("sub/b.yaml", dump_spec(spec))) == spec


def test_dumped_text_is_block_style_with_grids_as_text_and_only_null_left_out() -> None:
    text = (
        "name: '1e3'\ndataset: {name: digits}\nmodel:\n  kernel_size: 2\n  tying:\n    pattern: |\n      AB\n      CB\n"
    )
    lines = dump_spec(load_spec(write("a.yaml", text))).splitlines()
    assert lines[:7] == [
        "name: '1e3'",
        "dataset:",
        "  name: digits",
        "  validation: 0.1",
        "model:",
        "  family: plain",
        "  depth: 4",
    ]
    assert "\n".join(lines).count("    pattern: |\n      AB\n      CB\n") == 1
    assert "  dropout: 0.0" in lines
    assert not [line for line in lines if "null" in line or "{" in line]


NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True)
TRICKY = st.sampled_from(
    [
        "no",
        "1e-3",
        "0o17",
        "null",
        "~",
        "1:30",
        "<<",
        "=",
        "- a",
        "a: b",
        "#",
        "x\ny",
        "\x85",
        "a\u2028b",
        "\ufeff",
        "x\n",
        " x ",
        "\n",
        "'\"",
    ]
)
TEXT = TRICKY | st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)


def shares(*, above_zero: bool = False) -> st.SearchStrategy[float]:
    return st.floats(0.0, 1.0, exclude_min=above_zero, exclude_max=True)


def some_of(**optional: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=optional)


@st.composite
def grids(draw: st.DrawFn, rows: int, cols: int) -> str:
    cells = draw(
        st.lists(st.sampled_from(["A", "B", "-A", "b", "C1", "."]), min_size=rows * cols, max_size=rows * cols)
    )
    cells[draw(st.integers(0, len(cells) - 1))] = "A"
    spaced = draw(st.booleans())
    lines = [(" " if spaced else "").join(cells[at : at + cols]) for at in range(0, len(cells), cols)]
    return draw(st.sampled_from(["/", "\n"])).join(lines) + draw(st.sampled_from(["", "\n"]))


@st.composite
def patterns(draw: st.DrawFn, rows: int, cols: int) -> Any:
    def exists(value: Any) -> bool:
        try:
            Pattern.of(value, (rows, cols))
        except ValueError:
            return False
        return True

    seeds = st.integers(0, 9)
    simple = st.sampled_from([name for name in PRESETS if exists(name)]) | grids(rows, cols).filter(exists)
    options = st.one_of(
        st.fixed_dictionaries({"preset": st.just("hashed"), "groups": st.integers(1, rows * cols), "seed": seeds}),
        st.fixed_dictionaries({"preset": st.just("tile"), "tile": st.just(1) | st.just([1, 1])}),
        st.fixed_dictionaries({"preset": st.just("random_like"), "of": simple, "seed": seeds}),
        st.fixed_dictionaries({"preset": st.just("causal"), "centre": st.just(True)}),
    )
    return draw(simple | options)


@st.composite
def specs(draw: st.DrawFn) -> dict[str, Any]:
    family = draw(st.sampled_from(["plain", "resnet"]))
    depth = draw(st.integers(1, 6)) if family == "plain" else draw(st.sampled_from([8, 14]))
    convs = depth if family == "plain" else depth - 1
    rows, cols = draw(st.integers(1, 5)), draw(st.integers(1, 5))
    layers: Any = draw(st.sampled_from(["all", "first", "last", "alternate"]) | st.just([convs]))
    num_tied = {"all": convs, "alternate": (convs + 1) // 2}.get(layers if isinstance(layers, str) else "", 1)
    one = patterns(rows, cols)
    pattern = draw(one | st.lists(one, min_size=num_tied, max_size=num_tied))
    model = {"family": family, "depth": depth, "width": draw(st.integers(1, 64)), "dropout": draw(shares())}
    model["kernel_size"] = rows if rows == cols and draw(st.booleans()) else [rows, cols]
    if draw(st.booleans()):
        model["tying"] = {"pattern": pattern, "layers": layers, "gradient": draw(st.sampled_from(["sum", "mean"]))}
    rate = st.floats(0.0, exclude_min=True, allow_infinity=False)
    adam = some_of(learning_rate=rate, weight_decay=shares(), beta_1=shares(), beta_2=shares())
    sgd = some_of(learning_rate=rate, momentum=shares(), nesterov=st.booleans())
    name, optimizer = draw(st.tuples(st.sampled_from(["adam", "adamw", "lion"]), adam) | st.tuples(st.just("sgd"), sgd))
    epochs = draw(st.integers(1, 100))
    schedule = draw(
        st.fixed_dictionaries({"name": st.just("constant"), "warmup_epochs": st.floats(0, 1)})
        | st.fixed_dictionaries({"name": st.just("cosine"), "final": shares(), "warmup_epochs": st.integers(0, 1)})
        | st.fixed_dictionaries(
            {
                "name": st.just("step"),
                "epochs": st.sets(st.integers(1, 99), min_size=1).map(sorted),
                "factor": shares(above_zero=True),
            }
        )
        | st.fixed_dictionaries({"name": st.just("exponential"), "factor": shares(above_zero=True)})
    )
    training = {"epochs": epochs, "optimizer": {"name": name, **optimizer}, "schedule": schedule} | draw(
        some_of(
            steps_per_execution=st.just("auto") | st.integers(1, 99),
            gradient_clipping=rate,
            augmentation=some_of(
                flip=st.sampled_from(["both", "vertical"]), pad_crop=st.integers(0, 4), mixup=shares()
            ),
            jit=st.booleans(),
            early_stopping=some_of(patience=st.integers(1, 9), metric=st.just("loss")),
        )
    )
    dataset = {"name": draw(TEXT), "validation": draw(st.integers(1, 10**6) | shares(above_zero=True))}
    if dataset["name"] in ("folder", "npz") or draw(st.booleans()):
        dataset |= {"name": "folder", "path": "/" + draw(TEXT)}
    return {
        "name": draw(NAMES),
        "dataset": dataset,
        "model": model,
        "training": training,
        "seed": draw(st.integers(0, 2**31 - 1)),
    }


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(specs())
def test_random_specs_are_read_back_from_their_text(values: dict[str, Any]) -> None:
    if "path" in values["dataset"]:
        values["dataset"]["path"] = str(Path(values["dataset"]["path"].replace("\0", "")))
    spec = ExperimentSpec.model_validate(values)
    Path("a.yaml").write_text(dump_spec(spec), encoding="utf-8", newline="")
    loaded = load_spec("a.yaml")
    assert loaded == spec
    assert loaded.digest == spec.digest
    assert dump_spec(loaded) == dump_spec(spec)


KEYS = st.sampled_from(
    [
        "name",
        "dataset",
        "path",
        "validation",
        "model",
        "family",
        "depth",
        "kernel_size",
        "tying",
        "pattern",
        "of",
        "zzz",
    ]
) | st.sampled_from(["training", "epochs", "optimizer", "momentum", "schedule", "devices", "early_stopping", "extends"])
WORDS = st.sampled_from(
    ["digits", "folder", "sgd", "adam", "step", "cosine", "resnet", "block", "random_like", "all", "auto", "AB/CD"]
)
ANYTHING = st.recursive(
    WORDS | st.none() | st.booleans() | st.integers(-2, 12) | st.floats() | st.text(string.ascii_letters, max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)
SECTIONS = some_of(
    name=ANYTHING,
    dataset=ANYTHING,
    seed=ANYTHING,
    model=ANYTHING | some_of(family=ANYTHING, depth=ANYTHING, kernel_size=ANYTHING, tying=ANYTHING),
    training=ANYTHING | some_of(epochs=ANYTHING, optimizer=ANYTHING, schedule=ANYTHING, devices=ANYTHING),
)


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(SECTIONS | ANYTHING)
def test_any_document_is_a_spec_or_a_spec_error_with_locations(values: Any) -> None:
    Path("a.yaml").write_text(yaml.safe_dump(values))
    try:
        load_spec("a.yaml")
        problems: tuple[str, ...] = ()
    except SpecError as error:
        problems = error.problems
    assert all(problem.startswith("a.yaml:") and "\n" not in problem for problem in problems)
    assert len(set(problems)) == len(problems)


def test_neither_tensorflow_nor_keras_is_imported() -> None:
    code = (
        "import sys; from tiedexp.spec.loading import load_spec, build_json_schema; load_spec('spec.yaml');"
        "build_json_schema(); print(*{'tensorflow', 'keras', 'scipy', 'matplotlib'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
