"""Broken specs of every kind, and the exact message for each mistake, with its location."""

# ruff: noqa: E501 (messages are on one line, as the user sees them)
from __future__ import annotations

from pathlib import Path

import pytest

from tiedexp.errors import SpecError
from tiedexp.patterns.presets import PRESETS
from tiedexp.spec.loading import load_spec

HEAD = "name: a\ndataset: {name: digits}\n"  # so that the first line of the cases below is line 3

IN_A_SPEC: list[tuple[str, str, list[str]]] = [
    ("unknown key", "model:\n  kernel: 3\n", ["4:3: model.kernel: unknown key; did you mean 'kernel_size'?"]),
    (
        "unknown key, nothing similar",
        "model:\n  zzz: 3\n",
        ["4:3: model.zzz: unknown key; the keys here are family, depth, width, widen, kernel_size, dropout, tying"],
    ),
    ("unknown section", "modell: {depth: 3}\n", ["3:1: modell: unknown key; did you mean 'model'?"]),
    (
        "key of another section",
        "batch_size: 32\n",
        ["3:1: batch_size: unknown key here; did you mean 'training.batch_size'?"],
    ),
    (
        "key of a section below",
        "training:\n  learning_rate: 0.1\n",
        ["4:3: training.learning_rate: unknown key here; did you mean 'training.optimizer.learning_rate'?"],
    ),
    (
        "key of a kind's sibling",
        "training:\n  optimizer:\n    name: adam\n    momentum: 0.9\n",
        [
            "6:5: training.optimizer.momentum: unknown key; the keys here are name, learning_rate, weight_decay, beta_1, beta_2, epsilon"
        ],
    ),
    (
        "text for a whole number",
        "training:\n  epochs: ten\n",
        ["4:11: training.epochs: must be a whole number from 1 to 100000. Received: 'ten'"],
    ),
    (
        "quoted number",
        "training:\n  epochs: '10'\n",
        ["4:11: training.epochs: must be a whole number from 1 to 100000. Received: '10'"],
    ),
    (
        "float for a whole number",
        "training:\n  epochs: 10.0\n",
        ["4:11: training.epochs: must be a whole number from 1 to 100000. Received: 10.0"],
    ),
    (
        "bool for a whole number",
        "seed: true\n",
        ["3:7: seed: must be a whole number from 0 to 2147483647. Received: true"],
    ),
    ("number for a bool", "training:\n  jit: 1\n", ["4:8: training.jit: must be true or false. Received: 1"]),
    (
        "word of YAML 1.1 for a bool",
        "training:\n  jit: yes\n",
        ["4:8: training.jit: must be true or false. Received: 'yes'"],
    ),
    (
        "zero epochs",
        "training:\n  epochs: 0\n",
        ["4:11: training.epochs: must be a whole number from 1 to 100000. Received: 0"],
    ),
    (
        "too many",
        "model:\n  kernel_size: 128\n",
        [
            "4:16: model.kernel_size: must be a whole number from 1 to 127, or a list of 2 items, each a whole number from 1 to 127. Received: 128"
        ],
    ),
    (
        "negative rate",
        "training:\n  optimizer: {name: sgd, learning_rate: -1e-3}\n",
        ["4:41: training.optimizer.learning_rate: must be a finite number above 0. Received: -0.001"],
    ),
    (
        "share of one",
        "training:\n  label_smoothing: 1\n",
        ["4:20: training.label_smoothing: must be a finite number of at least 0 and below 1. Received: 1"],
    ),
    (
        "infinite",
        "training:\n  augmentation:\n    mixup: .inf\n",
        ["5:12: training.augmentation.mixup: must be a finite number from 0 to 10. Received: .inf"],
    ),
    (
        "not a number",
        "training:\n  augmentation:\n    rotation: .nan\n",
        ["5:15: training.augmentation.rotation: must be a finite number from 0 to 180. Received: .nan"],
    ),
    (
        "misspelt word",
        "training:\n  precision: mixed_float61\n",
        [
            "4:14: training.precision: must be float32, mixed_float16 or mixed_bfloat16. Received: 'mixed_float61'; did you mean mixed_float16?"
        ],
    ),
    (
        "unknown optimizer",
        "training:\n  optimizer: {name: admw}\n",
        ["4:21: training.optimizer.name: must be adam, adamw, lion or sgd. Received: 'admw'; did you mean adamw?"],
    ),
    (
        "an option that the default optimizer lacks",
        "training:\n  optimizer:\n    momentum: 0.1\n",
        [
            "5:5: training.optimizer.momentum: unknown key; the keys here are name, learning_rate, weight_decay, beta_1, beta_2, epsilon"
        ],
    ),
    (
        "optimizer as a word",
        "training:\n  optimizer: adam\n",
        ["4:14: training.optimizer: must be a mapping whose key 'name' is adam, adamw, lion or sgd. Received: 'adam'"],
    ),
    (
        "misspelt name of a schedule",
        "training:\n  schedule: {nme: step}\n",
        ["4:14: training.schedule.nme: unknown key; did you mean 'name'?"],
    ),
    (
        "empty section",
        "model:\n",
        ["3:7: model: must be a mapping. Received: null (a key with nothing after it is null)"],
    ),
    ("list for a section", "training: [3]\n", ["3:11: training: must be a mapping. Received: [3]"]),
    (
        "text in a list",
        "model:\n  kernel_size: [3, x]\n",
        ["4:20: model.kernel_size.1: must be a whole number from 1 to 127. Received: 'x'"],
    ),
    (
        "list of three",
        "model:\n  kernel_size: [3, 3, 3]\n",
        [
            "4:16: model.kernel_size: must be a whole number from 1 to 127, or a list of 2 items, each a whole number from 1 to 127. Received: [3, 3, 3]"
        ],
    ),
    (
        "neither number nor auto",
        "training:\n  steps_per_execution: often\n",
        ["4:24: training.steps_per_execution: must be a whole number of at least 1, or auto. Received: 'often'"],
    ),
    (
        "neither number nor all",
        "training:\n  devices: 0\n",
        ["4:12: training.devices: must be a whole number from 1 to 64, or all. Received: 0"],
    ),
    (
        "epochs that fall",
        "training:\n  schedule: {name: step, epochs: [20, 10]}\n",
        ["4:34: training.schedule.epochs: the epochs must increase, e.g. [80, 120]"],
    ),
    (
        "no epochs to step at",
        "training:\n  schedule: {name: step, epochs: []}\n",
        [
            "4:34: training.schedule.epochs: must be a list of one or more items, each a whole number of at least 1. Received: []"
        ],
    ),
    (
        "warm-up longer than training",
        "training:\n  epochs: 1\n  schedule: {name: cosine, warmup_epochs: 2}\n",
        ["5:43: training.schedule.warmup_epochs: the warm-up is longer than the training of 1 epoch. Received: 2"],
    ),
    (
        "batch that devices cannot share",
        "training: {batch_size: 7, devices: 2}\n",
        ["3:36: training.devices: batch_size (7) must be a multiple of the number of devices. Received: 2"],
    ),
    (
        "depth no resnet has",
        "model: {family: resnet, depth: 9}\n",
        ["3:32: model.depth: a resnet has depth 6n+2, such as 8, 14, 20, 26, 32, 44 or 56. Received: 9"],
    ),
    (
        "default depth no resnet has",
        "model: {family: resnet}\n",
        ["3:1: model.depth: a resnet has depth 6n+2, such as 8, 14, 20, 26, 32, 44 or 56. Received: 4 (the default)"],
    ),
    (
        "widened plain model",
        "model: {widen: 2}\n",
        ["3:16: model.widen: only a resnet can be widened; for a plain model, change `width`. Received: 2"],
    ),
    (
        "number for a pattern",
        "model:\n  tying:\n    pattern: 3\n",
        [
            "5:14: model.tying.pattern: must be text, a mapping with the key 'preset', or a list of these. Received: 3; to make it text, put it in quotes: \"3\""
        ],
    ),
    (
        "misspelt preset",
        "model:\n  tying: {pattern: blok}\n",
        ["4:20: model.tying.pattern: unknown pattern 'blok'; did you mean block?"],
    ),
    (
        "word that is not a preset",
        "model:\n  tying: {pattern: foo}\n",
        [
            "4:20: model.tying.pattern: unknown pattern 'foo'; the presets are "
            + ", ".join(PRESETS)
            + ". A grid of a single row is written in capitals: FOO"
        ],
    ),
    (
        "misspelt option of a preset",
        "model:\n  tying:\n    pattern: {preset: hashed, group: 3}\n",
        ["5:31: model.tying.pattern.group: unknown key; did you mean 'groups'?"],
    ),
    (
        "option of another preset",
        "model:\n  tying:\n    pattern: {preset: block, seed: 3}\n",
        ["5:5: model.tying.pattern: the preset 'block' has no option 'seed'; it takes blocks"],
    ),
    (
        "preset left out",
        "model:\n  tying:\n    pattern: {groups: 3}\n",
        [
            "5:5: model.tying.pattern.preset: this key is missing; it is the name of a preset; `tiedexp pattern list` shows them all"
        ],
    ),
    (
        "ragged grid",
        "model:\n  tying:\n    pattern: |\n      AAB\n      AB\n      CCB\n",
        [
            "5:14: model.tying.pattern: row 2 ('AB') has 2 cells, but row 1 has 3: all rows must have the same length. Received: 'AAB\\nAB\\nCCB\\n'"
        ],
    ),
    (
        "grid of another size",
        "model:\n  kernel_size: 5\n  tying:\n    pattern: AB/CD\n",
        ["6:14: model.tying.pattern: the pattern is 2x2, but the kernel size is 5x5. Received: 'AB/CD'"],
    ),
    (
        "number in a list of patterns",
        "model:\n  tying:\n    pattern: [block, 3, row, row]\n",
        [
            "5:22: model.tying.pattern.1: must be text, or a mapping with the key 'preset'. Received: 3; to make it text, put it in quotes: \"3\""
        ],
    ),
    (
        "mistake in a list of patterns",
        "model:\n  tying:\n    pattern: [block, {preset: hashed, seeds: 1}, row, rwo]\n",
        ["5:39: model.tying.pattern.1.seeds: unknown key; did you mean 'seed'?"],
    ),
    (
        "too few patterns",
        "model:\n  tying:\n    pattern: [block, row]\n",
        ["5:14: model.tying.pattern: 2 patterns for 4 tied convolutions; give one for each, or a single one for all"],
    ),
    (
        "mistake in the pattern of a pattern",
        "model:\n  tying:\n    pattern: {preset: random_like, of: {preset: hashed, group: 2}}\n",
        ["5:57: model.tying.pattern.of.group: unknown key; did you mean 'groups'?"],
    ),
    (
        "tying without a pattern",
        "model:\n  tying:\n    layers: all\n",
        [
            "4:3: model.tying.pattern: this key is missing; it is the name of a preset, a preset with options, a grid (rows separated by / or on lines of their own), or a list of these, one for each tied convolution from the input on"
        ],
    ),
    (
        "misspelt layers",
        "model:\n  tying: {pattern: block, layers: alternating}\n",
        [
            "4:35: model.tying.layers: must be all, first, last or alternate, or a list, each item a whole number. Received: 'alternating'; did you mean alternate?"
        ],
    ),
    (
        "conv beyond the depth",
        "model:\n  tying:\n    pattern: block\n    layers: [1, 5]\n",
        ["6:17: model.tying.layers.1: the model has convolutions 1 to 4. Received: 5"],
    ),
    (
        "conv named twice",
        "model:\n  tying:\n    pattern: block\n    layers: [2, 2]\n",
        ["6:17: model.tying.layers.1: this convolution is listed twice. Received: 2"],
    ),
    (
        "no conv",
        "model:\n  tying: {pattern: block, layers: []}\n",
        ["4:35: model.tying.layers: the list is empty; for a model without tied convolutions, leave out `tying`"],
    ),
    (
        "duplicate key",
        "seed: 1\nmodel: {depth: 2}\nseed: 2\n",
        ["5:1: the key 'seed' is given twice, first on line 3"],
    ),
    ("number as a key", "model:\n  3: 4\n", ["4:3: a key must be text. Received: 3"]),
    (
        "alias",
        "model: &m {depth: 2}\n",
        ["3:8: specs do not allow anchors and aliases (& and *); repeat the value, or put the text in quotes"],
    ),
    ("tag", "seed: !!int 3\n", ["3:7: specs do not allow tags (!!int); remove it, or put the text in quotes"]),
    ("merge key", "model:\n  <<: {depth: 2}\n", ["4:3: specs do not allow merge keys (<<); use `extends` to inherit"]),
    ("second document", "---\nname: b\n", ["3:1: a second document starts here; a spec is a single document"]),
    ("tab", "model:\n\tdepth: 3\n", ["4:1: a tab cannot indent YAML; use spaces"]),
    (
        "colon in text",
        "model: a: b\n",
        ["3:9: a ': ' is not allowed here; indent the line like its neighbours, or put the text in quotes"],
    ),
    (
        "list not closed",
        "model: {kernel_size: [3, 3}\n",
        ["3:27: a ',' or ']' is missing before this, in the list that starts on line 3"],
    ),
    ("quote not closed", "seed: 'x\n", ["4:1: the quote that starts on line 3 is not closed"]),
    (
        "outdented",
        "model:\n    depth: 3\n  width: 4\n",
        ["5:3: the indentation of this line does not match the lines above it"],
    ),
    ("at sign", "seed: @3\n", ["3:7: text cannot start with this character; put it in quotes"]),
    ("extends a number", "extends: 3\n", ["3:10: extends: must be the path of another spec. Received: 3"]),
    ("extends nothing", "extends: nowhere.yaml\n", ["3:10: extends: there is no file nowhere.yaml"]),
    (
        "extends itself",
        "extends: spec.yaml\n",
        ["3:10: extends: the files extend each other in a circle: spec.yaml -> spec.yaml"],
    ),
]

