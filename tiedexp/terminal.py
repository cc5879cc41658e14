"""Cleaning text that is written to a terminal.

File names, JSON keys and messages about them can come from a stranger's run. Their control characters could move the
cursor, hide the lines above, or reverse the text. So everything that a command writes is cleaned at the end: by
`clean_output` if it is printed, or by `tiedexp.cli.console.Console` if rich draws it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any, TextIO, cast

from tiedexp.text import shorten

MAX_TEXT = 20_000  # characters of a value; the longest is a grid of 127x127 cells


def clean_text(text: str) -> str:
    """Text as one line of limited length, without line breaks, control characters and changes of direction."""
    return shorten(_replace(text), MAX_TEXT)


def clean_lines(text: str) -> str:
    """Text of any length without control characters and changes of direction; line breaks and tabs stay."""
    return "\n".join("\t".join(map(_replace, line.split("\t"))) for line in text.split("\n"))


def _replace(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)


class _CleanStream:
    """A text stream that cleans what is written; otherwise it is the given stream."""

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
    """Clean everything that the block prints to standard output and standard error."""
    out, err = (cast(TextIO, _CleanStream(stream)) for stream in (sys.stdout, sys.stderr))
    with redirect_stdout(out), redirect_stderr(err):
        yield


def find_terminal() -> TextIO:
    """Standard output without `clean_output`, for code that cleans its text itself and writes colours."""
    stream: Any = sys.stdout
    terminal: TextIO = stream.stream if isinstance(stream, _CleanStream) else stream
    return terminal
