"""YAML 1.2 scalars, locations, and what the reader refuses."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from tiedexp.errors import SpecError
from tiedexp.spec.document import (
    MAX_BYTES,
    MAX_DEPTH,
    Location,
    Node,
    assign,
    merge,
    parse_value,
    read_document,
    resolve_scalar,
    show,
)

HERE = Location("here")


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("document") / "doc.yaml"


def read(file: Path, text: str | bytes) -> Node:
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    node, problems = read_document(file)
    assert problems == []
    return node


# The examples of the YAML 1.2.2 specification, section 10.3.2, and some that YAML 1.1 (PyYAML) reads differently.
SCALARS: list[tuple[str, Any]] = [
    ("", None),
    ("~", None),
    ("null", None),
    ("NULL", None),
    ("nUll", "nUll"),
    ("true", True),
    ("False", False),
    ("tRue", "tRue"),
    ("yes", "yes"),
    ("no", "no"),
    ("on", "on"),
    ("Off", "Off"),
    ("y", "y"),
    ("0", 0),
    ("-0", 0),
    ("+12", 12),
    ("-19", -19),
    ("012", 12),
    ("0o7", 7),
    ("0o17", 15),
    ("0o8", "0o8"),
    ("0x3A", 58),
    ("0x1F", 31),
    ("-0x1F", "-0x1F"),
    ("0b11", "0b11"),
    ("1_000", "1_000"),
    ("12:30", "12:30"),
    ("1:30:00", "1:30:00"),
    ("2024-01-31", "2024-01-31"),
    ("0.", 0.0),
    ("-0.0", -0.0),
    (".5", 0.5),
    ("+12e03", 12000.0),
    ("-2E+05", -200000.0),
    ("1e-3", 0.001),
    ("1e3", 1000.0),
    ("1.5e", "1.5e"),
    (".", "."),
    ("e3", "e3"),
    (".inf", math.inf),
    ("-.Inf", -math.inf),
    ("+.INF", math.inf),
    ("inf", "inf"),
    ("nan", "nan"),
    ("<", "<"),
    ("1" * 101, "1" * 101),
]


@pytest.mark.parametrize(("text", "value"), SCALARS)
def test_plain_scalars_are_those_of_yaml_1_2(file: Path, text: str, value: Any) -> None:
    for found in (resolve_scalar(text), read(file, f"a: {text}").plain()["a"], parse_value(text, HERE).plain()):
        assert (type(found), found) == (type(value), value)
        assert str(found) == str(value)  # tells -0.0 from 0.0


def test_not_a_number_is_read() -> None:
    for text in (".nan", ".NaN", ".NAN"):
        value = resolve_scalar(text)
        assert isinstance(value, float)
        assert math.isnan(value)


@pytest.mark.parametrize("text", ["1", "1e-3", "true", "null", "~", "", "0x1F", ".inf"])
def test_quoted_and_block_scalars_are_text(file: Path, text: str) -> None:
    assert read(file, f"a: '{text}'\nb: \"{text}\"\nc: |-\n  {text}\n").plain() == {"a": text, "b": text, "c": text}


@given(st.integers(-(10**40), 10**40) | st.floats(allow_nan=False) | st.booleans() | st.none() | st.text())
def test_what_pyyaml_writes_is_read_back(value: Any) -> None:
    text = yaml.safe_dump(value, allow_unicode=True, default_style='"' if isinstance(value, str) else None)
    assert parse_value(text.replace("\n...\n", "\n"), HERE).plain() == value


def test_every_value_and_key_has_its_location(file: Path) -> None:
    root = read(file, 'a: 1\nb:\n  - x\n  - {c: [2,\n      3]}\n"d":   |\n  text\ne:\n')
    locations = {
        ("a",): (1, 4, 1, 1),
        ("b",): (3, 3, 2, 1),
        ("b", 0): (3, 5, 0, 0),
        ("b", 1): (4, 5, 0, 0),
        ("b", 1, "c"): (4, 9, 4, 6),
        ("b", 1, "c", 0): (4, 10, 0, 0),
        ("b", 1, "c", 1): (5, 7, 0, 0),
        ("d",): (6, 8, 6, 1),
        ("e",): (8, 3, 8, 1),
    }
    for path, expected in locations.items():
        node = root.find(path)
        assert node is not None
        key = (node.key.line, node.key.column) if node.key else (0, 0)
        assert (node.location.line, node.location.column, *key) == expected, path
    assert root.find(("b", 2)) is None
    assert root.find(("a", "x")) is None


def test_a_byte_order_mark_and_a_yaml_directive_are_no_content(file: Path) -> None:
    assert read(file, b"\xef\xbb\xbfa: 1\n").find(("a",)) == Node(
        1, Location(str(file), 1, 4), Location(str(file), 1, 1)
    )
    assert read(file, "%YAML 1.2\n---\na: 1\n...\n").plain() == {"a": 1}


def test_an_alias_bomb_is_refused_at_its_first_anchor(file: Path) -> None:
    lines = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    lines += [f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]" for old, new in zip("abcdefgh", "bcdefghi", strict=True)]
    with pytest.raises(SpecError, match=r"doc\.yaml:1:4: specs do not allow anchors and aliases"):
        read(file, "\n".join(lines))


@pytest.mark.parametrize("opening", ["[", "{a: ", "- ", "? "])
def test_deep_nesting_is_refused_and_never_a_recursion_error(file: Path, opening: str) -> None:
    with pytest.raises(SpecError, match=f"nested deeper than {MAX_DEPTH} levels"):
        read(file, f"a:\n {opening * 20_000}")
    with pytest.raises(SpecError, match=f"nested deeper than {MAX_DEPTH} levels"):
        parse_value(opening * 20_000, HERE)


def test_nesting_up_to_the_limit_is_read(file: Path) -> None:
    levels = MAX_DEPTH - 2
    assert read(file, f"a: {'[' * levels}1{']' * levels}").find(("a", *(0,) * levels)) is not None


def test_the_size_is_limited(file: Path) -> None:
    fits = "a: 1 #"
    assert read(file, fits + "x" * (MAX_BYTES - len(fits))).plain() == {"a": 1}
    with pytest.raises(SpecError, match=r"doc\.yaml: is larger than 256 KiB"):
        read(file, fits + "x" * (MAX_BYTES - len(fits) + 1))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('a: "\\UFFFFFFFF"', "1:7: YAML has no such number or character"),
        (f"%YAML 1.{'9' * 5000}\n---\na: 1", "1:9: YAML has no such number or character"),
        ('a: "\\ud800"', "1:4: the text contains half a surrogate pair, which is not a character"),
        ('a: "\\q"', "1:6: unknown escape in double quotes; use single quotes, or two backslashes"),
        (
            "%YAML 2.0\n---\na: 1",
            "1:1: this is not valid YAML: found incompatible YAML document (version 1.* is required)",
        ),
        ("a: *b", "1:4: specs do not allow anchors and aliases (& and *); repeat the value, or put the text in"),
        ("a: *", "1:5: text cannot start with & or *, which YAML reserves for aliases; put it in quotes"),
        ("a: - b", "1:4: a '- ' is not allowed here; start the list on a new line"),
        ("a: {b: 1", "1:9: a ',' or '}' is missing before this, in the mapping that starts on line 1"),
        ("a: ]", "1:4: a value is missing here, or a [ or { before it is not closed"),
        ("a: 1\nb\nc: 2", "3:1: a ':' is missing; lines have the form `key: value`"),
        ("a: !x 1", "1:4: specs do not allow tags (!x)"),
        ("a: &x 1", "1:4: specs do not allow anchors and aliases"),
        ("<<: {b: 1}", "1:1: specs do not allow merge keys (<<)"),
        ("a: 1\n---\nb: 1", "2:1: a second document starts here"),
        ("a: 1\n...\nb: 1", "3:1: this is outside the mapping"),
        ("a: \x00", "1:4: YAML does not allow the character U+0000"),
    ],
)
def test_syntax_is_explained_at_its_location(file: Path, text: str, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        read(file, text)
    assert str(caught.value).startswith(f"{file}:{message}")
    assert len(caught.value.problems) == 1


def test_keys_that_are_not_text_or_appear_twice_are_all_reported(file: Path) -> None:
    file.write_text("a: 1\n1: x\n? [b]\n: 2\na: 3\n'<<': 4\nc: {d: 1, d: 2}\nnull: 5\n")
    root, problems = read_document(file)
    assert root.plain() == {"a": 1, "<<": 4, "c": {"d": 1}}
    assert [str(problem).removeprefix(f"{file}:") for problem in problems] == [
        "2:1: a key must be text. Received: 1",
        "3:3: a key must be text. Received: ['b']",
        "5:1: the key 'a' is given twice, first on line 1",
        "7:11: the key 'd' is given twice, first on line 7",
        "8:1: a key must be text. Received: null",
    ]


@given(st.text(max_size=200) | st.text(alphabet="ab01:-?[]{}&*!|>'\"%@#,.~ \n\t\\", max_size=60))
@example("a: |2\n x")
@example("? ")
@example("!<")
@example("%TAG ! x")
@example('"\\x')
def test_any_text_is_a_mapping_or_a_spec_error(file: Path, text: str) -> None:
    file.write_text(text, encoding="utf-8", newline="")
    readings: list[Callable[[], Any]] = [
        lambda: read_document(file)[0].plain(),
        lambda: parse_value(text, HERE).plain(),
    ]
    for reading in readings:
        problems: tuple[str, ...] = ()
        value = None
        try:
            value = reading()
        except SpecError as error:
            problems = error.problems
        assert all("\n" not in problem for problem in problems)
        assert isinstance(value, dict | list | str | int | float | None)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_mapping_or_a_spec_error(file: Path, data: bytes) -> None:
    file.write_bytes(data)
    try:
        node, _ = read_document(file)
    except SpecError:
        return
    assert isinstance(node.plain(), dict)


def node_of(text: str, source: str = "file") -> Node:
    def placed(node: Node) -> Node:
        value: Any = node.value
        if isinstance(value, dict):
            value = {key: placed(item) for key, item in value.items()}
        return Node(value, Location(source, 1, 1))

    return placed(parse_value(text, HERE))


@pytest.mark.parametrize(
    ("base", "child", "merged"),
    [
        ("{a: 1, b: 2}", "{b: 3, c: 4}", {"a": 1, "b": 3, "c": 4}),
        ("{a: {b: 1, c: 2}}", "{a: {c: 3}}", {"a": {"b": 1, "c": 3}}),
        ("{a: [1, 2]}", "{a: [3]}", {"a": [3]}),
        ("{a: {b: 1}}", "{a: null}", {"a": None}),
        ("{a: 1}", "{a: {b: 1}}", {"a": {"b": 1}}),
        ("{optimizer: {name: sgd, momentum: 1}}", "{optimizer: {name: adam}}", {"optimizer": {"name": "adam"}}),
        (
            "{optimizer: {name: sgd, momentum: 1}}",
            "{optimizer: {name: sgd, nesterov: true}}",
            {"optimizer": {"name": "sgd", "momentum": 1, "nesterov": True}},
        ),
        (
            "{schedule: {name: step, epochs: [3]}}",
            "{schedule: {factor: 0.5}}",
            {"schedule": {"name": "step", "epochs": [3], "factor": 0.5}},
        ),
        ("{pattern: {preset: hashed, seed: 1}}", "{pattern: {preset: tile}}", {"pattern": {"preset": "tile"}}),
        (
            "{pattern: {of: {preset: hashed, seed: 1}}}",
            "{pattern: {of: {preset: d4}}}",
            {"pattern": {"of": {"preset": "d4"}}},
        ),
        (
            "{model: {family: plain, depth: 3}}",
            "{model: {family: resnet}}",
            {"model": {"family": "resnet", "depth": 3}},
        ),
        (
            "{dataset: {name: mnist, limit: 3}}",
            "{dataset: {name: kmnist}}",
            {"dataset": {"name": "kmnist", "limit": 3}},
        ),
    ],
)
def test_merge(base: str, child: str, merged: Any) -> None:
    assert merge(node_of(base), node_of(child)).plain() == merged


@pytest.mark.parametrize(
    ("tree", "path", "value", "result"),
    [
        ("{a: 1}", "a", "2", {"a": 2}),
        ("{a: 1}", "b.c.d", "2", {"a": 1, "b": {"c": {"d": 2}}}),
        ("{a: null}", "a.b", "2", {"a": {"b": 2}}),
        ("{a: {b: 1, c: 2}}", "a", "{d: 3}", {"a": {"d": 3}}),
        ("{a: [1, 2]}", "a.1", "x", {"a": [1, "x"]}),
        ("{a: [1, {b: 2}]}", "a.1.b", "3", {"a": [1, {"b": 3}]}),
        ("{optimizer: {name: sgd, momentum: 1}}", "optimizer.name", "adam", {"optimizer": {"name": "adam"}}),
        (
            "{optimizer: {name: sgd, momentum: 1}}",
            "optimizer.name",
            "sgd",
            {"optimizer": {"name": "sgd", "momentum": 1}},
        ),
    ],
)
def test_assign(tree: str, path: str, value: str, result: Any) -> None:
    assert assign(node_of(tree), path.split("."), parse_value(value, HERE)).plain() == result


@pytest.mark.parametrize(
    ("tree", "path", "message"),
    [
        ("{a: [1, 2]}", "a.2", "here: a: the list has 2 items, numbered from 0. Received: '2'"),
        ("{a: [1, 2]}", "a.x", "here: a: the list has 2 items, numbered from 0. Received: 'x'"),
        ("{a: {b: text}}", "a.b.c", "here: a.b: this is 'text', which has no keys; to replace it, use a.b=..."),
    ],
)
def test_assign_to_a_missing_part(tree: str, path: str, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        assign(node_of(tree), path.split("."), parse_value("1", HERE))
    assert str(caught.value) == message


def test_show_uses_the_words_of_yaml_in_one_short_line() -> None:
    assert show([None, True, {"a": "b\n"}, math.inf, -math.inf, math.nan]) == (
        "[null, true, {a: 'b\\n'}, .inf, -.inf, .nan]"
    )
    assert len(show("x" * 1000)) == 60
