"""Words that a person puts on a run, in its tags.json."""

from __future__ import annotations

import re
from collections.abc import Iterable

from tiedexp.errors import RunError, SpecError
from tiedexp.runs.directory import RunDirectory

TAGS_FILE = "tags.json"
_TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")


def read_tags(run: RunDirectory) -> tuple[str, ...]:
    """The tags of a run, in order; none if it has no tags.json.

    Raises:
        RunError: the file is not as tiedexp writes it.
    """
    if not run.inside(TAGS_FILE).is_file():
        return ()
    tags = run.read_json(TAGS_FILE).get("tags")
    if not isinstance(tags, list) or not all(isinstance(tag, str) and _TAG.fullmatch(tag) for tag in tags):
        raise RunError(f"{run.path / TAGS_FILE} is not as tiedexp writes it: tags must be a list of tags")
    return tuple(sorted(set(tags)))


def write_tags(run: RunDirectory, tags: Iterable[str]) -> None:
    """Replace the tags of a run."""
    run.write_json(TAGS_FILE, {"tags": sorted(set(tags))})


def check_tag(tag: str) -> str:
    """The tag; SpecError if it is none."""
    if not _TAG.fullmatch(tag):
        raise SpecError(f"a tag is up to 40 letters, digits, '.', '_' or '-'. Received: '{tag}'")
    return tag
