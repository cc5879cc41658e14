"""Text on its way to a terminal.

Names of files, keys of JSON and messages about them may come from a stranger's run. Printed as they are, their control
characters could move the cursor, hide what is above, or reverse what is read. So whatever a command prints is cleaned
where it leaves: by `clean_output` if it is printed, by `tiedexp.cli.console.Console` if rich draws it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any, TextIO, cast

from tiedexp.text import shorten

MAX_TEXT = 20_000  # characters of a value; the longest is a grid of 127x127


def clean_text(text: str) -> str:
    """One line of text: no line breaks, no control characters, nothing that changes the direction, not too long."""
    return shorten(_replace(text), MAX_TEXT)


def clean_lines(text: str) -> str:
    """The same of any number of lines of any length; line breaks and tabs stay."""
    return "\n".join("\t".join(map(_replace, line.split("\t"))) for line in text.split("\n"))


def _replace(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)


class _CleanStream:
    """A text stream that cleans what is written; all else is the stream's own."""

    def __init__(self, stream: TextIO):
        self.stream = stream

    def write(self, text: str) -> int:
        self.stream.write(clean_lines(text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


@contextmanager
def clean_output() -> Iterator[None]:
    """Clean whatever the block prints to standard output and standard error."""
    out, err = (cast(TextIO, _CleanStream(stream)) for stream in (sys.stdout, sys.stderr))
    with redirect_stdout(out), redirect_stderr(err):
        yield


def find_terminal() -> TextIO:
    """Standard output as it is outside `clean_output`, for those who clean by themselves and write colours."""
    stream: Any = sys.stdout
    terminal: TextIO = stream.stream if isinstance(stream, _CleanStream) else stream
    return terminal
