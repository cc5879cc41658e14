"""`tiedexp runs`: lists, shows, tags and deletes runs."""

from __future__ import annotations

import os
import shutil
import sys
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tiedexp.cli.options import Json, RunCommand, RunPath, RunPaths, RunsRoot
from tiedexp.cli.printing import format_count, print_json
from tiedexp.terminal import clean_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tiedexp.compare.listing import ListedRun

app = typer.Typer(no_args_is_help=True, help="List, show, tag and delete runs.", rich_markup_mode=None)


class StateName(StrEnum):
    """States of a run."""

    FINISHED = "finished"
    RUNNING = "running"
    FAILED = "failed"
    UNFINISHED = "unfinished"


States = Annotated[list[StateName] | None, typer.Option("--state", help="Only runs in this state. May be repeated.")]
Names = Annotated[
    list[str] | None, typer.Option("--name", help="Only runs whose name matches, e.g. 'mnist-*'. May be repeated.")
]
Tags = Annotated[list[str] | None, typer.Option("--tag", help="Only runs with this tag. May be repeated.")]
Where = Annotated[
    str | None, typer.Option(metavar="EXPR", help="Only runs for which this is true, e.g. 'test/accuracy > 0.9'.")
]


@app.command("list")
def list_(
    paths: RunPaths = None,
    state: States = None,
    name: Names = None,
    tag: Tags = None,
    where: Where = None,
    runs: RunsRoot = None,
    json: Json = False,
) -> None:
    """List runs.

    Shows their state, name, seed, pattern, test accuracy, tags and directory. Runs made by `tiedexp reproduce` are
    listed only if their directory (`reproduced`) is named.
    """
    found = _select(paths, runs, state, name, tag, where)
    if json:
        print_json([_as_dict(run) for run in found])
        return
    # Without a window, lines can be long.
    has_window = sys.stdout.isatty() or "COLUMNS" in os.environ
    _show_list(found, shutil.get_terminal_size().columns if has_window else sys.maxsize)


@app.command(cls=RunCommand)
def show(run: RunPath, json: Json = False) -> None:
    """Show one run.

    Prints its state, tags, metrics, cost and spec, and why it failed if it did.
    """
    from tiedexp.compare.listing import describe_run
    from tiedexp.runs.directory import RunDirectory

    listed = describe_run(RunDirectory.open(run))
    if json:
        print_json(_as_dict(listed))
        return
    about = {
        "directory": _quote_path(run),
        "state": listed.state,
        "tags": " ".join(listed.tags),
        "problem": listed.problem,
    }
    shown = {key: value for key, value in {**about, **listed.facts}.items() if value not in ("", None)}
    width = max(map(len, shown))
    for key, value in shown.items():
        print(f"{key:<{width}}  {f'{value:.6g}' if isinstance(value, float) else value}")


@app.command()
def delete(
    paths: RunPaths = None,
    state: States = None,
    name: Names = None,
    tag: Tags = None,
    where: Where = None,
    runs: RunsRoot = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False,
) -> None:
    """Delete runs, after asking for confirmation.

    Select the runs by RUNS, --state, --name, --tag or --where; at least one is required. Files in their directories
    that tiedexp did not write are kept. If a run is in use, nothing is deleted.
    """
    from tiedexp.errors import RunLockedError, SpecError

    if not paths and not (state or name or tag or where):
        raise SpecError("runs delete: give runs, or select them with --state, --name, --tag or --where")
    found = _select(paths, runs, state, name, tag, where)
    if not found:
        print("no run matches; nothing is deleted")
        return
    used = [str(run.run.path) for run in found if run.state == "running"]
    if used:
        raise RunLockedError(f"nothing is deleted, because another process is using {', '.join(used)}")
    if not yes:
        for run in found:
            print(f"{run.state:<10}  {clean_text(str(run.run.path))}")
        typer.confirm(f"delete {format_count(len(found), 'run')}?", abort=True)
    for run in found:
        left = run.run.delete()
        if left:
            print(clean_text(f"{run.run.path} is kept: tiedexp did not write {', '.join(left)}"))
    print(f"{format_count(len(found), 'run')} deleted")


