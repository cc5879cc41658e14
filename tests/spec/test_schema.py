"""The models of a spec: defaults, digests, and their JSON schema."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from tiedexp.spec.loading import build_json_schema
from tiedexp.spec.schema import ExperimentSpec

MINIMAL: dict[str, Any] = {"name": "a", "dataset": {"name": "digits"}}


def spec_with(**sections: Any) -> ExperimentSpec:
    return ExperimentSpec.model_validate(MINIMAL | sections)


def test_the_digest_is_of_all_but_name_and_seed() -> None:
    digest = spec_with().digest
    assert re.fullmatch(r"[0-9a-f]{10}", digest)
    assert spec_with(name="b", seed=3).digest == digest
    assert spec_with(training={"epochs": 10}).digest == digest  # the default, written out
    assert spec_with(checkpoint={"every_steps": 5}).digest == digest  # it changes no result
    assert spec_with(training={"epochs": 11}).digest != digest
    assert spec_with(tensorboard={"kernels": False}).digest != digest


def test_a_spec_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        spec_with().training.epochs = 3  # type: ignore[misc]


def test_the_patterns_of_the_convs() -> None:
    tying = {"pattern": ["block", {"preset": "tile", "tile": [1, 3]}], "layers": [4, 2]}
    patterns = spec_with(model={"kernel_size": 3, "depth": 4, "tying": tying}).model.conv_patterns()
    assert [pattern and str(pattern) for pattern in patterns] == [None, "ABC/ABC/ABC", None, "ABC/DEF/GHI"]
    assert spec_with(model={"depth": 3}).model.conv_patterns() == (None, None, None)
    resnet = spec_with(model={"family": "resnet", "depth": 8, "tying": {"pattern": "row", "layers": "alternate"}}).model
    assert [pattern is not None for pattern in resnet.conv_patterns()] == [True, False] * 3 + [True]


# The JSON schema, read by a validator of the keywords it uses (https://json-schema.org/draft/2020-12).

TYPES = {"string": str, "boolean": bool, "object": dict, "array": list, "null": type(None)}
ANNOTATIONS = {"$schema", "$defs", "title", "description", "default", "discriminator"}
COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "minimum": lambda value, limit: value >= limit,
    "maximum": lambda value, limit: value <= limit,
    "exclusiveMinimum": lambda value, limit: value > limit,
    "exclusiveMaximum": lambda value, limit: value < limit,
    "minLength": lambda value, limit: len(value) >= limit,
    "minItems": lambda value, limit: len(value) >= limit,
    "maxItems": lambda value, limit: len(value) <= limit,
    "pattern": lambda value, pattern: re.search(pattern, value) is not None,
    "enum": lambda value, words: value in words,
    "const": lambda value, word: value == word,
    "required": lambda value, keys: all(key in value for key in keys),
}


def is_of_type(value: Any, name: str) -> bool:
    if name in ("integer", "number"):
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return is_number and (name == "number" or isinstance(value, int))
    return isinstance(value, TYPES[name])


def accepts(shape: dict[str, Any], value: Any, whole: dict[str, Any]) -> bool:
    def below(part: dict[str, Any], item: Any) -> bool:
        return accepts(part, item, whole)

    if "type" in shape and not is_of_type(value, shape["type"]):
        return False
    for keyword, argument in shape.items():
        match keyword:
            case "$ref":
                ok = below(whole["$defs"][argument.removeprefix("#/$defs/")], value)
            case "anyOf":
                ok = any(below(part, value) for part in argument)
            case "oneOf":
                ok = sum(below(part, value) for part in argument) == 1
            case "properties":
                ok = all(below(part, value[key]) for key, part in argument.items() if key in value)
            case "additionalProperties":
                ok = set(value) <= set(shape["properties"])
            case "items":
                ok = all(below(argument, item) for item in value)
            case "prefixItems":
                ok = all(below(part, item) for part, item in zip(argument, value, strict=False))
            case "if":
                ok = below(shape["then"] if below(argument, value) else shape["else"], value)
            case "type" | "then" | "else":
                ok = True
            case _:
                ok = keyword in ANNOTATIONS or COMPARISONS[keyword](value, argument)
        if not ok:
            return False
    return True


def is_accepted(text: str) -> bool:
    schema = build_json_schema()
    return accepts(schema, yaml.safe_load(text), schema)


HEAD = "{name: a, dataset: {name: digits}, "


@pytest.mark.parametrize(
    "text",
    [
        HEAD + "}",
        HEAD + "model: {kernel_size: [3, 5], tying: {pattern: [block, {preset: tile, tile: [1, 5]}], layers: [1, 2]}}}",
        HEAD + "training: {optimizer: {name: sgd, momentum: 0.5}, schedule: {name: step, epochs: [3]}, devices: all}}",
        HEAD + "model: {tying: null}, training: {early_stopping: {patience: 3}}}",
        HEAD + "training: {optimizer: {learning_rate: 0.1}, schedule: {warmup_epochs: 1}}}",
        "{extends: base.yaml}",
        "{extends: base.yaml, training: {optimizer: {learning_rate: 0.1}}, model: {tying: {layers: first}}}",
        "{extends: base.yaml, training: {optimizer: {momentum: 0.5}}}",
        "{extends: base.yaml, model: {tying: {pattern: {groups: 3}}}}",
    ],
)
def test_the_json_schema_accepts_specs_and_those_that_extend_others(text: str) -> None:
    assert is_accepted(text)


@pytest.mark.parametrize(
    "text",
    [
        "{name: a}",
        "{name: a/b, dataset: {name: digits}}",
        "{name: a, dataset: {}}",
        "[]",
        HEAD + "modell: {}}",
        HEAD + "model: {kernel_size: [3, 5, 7]}}",
        HEAD + "model: {tying: {}}}",
        HEAD + "model: {tying: {pattern: {groups: 3}}}}",
        HEAD + "training: {epochs: 0}}",
        HEAD + "training: {epochs: 1.5}}",
        HEAD + "training: {optimizer: {momentum: 0.1}}}",
        HEAD + "training: {optimizer: {name: adam, momentum: 0.1}}}",
        HEAD + "training: {devices: some}}",
        "{extends: 3}",
        "{extends: base.yaml, training: {epoch: 3}}",
        "{extends: base.yaml, training: {optimizer: {name: adam, momentum: 0.1}}}",
        "{extends: base.yaml, training: {optimizer: {speed: 0.1}}}",
    ],
)
def test_the_json_schema_refuses_what_is_not_a_spec(text: str) -> None:
    assert not is_accepted(text)


def keys_of(shape: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, definition in shape["$defs"].items():
        yield from ((f"{name}.{key}", part) for key, part in definition.get("properties", {}).items())


def test_every_key_has_a_meaning_and_every_reference_a_target() -> None:
    schema = build_json_schema()
    for key, part in keys_of(schema):
        target = schema["$defs"][part["$ref"].removeprefix("#/$defs/")] if "$ref" in part else {}
        assert (part.get("description") or target.get("description", "")).endswith("."), key
    references = set(re.findall(r'"\$ref": "#/\$defs/(\w+)"', json.dumps(schema)))
    assert references == set(schema["$defs"])
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["title"]


def test_every_default_of_the_json_schema_is_one_that_it_accepts() -> None:
    schema = build_json_schema()
    with_defaults = [(key, part) for key, part in keys_of(schema) if "default" in part]
    assert len(with_defaults) > 40
    for key, part in with_defaults:
        assert accepts(part, part["default"], schema), key


def test_a_resolved_spec_is_accepted_by_the_json_schema(tmp_path: Path) -> None:
    schema = build_json_schema()
    assert accepts(schema, spec_with().model_dump(mode="json"), schema)
