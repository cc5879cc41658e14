"""Tags, which a person gives a run to find it again."""

from __future__ import annotations

import re
from collections.abc import Iterable

from tiedexp.errors import SpecError
from tiedexp.runs.directory import RunDirectory
from tiedexp.runs.records import TAG, Tags, check_record

TAGS_FILE = "tags.json"


def read_tags(run: RunDirectory) -> tuple[str, ...]:
    """The tags of a run, sorted; none if it has no tags.json.

    Raises:
        RunError: the file is not as tiedexp writes it.
    """
    if not run.inside(TAGS_FILE).is_file():
        return ()
    tags = check_record(Tags, run.read_json(TAGS_FILE), run.path / TAGS_FILE).tags
    return tuple(sorted(set(tags)))


def write_tags(run: RunDirectory, tags: Iterable[str]) -> None:
    """Replace the tags of a run."""
    run.write_json(TAGS_FILE, Tags(tags=tuple(sorted(set(tags)))).as_json())


def check_tag(tag: str) -> str:
    """The tag; SpecError if it is not a valid one."""
    if not re.fullmatch(TAG, tag):
        raise SpecError(f"a tag is up to 40 letters, digits, '.', '_' or '-'. Received: '{tag}'")
    return tag
