"""The examples in the docstrings of the public classes and functions run and print what they show."""

from __future__ import annotations

import doctest

import pytest

import tiedexp

PUBLIC = ("Pattern", "TiedConv2D", "TiedDepthwiseConv2D", "load_model")


@pytest.mark.parametrize("name", PUBLIC)
def test_examples(name: str, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    public = getattr(tiedexp, name)
    tests = doctest.DocTestFinder(recurse=False).find(public, name, globs={name: public})
    assert sum(len(test.examples) for test in tests) >= 3
    failed = sum(doctest.DocTestRunner().run(test).failed for test in tests)
    assert not failed, capsys.readouterr().out
