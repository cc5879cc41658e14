"""A list of runs in any state, and a filter for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from tiedexp.compare.reading import flatten_spec, read_run
from tiedexp.compare.where import parse_condition
from tiedexp.errors import RunError
from tiedexp.labels import Setting
from tiedexp.runs.directory import RunDirectory, RunStateName
from tiedexp.runs.finding import find_runs
from tiedexp.runs.tags import read_tags
from tiedexp.terminal import clean_text


@dataclass(frozen=True)
class ListedRun:
    """A run as far as it can be read.

    Args:
        run: its directory.
        state: finished, running, failed, unfinished or missing.
        tags: its tags.
        facts: its spec by dotted keys, and, if it is finished, its metrics and cost; empty if it cannot be read.
        problem: why it cannot be read, or why it failed; empty otherwise.
    """

    run: RunDirectory
    state: RunStateName
    tags: tuple[str, ...]
    facts: Mapping[str, Setting]
    problem: str = ""

    @property
    def name(self) -> str:
        """The name in its spec, or else that of its directory."""
        return str(self.facts.get("name") or self.run.path.parent.name.rpartition("-")[0] or self.run.path.name)


@dataclass(frozen=True)
class Filter:
    """Conditions for runs, which all must hold.

    Args:
        states: the run is in one of these states; in any if empty.
        names: its name matches one of these shell-style patterns; any name if empty.
        tags: it has all of these tags.
        where: an expression that holds for it (see `tiedexp.compare.where`).
    """

    states: Sequence[str] = ()
    names: Sequence[str] = ()
    tags: Sequence[str] = ()
    where: str | None = None

    @property
    def is_empty(self) -> bool:
        """Whether every run passes."""
        return not (self.states or self.names or self.tags or self.where)

    def select(self, runs: Iterable[ListedRun]) -> list[ListedRun]:
        """The runs that pass.

        Raises:
            SpecError: `where` is not a valid expression, or names a key that no run has.
        """
        every = list(runs)
        holds: Callable[[Mapping[str, Any]], bool] = lambda _: True  # noqa: E731
        if self.where is not None:
            holds = parse_condition(self.where, {key for run in every for key in run.facts})
        return [
            run
            for run in every
            if (not self.states or run.state in self.states)
            and (not self.names or any(fnmatchcase(run.name, name) for name in self.names))
            and set(self.tags) <= set(run.tags)
            and holds(run.facts)
        ]


def list_runs(paths: Sequence[Path]) -> list[ListedRun]:
    """The runs in some directories, each once.

    Raises:
        RunError: a path is not a directory, or a link leads out of it.
    """
    runs = {run.path.resolve(): run for path in paths for run in find_runs(path)}
    return [describe_run(run) for run in runs.values()]


def describe_run(run: RunDirectory) -> ListedRun:
    """Read as much of a run as possible; what cannot be read becomes its problem."""
    state: RunStateName = "unfinished"
    tags: tuple[str, ...] = ()
    try:
        state, tags = run.state, read_tags(run)
        if state == "finished":
            return ListedRun(run, state, tags, read_run(run).facts)
        problem = clean_text(run.read_failure()) if state == "failed" else ""
        facts = dict(flatten_spec(run.read_manifest())) if run.started else {}
    except RunError as error:
        return ListedRun(run, state, tags, {}, clean_text(str(error)))
    return ListedRun(run, state, tags, facts, problem)
