"""The tags of a run."""

from __future__ import annotations

import pytest

from tiedexp.errors import RunError, SpecError
from tiedexp.runs.directory import RunDirectory
from tiedexp.runs.tags import check_tag, read_tags, write_tags


def test_what_is_written_is_read(tmp_path):
    run = RunDirectory(tmp_path)
    assert read_tags(run) == ()
    write_tags(run, ["paper", "a.b-c", "paper"])
    assert read_tags(run) == ("a.b-c", "paper")


@pytest.mark.parametrize("text", ["[]", '{"tags": "x"}', '{"tags": ["a\\u001b"]}', '{"tags": [["a"]]}', "{"])
def test_strange_files(tmp_path, text):
    (tmp_path / "tags.json").write_text(text)
    with pytest.raises(RunError, match=r"tags\.json"):
        read_tags(RunDirectory(tmp_path))


@pytest.mark.parametrize("tag", ["", "-x", "a b", "a/b", "x" * 41])
def test_texts_that_are_not_tags(tag):
    with pytest.raises(SpecError, match="a tag is up to 40 letters"):
        check_tag(tag)
