"""The expressions of --where."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiedexp.compare.where import parse_condition
from tiedexp.errors import SpecError, TiedexpError

FACTS = {
    "model.depth": 4,
    "model.tying.pattern": "hashed(groups=9, seed=0)",
    "name": "mnist-block",
    "test/accuracy": 0.91,
    "training.jit": False,
    "training.threads": None,
}


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("model.depth == 4", True),
        ("model.depth==4.0", True),
        ("model.depth >= 5", False),
        ("model.depth != 5 and test/accuracy > 0.9", True),
        ("model.depth < 4 or name == mnist-block", True),
        ("not model.depth < 4", True),
        ("not (model.depth == 4 and name == mnist-block)", False),
        ("NOT name == x AND model.depth <= 4", True),
        ("model.depth == 5 and name == x or training.jit == false", True),  # and binds more than or
        ("model.depth == 4 or name == x and training.jit == true", True),
        ("model.tying.pattern == 'hashed(groups=9, seed=0)'", True),
        ('name != "mnist-block"', False),
        ("training.threads == none", True),
        ("training.threads < 3", False),
        ("name > 3", False),
        ("model.depth == '4'", False),
    ],
)
def test_what_holds(text, holds):
    assert parse_condition(text, FACTS)(FACTS) is holds


def test_a_run_that_lacks_a_fact():
    assert not parse_condition("model.depth == 4", FACTS)({})
    assert parse_condition("model.depth == none", FACTS)({})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model.deptj == 4", "no run has 'model.deptj'; did you mean model.depth?"),
        ("seed == 1 and", "no run has 'seed'"),
        ("", "expected a key at the end"),
        ("model.depth", "expected one of == != < <= > >= at the end"),
        ("model.depth =", r"expected '==' instead of '=' \(character 13\) in: model.depth ="),
        ("model.depth = 4", r"expected '==' instead of '=' \(character 13\)"),
        ("name=x", r"expected '==' instead of '=' \(character 5\)"),
        ("model.depth == = 4", r"expected a value at '=' \(character 16\)"),
        ("= 4", r"expected a key at '=' \(character 1\)"),
        ("model.depth ==", "expected a value at the end"),
        ("model.depth == 4 5", r"expected 'and', 'or' or the end at '5' \(character 18\)"),
        ("(model.depth == 4", r"expected '\)' at the end"),
        ("model.depth == 4)", "expected 'and', 'or' or the end"),
        ("__import__('os').system('x')", "no run has '__import__'"),
        ("== 4", "expected a key at '=='"),
        ("name == 'x", r"''' \(character 9\) is not valid here: name == 'x"),
        ("(" * 60 + "name == x" + ")" * 60, "more than 50 nested parentheses"),
        ("not " * 60 + "name == x", "more than 50 nested parentheses or nots"),
        ("name == " + "x" * 3000, "at most 2,000 characters"),
    ],
)
def test_what_is_refused(text, message):
    with pytest.raises(SpecError, match=message):
        parse_condition(text, FACTS)


@given(st.lists(st.sampled_from([*FACTS, "==", "<", "(", ")", "and", "or", "not", "4", "'", '"a b"', "x", "="])))
def test_anything_is_a_condition_or_refused(words):
    with suppress(TiedexpError):
        assert parse_condition(" ".join(words), FACTS)(FACTS) in (True, False)
