"""Every command explains itself, and the whole tool answers at once."""

from __future__ import annotations

import pytest
import typer.main

import tiedexp
from tiedexp.cli import app


def commands(group=None, path=()):
    group = group or typer.main.get_command(app)
    for name, command in group.commands.items():
        yield (*path, name), command
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))


COMMANDS = {" ".join(path): command for path, command in commands()}


def test_the_commands():
    assert {name for name in COMMANDS if " " not in name} == {
        "bench",
        "board",
        "compare",
        "data",
        "diff",
        "doctor",
        "eval",
        "extend",
        "init",
        "pattern",
        "reproduce",
        "runs",
        "schema",
        "sweep",
        "train",
        "validate",
    }


@pytest.mark.parametrize("name", COMMANDS)
def test_commands_and_their_parameters_have_help(name):
    command = COMMANDS[name]
    assert command.help
    for parameter in command.params:
        if parameter.name != "help":
            assert parameter.help, f"{name}: {parameter.name}"


@pytest.mark.parametrize("group", ["", *(name for name in COMMANDS if hasattr(COMMANDS[name], "commands"))])
def test_no_line_of_help_is_cut_off_at_80_columns(tiedexp_cli, monkeypatch, group):
    monkeypatch.setenv("COLUMNS", "80")
    answer = tiedexp_cli(*group.split(), "--help")
    _, heading, listed = answer.out.partition("\nCommands:\n")
    assert heading
    assert "..." not in listed
    assert len(listed.splitlines()) == sum(name.rpartition(" ")[0] == group for name in COMMANDS)


@pytest.mark.parametrize("name", ["eval", "extend", "reproduce", "diff", "runs show"])
def test_a_command_that_takes_one_run_says_so_where_a_wildcard_gave_it_more(tiedexp_cli, name):
    options = ["--epochs", "3"] if name == "extend" else []
    answer = tiedexp_cli(*name.split(), *options, "runs/a/seed-0", "runs/b/seed-0", "runs/c/seed-0", "runs/d/seed-0")
    wanted = "2 runs" if name == "diff" else "one run"
    assert (answer.code, answer.out) == (2, "")
    assert answer.err == (
        f"error: {name} takes {wanted}. Received 4: runs/a/seed-0, runs/b/seed-0, runs/c/seed-0 and 1 more\n"
    )


def test_the_version(tiedexp_cli):
    answer = tiedexp_cli("--version")
    assert (answer.code, answer.out.strip()) == (0, tiedexp.__version__)


@pytest.mark.parametrize(
    "arguments", [["tarin"], ["train"], ["train", "a.yaml", "--runz", "x"], ["eval", "x", "--split", "dev"]]
)
def test_a_wrong_command_exits_with_2(tiedexp_cli, arguments):
    answer = tiedexp_cli(*arguments)
    assert answer.code == 2
    assert "Traceback" not in answer.err
    assert answer.out == ""