WHOLE_FILES: list[tuple[str, str | bytes, list[str]]] = [
    ("empty", "", ["1:1: the file is empty; it needs at least `name` and `dataset`"]),
    ("only comments", "# nothing\n", ["1:1: the file is empty; it needs at least `name` and `dataset`"]),
    ("only null", "~\n", ["1:1: the file is empty; it needs at least `name` and `dataset`"]),
    ("a list", "- name: a\n", ["1:1: a spec must be a mapping (lines of `key: value`). Received: [{name: 'a'}]"]),
    ("a word", "name\n", ["1:1: a spec must be a mapping (lines of `key: value`). Received: 'name'"]),
    (
        "nothing in it",
        "{}\n",
        [
            "1:1: name: this key is missing; it is 1 to 80 letters, digits, '.', '_' and '-', starting with a letter or digit; the run's directory is named after it",
            "1:1: dataset: this key is missing; it is a mapping with the key 'name'",
        ],
    ),
    (
        "name left out",
        "dataset: {name: digits}\n",
        [
            "1:1: name: this key is missing; it is 1 to 80 letters, digits, '.', '_' and '-', starting with a letter or digit; the run's directory is named after it"
        ],
    ),
    ("dataset left out", "name: a\n", ["1:1: dataset: this key is missing; it is a mapping with the key 'name'"]),
    ("misspelt dataset", "name: a\ndatset: {name: digits}\n", ["2:1: datset: unknown key; did you mean 'dataset'?"]),
    (
        "name of dataset left out",
        "name: a\ndataset:\n  validation: 100\n",
        [
            "2:1: dataset.name: this key is missing; it is digits, folder, npz, or the name of a prepared TFDS image-classification dataset, e.g. mnist or cifar10"
        ],
    ),
    (
        "dataset as a word",
        "name: a\ndataset: digits\n",
        ["2:10: dataset: must be a mapping with the key 'name'. Received: 'digits'"],
    ),
    (
        "name with a slash",
        "name: a/b\ndataset: {name: digits}\n",
        [
            "1:7: name: must be 1 to 80 letters, digits, '.', '_' and '-', starting with a letter or digit. Received: 'a/b'"
        ],
    ),
    (
        "number as a name",
        "name: 2024\ndataset: {name: digits}\n",
        [
            "1:7: name: must be 1 to 80 letters, digits, '.', '_' and '-', starting with a letter or digit. Received: 2024; to make it text, put it in quotes: \"2024\""
        ],
    ),
    (
        "empty name of dataset",
        "name: a\ndataset: {name: ''}\n",
        ["2:17: dataset.name: must be non-empty text. Received: ''"],
    ),
    (
        "folder without a path",
        "name: a\ndataset:\n  name: folder\n",
        ["2:1: dataset: the dataset 'folder' needs the key `path`"],
    ),
    (
        "path of digits",
        "name: a\ndataset: {name: digits, path: /x}\n",
        ["2:31: dataset.path: only the datasets folder and npz take a path. Received: '/x'"],
    ),
    (
        "validation over one",
        "name: a\ndataset: {name: digits, validation: 1.5}\n",
        [
            "2:37: dataset.validation: must be a whole number of at least 0, or a finite number above 0 and below 1. Received: 1.5"
        ],
    ),
    (
        "early stopping without validation",
        "name: a\ndataset: {name: digits, validation: 0}\ntraining:\n  early_stopping: {patience: 3}\n",
        ["4:3: training.early_stopping: early stopping needs validation images, but `dataset.validation` is 0"],
    ),
    ("not UTF-8", b"name: a\ndataset: {name: \xe9}\n", ["2:17: is not UTF-8 text (byte 0xe9)"]),
    ("UTF-16", b"\xff\xfen\x00a\x00m\x00e\x00:\x00 \x00a\x00", ["1:1: is not UTF-8 text (byte 0xff)"]),
    ("control character", "name: a\x07\n", ["1:8: YAML does not allow the character U+0007"]),
]

