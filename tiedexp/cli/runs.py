"""`tiedexp runs`: the runs there are, one of them, and what to do with them."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tiedexp.cli.options import Json, RunPath, RunsRoot
from tiedexp.terminal import clean_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from tiedexp.cli.console import Console
    from tiedexp.compare.listing import ListedRun

app = typer.Typer(no_args_is_help=True, help="List, show, tag and delete runs.", rich_markup_mode=None)


class StateName(StrEnum):
    """States of a run."""

    FINISHED = "finished"
    RUNNING = "running"
    FAILED = "failed"
    UNFINISHED = "unfinished"


Paths = Annotated[
    list[Path] | None,
    typer.Argument(metavar="[RUNS]...", help="Runs, or directories of runs. [default: those of --runs]"),
]
States = Annotated[list[StateName] | None, typer.Option("--state", help="Only runs in this state. May be repeated.")]
Names = Annotated[
    list[str] | None, typer.Option("--name", help="Only runs whose name fits, as 'mnist-*'. May be repeated.")
]
Tags = Annotated[list[str] | None, typer.Option("--tag", help="Only runs with this tag. May be repeated.")]
Where = Annotated[
    str | None, typer.Option(metavar="EXPR", help="Only runs for which this holds, as 'test/accuracy > 0.9'.")
]


@app.command("list")
def list_(
    paths: Paths = None,
    state: States = None,
    name: Names = None,
    tag: Tags = None,
    where: Where = None,
    runs: RunsRoot = None,
    json: Json = False,
) -> None:
    """List runs: state, name, seed, pattern, test accuracy, tags, directory."""
    found = _select(paths, runs, state, name, tag, where)
    if json:
        from json import dumps

        print(dumps([_as_dict(run) for run in found], indent=2))
        return
    import sys

    from tiedexp.cli.console import Console

    # Where there is no window to end at, lines may be long.
    console = Console(highlight=False, width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else 240)
    _show_list(found, console)


@app.command()
def show(run: RunPath, json: Json = False) -> None:
    """Show one run: its state, tags, metrics, cost and spec, and why it failed if it did."""
    from tiedexp.compare.listing import describe_run
    from tiedexp.runs.directory import RunDirectory

    listed = describe_run(RunDirectory.open(run))
    if json:
        from json import dumps

        print(dumps(_as_dict(listed), indent=2))
        return
    from rich.table import Table
    from rich.text import Text

    from tiedexp.cli.console import Console

    table = Table.grid(padding=(0, 2))
    about = {
        "directory": clean_text(str(run)),
        "state": listed.state,
        "tags": " ".join(listed.tags),
        "problem": listed.problem,
    }
    for key, value in {**about, **listed.facts}.items():
        if value not in ("", None):
            shown = f"{value:.6g}" if isinstance(value, float) else str(value)
            table.add_row(Text(key), Text(shown, overflow="fold"))
    Console(highlight=False).print(table)


@app.command()
def delete(
    paths: Paths = None,
    state: States = None,
    name: Names = None,
    tag: Tags = None,
    where: Where = None,
    runs: RunsRoot = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete runs, after asking. Files in their directories that are not tiedexp's stay; a run in use is refused."""
    from tiedexp.errors import RunLockedError, SpecError

    if not paths and not (state or name or tag or where):
        raise SpecError("runs delete: name runs, or say which by --state, --name, --tag or --where")
    found = _select(paths, runs, state, name, tag, where)
    if not found:
        print("no run fits; nothing is deleted")
        return
    used = [str(run.run.path) for run in found if run.state == "running"]
    if used:
        raise RunLockedError(f"in use by another process, so nothing is deleted: {', '.join(used)}")
    if not yes:
        for run in found:
            print(f"{run.state:<10}  {clean_text(str(run.run.path))}")
        typer.confirm(f"delete {len(found)} run{'s' * (len(found) != 1)}?", abort=True)
    for run in found:
        left = run.run.delete()
        if left:
            print(clean_text(f"{run.run.path} stays: tiedexp did not write {', '.join(left)}"))
    print(f"{len(found)} run{'s' * (len(found) != 1)} deleted")


