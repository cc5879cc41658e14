"""Nothing from a file can control the terminal."""

from __future__ import annotations

import ast
import io
import sys
from contextlib import redirect_stdout
from pathlib import Path

import pytest

import tiedexp
from tiedexp.terminal import clean_lines, clean_output, clean_text

STEERING = [
    "\x1b[2J",  # clears the screen
    "\x9b2J",  # the same, in one character
    "\x1b]0;title\x07",
    "\r",
    "\x08",
    "\u202e",  # writes the rest from right to left
    "\u2066",
    "\u2028",
    "\x7f",
    "\udc9b",  # a byte of a file's name that is not UTF-8
]


@pytest.mark.parametrize("text", STEERING)
def test_one_line(text):
    shown = clean_text(f"a{text}b\nc\td")
    assert shown.isprintable()
    assert (shown[0], shown[-5:]) == ("a", "b\N{REPLACEMENT CHARACTER}c\N{REPLACEMENT CHARACTER}d")


def test_what_people_write_stays():
    assert clean_text("größe ±0.1 \N{BOX DRAWINGS LIGHT HORIZONTAL} 数字 [bold]") == "größe ±0.1 ─ 数字 [bold]"
    assert clean_lines("one\n\ttwo\n") == "one\n\ttwo\n"
    assert len(clean_text("x" * 10**6)) == 20_000


@pytest.mark.parametrize("text", STEERING)
def test_whatever_is_printed(text, capsys):
    with clean_output():
        print(f"out {text}")
        print(f"err {text}", file=sys.stderr)
        sys.stdout.writelines([text])
        sys.stdout.flush()
    answer = capsys.readouterr()
    assert all(line.isprintable() for line in (answer.out + answer.err).split("\n"))
    assert answer.out.startswith("out ")
    assert answer.err.startswith("err ")


class Terminal(io.StringIO):
    """A stream that rich treats as a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("text", STEERING)
def test_what_rich_draws(text, monkeypatch):
    """Colours and cursor movements of rich are written, those of the text are not, even during a live display."""
    from rich.live import Live
    from rich.table import Table
    from rich.text import Text

    from tiedexp.cli.console import Console

    for name, value in (("TERM", "xterm-256color"), ("COLUMNS", "80")):
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("NO_COLOR", raising=False)
    terminal = Terminal()
    with redirect_stdout(terminal), clean_output():
        console = Console(highlight=False)
        table = Table(title=f"title{text}")
        table.add_column(Text(f"head{text}"))
        table.add_row(Text(f"cell{text}", style="bold"))
        console.print(table)
        console.print(f"[bold]{text}[/]", soft_wrap=True)
        with Live(Text(f"live{text}"), console=console, auto_refresh=False):
            console.print(f"above{text}", markup=False)
            print(f"printed{text}")
    written = terminal.getvalue()
    assert "\x1b[1m" in written
    assert "\x1b[?25l" in written
    assert text not in written.replace("\r\x1b[2K", "")  # a live display returns to the start of its line with this


def test_every_console_is_ours():
    package = Path(tiedexp.__file__).parent
    for path in package.rglob("*.py"):
        if path != package / "cli" / "console.py":
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                names = [alias.name for alias in node.names] if isinstance(node, ast.ImportFrom) else []
                assert not (
                    isinstance(node, ast.ImportFrom) and node.module == "rich.console" and "Console" in names
                ), f"{path} must take Console from tiedexp.cli.console"
