"""`tiedexp runs`: the runs there are, one of them, and what to do with them."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tiedexp.cli.options import Json, RunPath, RunsRoot

if TYPE_CHECKING:
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
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from tiedexp.compare.reading import PATTERN

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in ("state", "name", "seed", "pattern", "test accuracy", "tags", "directory"):
        table.add_column(title, justify="right" if title in ("seed", "test accuracy") else "left", overflow="fold")
    for run in found:
        accuracy = run.facts.get("test/accuracy")
        shown = f"{accuracy:.4f}" if isinstance(accuracy, float) else ""
        facts = [str(run.facts.get(key, "")) for key in ("seed", PATTERN)]
        row = [run.state, run.name, *facts, shown, " ".join(run.tags), str(run.run.path)]
        table.add_row(*(Text(cell) for cell in row))
    console = Console(highlight=False)
    console.print(table)
    console.print(f"{len(found)} run{'s' * (len(found) != 1)}")
    for run in found:
        if run.problem:
            console.print(f"{run.run.path}: {run.problem}", markup=False, style="dim", soft_wrap=True)


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
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    about = {"directory": str(run), "state": listed.state, "tags": " ".join(listed.tags), "problem": listed.problem}
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
            print(f"{run.state:<10}  {run.run.path}")
        typer.confirm(f"delete {len(found)} run{'s' * (len(found) != 1)}?", abort=True)
    for run in found:
        run.run.delete()
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
        print(f"{run.run.path}  {' '.join(tags) or '-'}")


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
