"""The README and the pages of the documentation, and the code in them."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import typer.main

from tiedexp.cli import app

ROOT = Path(__file__).resolve().parents[2]
PAGES = ROOT / "docs" / "pages"
DOCUMENTS = {
    path.relative_to(ROOT).as_posix(): path
    for path in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *sorted(PAGES.glob("*.md"))]
}


def find_blocks(document: str, language: str) -> list[str]:
    """The code blocks of a language in a document."""
    text = DOCUMENTS[document].read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def find_commands(document: str) -> list[str]:
    """The lines of a document's shell blocks that call tiedexp, without comments."""
    blocks = [re.sub(r"\\\n *", "", block) for block in find_blocks(document, "sh")]
    lines = [line.partition("  #")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line.startswith("tiedexp ")]


def list_options() -> set[str]:
    """The options of all commands."""
    commands, options = [typer.main.get_command(app)], {"--help"}
    while commands:
        command = commands.pop()
        commands += getattr(command, "commands", {}).values()
        options |= {name for parameter in command.params for name in parameter.opts}
    return options


def check_command(line: str) -> None:
    """Assert that a command and its options exist."""
    command = typer.main.get_command(app)
    words = shlex.split(line)[1:]
    while words and hasattr(command, "commands"):
        command = command.commands[words.pop(0)]
    options = {name for parameter in command.params for name in parameter.opts}
    given = {word for word in words if word.startswith("--")}
    assert given <= options, f"{line}: no such option: {given - options}"


def list_commands() -> list[str]:
    """The names of all commands."""
    return sorted(typer.main.get_command(app).commands)