@app.command()
def tag(
    paths: Annotated[list[Path], typer.Argument(metavar="RUNS...", help="Runs, or directories of runs.")],
    add: Annotated[list[str] | None, typer.Option(help="A tag to put on them. May be repeated.")] = None,
    remove: Annotated[list[str] | None, typer.Option(help="A tag to take off. May be repeated.")] = None,
    state: States = None,
    name: Names = None,
    where: Where = None,
) -> None:
    """Put tags on runs, which `runs list --tag` finds again; they are kept in the runs' tags.json."""
    from tiedexp.errors import SpecError
    from tiedexp.runs.tags import check_tag, write_tags

    if not add and not remove:
        raise SpecError("runs tag: say what to do, --add TAG or --remove TAG")
    new = [check_tag(each) for each in add or []]
    found = _select(paths, None, state, name, None, where)
    for run in found:
        tags = sorted({*run.tags, *new} - set(remove or []))
        if tags != list(run.tags):
            write_tags(run.run, tags)
        print(f"{clean_text(str(run.run.path))}  {' '.join(tags) or '-'}")


def _show_list(found: Sequence[ListedRun], console: Console) -> None:
    """Print runs as a table. In a narrow window it says less, as far as the directories say the rest."""
    top, named = _find_top(found), _are_named_by_directory(found)
    attempts: list[tuple[Path | None, bool, int]] = [
        (None, True, 40), (top, True, 24), (top, not named, 24), (top, not named, 16)
    ]  # fmt: skip
    for below, with_names, max_pattern in attempts:
        table = _build_table(found, below, with_names=with_names, max_pattern=max_pattern)
        if console.measure(table, options=console.options.update(width=1000)).maximum <= console.width:
            break
    console.print(table)
    where = "" if below is None else f" below {below}"
    console.print(f"{len(found)} run{'s' * (len(found) != 1)}{where}", markup=False, soft_wrap=True)
    for run in found:
        if run.problem:
            console.print(clean_text(f"{run.run.path}: {run.problem}"), markup=False, style="dim", soft_wrap=True)


def _build_table(found: Sequence[ListedRun], below: Path | None, *, with_names: bool, max_pattern: int) -> Table:
    """A row a run, with its directory as it is from `below`; only tags and directories may be broken into lines."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from tiedexp.labels import PATTERN

    rows = []
    for run in found:
        accuracy = run.facts.get("test/accuracy")
        rows.append(
            {
                "state": run.state,
                "name": run.name,
                "seed": str(run.facts.get("seed", "")),
                "pattern": _shorten(str(run.facts.get(PATTERN, "")), max_pattern),
                "test\naccuracy": f"{accuracy:.4f}" if isinstance(accuracy, float) else "",
                "tags": " ".join(run.tags),
                "directory": clean_text(str(run.run.path if below is None else run.run.path.relative_to(below))),
            }
        )
    left_out = {*(() if with_names else ("name", "seed")), *(() if any(run.tags for run in found) else ("tags",))}
    titles = [title for title in (rows[0] if rows else ()) if title not in left_out]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in titles:
        is_number = title in ("seed", "test\naccuracy")
        may_break = title in ("tags", "directory")
        table.add_column(title, justify="right" if is_number else "left", overflow="fold", no_wrap=not may_break)
    for row in rows:
        table.add_row(*(Text(row[title]) for title in titles))
    return table


def _find_top(found: Sequence[ListedRun]) -> Path | None:
    """The directory that all experiments are in; None if there is none to speak of."""
    try:
        top = Path(os.path.commonpath([run.run.path.parent.parent for run in found]))
    except ValueError:  # of none, or of absolute and relative ones
        return None
    return None if top == Path() else top


def _are_named_by_directory(found: Sequence[ListedRun]) -> bool:
    """Whether all directories are NAME-DIGEST/seed-N, and so say name and seed."""
    return all(
        run.run.path.parent.name.startswith(f"{run.name}-") and run.run.path.name == f"seed-{run.facts.get('seed')}"
        for run in found
    )


def _shorten(pattern: str, length: int) -> str:
    """A pattern, which may be a grid written out."""
    return pattern if len(pattern) <= length else f"{pattern[: length - 1]}\N{HORIZONTAL ELLIPSIS}"


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