CASES = [(case, HEAD + text, problems) for case, text, problems in IN_A_SPEC] + WHOLE_FILES


@pytest.fixture(autouse=True)
def _in_an_empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def problems_of(text: str | bytes, *overrides: str) -> list[str]:
    Path("spec.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(SpecError) as caught:
        load_spec("spec.yaml", overrides)
    assert str(caught.value) == "\n".join(caught.value.problems)
    return list(caught.value.problems)


@pytest.mark.parametrize(("text", "problems"), [pytest.param(*case[1:], id=case[0]) for case in CASES])
def test_a_broken_spec_is_explained_with_its_location(text: str | bytes, problems: list[str]) -> None:
    assert problems_of(text) == [f"spec.yaml:{problem}" for problem in problems]


def test_the_head_of_the_cases_is_a_valid_spec() -> None:
    Path("spec.yaml").write_text(HEAD)
    assert load_spec("spec.yaml").name == "a"


def test_all_mistakes_are_reported_at_once_in_the_order_of_the_file() -> None:
    text = """\
name: a/b
dataset:
  name: digits
  validation: -1
  limits: 3
model:
  depth: four
  depth: 5
  tying:
    pattern: {preset: hashed, groups: 0}
    layers: [1, two]
training:
  epochs: 0
  optimizer: {name: sgd, momentum: 1, nesterov: no}
  schedule: {name: cosine, finale: 1}
tensorbord: {}
"""
    found = [problem.split(": ")[0:2] for problem in problems_of(text, "seed=-1", "model.width=0")]
    assert found == [
        ["spec.yaml:1:7", "name"],
        ["spec.yaml:4:15", "dataset.validation"],
        ["spec.yaml:5:3", "dataset.limits"],
        ["spec.yaml:7:10", "model.depth"],
        ["spec.yaml:8:3", "the key 'depth' is given twice, first on line 7"],
        ["spec.yaml:10:39", "model.tying.pattern.groups"],
        ["spec.yaml:11:17", "model.tying.layers.1"],
        ["spec.yaml:13:11", "training.epochs"],
        ["spec.yaml:14:36", "training.optimizer.momentum"],
        ["spec.yaml:14:49", "training.optimizer.nesterov"],
        ["spec.yaml:15:28", "training.schedule.finale"],
        ["spec.yaml:16:1", "tensorbord"],
        ["override 'seed=-1'", "seed"],
        ["override 'model.width=0'", "model.width"],
    ]


def test_no_message_mentions_pydantic_or_python() -> None:
    jargon = ("Input should", "pydantic", "tuple", "dict", "NoneType", "instance of", "literal", "function-before")
    for _, text, problems in CASES:
        assert problems, text
        assert not [word for word in jargon for problem in problems if word in problem]


def test_a_missing_file_and_a_directory_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"^nothing\.yaml: there is no such file$"):
        load_spec("nothing.yaml")
    with pytest.raises(SpecError, match=r"is a directory; a spec is a YAML file$"):
        load_spec(tmp_path)
