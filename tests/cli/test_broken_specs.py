"""Broken specs, given to `tiedexp train`: one message with its place, exit code 2, nothing written."""

from __future__ import annotations

from pathlib import Path

import pytest

HEAD = "name: a\ndataset: {name: digits}\n"
# What is wrong, the text after HEAD (or, from "!", the whole file), and the place of the message.
BROKEN = [
    ("unknown key", "model:\n  kernel: 3\n", "4:3"),
    ("unknown section", "modell: {}\n", "3:1"),
    ("key of another section", "epochs: 3\n", "3:1"),
    ("missing name", "!dataset: {name: digits}\n", "1:1"),
    ("missing dataset", "!name: a\n", "1:1"),
    ("bad name", "!name: a/b\ndataset: {name: digits}\n", "1:7"),
    ("text for a number", "training: {epochs: ten}\n", "3:20"),
    ("float for a whole number", "training: {epochs: 2.5}\n", "3:20"),
    ("out of range", "training: {batch_size: 0}\n", "3:24"),
    ("negative rate", "training: {optimizer: {name: sgd, learning_rate: -1}}\n", "3:50"),
    ("unknown optimizer", "training: {optimizer: {name: adm}}\n", "3:30"),
    ("option that the default optimizer lacks", "training: {optimizer: {momentum: 0.9}}\n", "3:24"),
    ("option of another optimizer", "training: {optimizer: {name: adam, momentum: 0.9}}\n", "3:36"),
    ("unknown schedule", "training: {schedule: {name: linear}}\n", "3:29"),
    ("epochs that do not rise", "training: {schedule: {name: step, epochs: [3, 2]}}\n", "3:43"),
    ("warm-up longer than training", "training: {epochs: 2, schedule: {name: constant, warmup_epochs: 3}}\n", "3:65"),
    ("resnet of no such depth", "model: {family: resnet, depth: 9}\n", "3:32"),
    ("plain and widened", "model: {family: plain, widen: 2}\n", "3:31"),
    ("unknown preset", "model: {tying: {pattern: blok}}\n", "3:26"),
    ("ragged grid", "model: {kernel_size: 3, tying: {pattern: AAB/AAB/CC}}\n", "3:42"),
    ("grid of another size", "model: {kernel_size: 5, tying: {pattern: AAB/AAB/CCD}}\n", "3:42"),
    ("preset at a wrong size", "model: {kernel_size: [3, 5], tying: {pattern: rot90}}\n", "3:47"),
    ("preset option of another", "model: {tying: {pattern: {preset: block, rate: 2}}}\n", "3:17"),
    ("conv beyond the depth", "model: {depth: 3, tying: {pattern: point, layers: [2, 4]}}\n", "3:55"),
    ("conv named twice", "model: {tying: {pattern: point, layers: [2, 2]}}\n", "3:45"),
    ("too few patterns", "model: {tying: {pattern: [point, d4]}}\n", "3:26"),
    ("path of a set without one", "!name: a\ndataset: {name: mnist, path: x}\n", "2:30"),
    ("folder without a path", "!name: a\ndataset: {name: folder}\n", "2:1"),
    (
        "early stopping on nothing",
        "!name: a\ndataset: {name: digits, validation: 0}\ntraining: {early_stopping: {}}\n",
        "3:12",
    ),
    ("batch not shared evenly", "training: {batch_size: 10, devices: 3}\n", "3:37"),
    ("yes for true", "training: {jit: yes}\n", "3:17"),
    ("duplicate key", "seed: 1\nseed: 2\n", "4:1"),
    ("alias", "model: &m {}\ntraining: *m\n", "3:8"),
    ("tag", "seed: !!python/object:os.system 1\n", "3:7"),
    ("tab", "model:\n\tdepth: 3\n", "4:1"),
    ("unclosed bracket", "model: {depth: 3\n", "4:1"),
    ("a list at the top", "!- name: a\n", "1:1"),
    ("extends nothing there", "extends: missing.yaml\n", "3:10"),
]


@pytest.mark.parametrize(("text", "place"), [case[1:] for case in BROKEN], ids=[case[0] for case in BROKEN])
def test_a_broken_spec(tiedexp_cli, text, place):
    Path("broken.yaml").write_text(text[1:] if text.startswith("!") else HEAD + text)
    for command in ("train", "validate"):
        answer = tiedexp_cli(command, "broken.yaml")
        assert answer.code == 2
        assert answer.err.startswith(f"error: broken.yaml:{place}: "), answer.err
        assert answer.err.count("\n") == 1
        assert answer.out == ""
    assert [path.name for path in Path().iterdir()] == ["broken.yaml"]