@app.command()
def tag(
    paths: Annotated[list[Path], typer.Argument(metavar="RUNS", help="Runs, or directories of runs, e.g. a sweep.")],
    add: Annotated[list[str] | None, typer.Option(help="A tag to add. May be repeated.")] = None,
    remove: Annotated[list[str] | None, typer.Option(help="A tag to remove. May be repeated.")] = None,
    state: States = None,
    name: Names = None,
    where: Where = None,
) -> None:
    """Add tags to runs, or remove them.

    `tiedexp runs list --tag` finds the runs again. The tags of a run are stored in its tags.json.
    """
    from tiedexp.errors import SpecError
    from tiedexp.runs.tags import check_tag, write_tags

    if not add and not remove:
        raise SpecError("runs tag: give at least one --add TAG or --remove TAG")
    new = [check_tag(each) for each in add or []]
    found = _select(paths, None, state, name, None, where)
    for run in found:
        tags = sorted({*run.tags, *new} - set(remove or []))
        if tags != list(run.tags):
            write_tags(run.run, tags)
        print(f"{clean_text(str(run.run.path))}  {' '.join(tags) or '-'}")


def _show_list(found: Sequence[ListedRun], width: int) -> None:
    """Print runs as a table, each with its directory in the form that the next command takes.

    A directory is never broken across lines, so that it can be copied. In a narrow window it has its own line.
    """
    heading, *lines = _build_lines(found, max_pattern=40)
    directories = [_quote_path(run.run.path) for run in found]
    if all(len(line) + len(directory) <= width for line, directory in zip(lines, directories, strict=True)):
        print(f"{heading}directory")
        for line, directory in zip(lines, directories, strict=True):
            print(f"{line}{directory}")
    else:
        heading, *lines = _build_lines(found, max_pattern=20)
        print(heading.rstrip())
        for line, directory in zip(lines, directories, strict=True):
            print(line.rstrip(), f"  {directory}", sep="\n")
    print(f"\n{format_count(len(found), 'run')}")
    for run in found:
        if run.problem:
            print(f"{_quote_path(run.run.path)}: {run.problem}")


def _build_lines(found: Sequence[ListedRun], *, max_pattern: int) -> list[str]:
    """A heading and one line per run, all of the same length, with everything except the directory."""
    from tiedexp.labels import PATTERN
    from tiedexp.text import shorten

    has_tags = any(run.tags for run in found)
    rows = [["state", "name", "seed", "pattern", "accuracy", *(["tags"] if has_tags else [])]]
    for run in found:
        accuracy = run.facts.get("test/accuracy")
        pattern = shorten(str(run.facts.get(PATTERN, "")), max_pattern)
        shown = f"{accuracy:.4f}" if isinstance(accuracy, float) else ""
        tags = [" ".join(run.tags)] if has_tags else []
        rows.append([run.state, clean_text(run.name), str(run.facts.get("seed", "")), pattern, shown, *tags])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    are_numbers = [title in ("seed", "accuracy") for title in rows[0]]
    return [
        "".join(
            f"{text:>{width}}  " if is_number else f"{text:<{width}}  "
            for text, width, is_number in zip(row, widths, are_numbers, strict=True)
        )
        for row in rows
    ]


def _quote_path(path: Path) -> str:
    """A path quoted for a shell, relative to the working directory if it is below that."""
    import shlex

    with suppress(ValueError):
        path = path.relative_to(Path.cwd())
    return shlex.quote(clean_text(str(path)))


def _select(
    paths: list[Path] | None,
    root: Path | None,
    states: list[StateName] | None,
    names: list[str] | None,
    tags: list[str] | None,
    where: str | None,
) -> list[ListedRun]:
    from tiedexp.compare.listing import Filter, list_runs
    from tiedexp.runs.directory import find_runs_root

    wanted = Filter([state.value for state in states or []], names or [], tags or [], where)
    return wanted.select(list_runs(paths or [find_runs_root(root)]))


def _as_dict(run: ListedRun) -> dict[str, Any]:
    about = {"directory": str(run.run.path), "state": run.state, "name": run.name, "tags": run.tags}
    return {**about, "facts": dict(run.facts), "problem": run.problem or None}
