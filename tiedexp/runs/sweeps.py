"""A sweep on disk: runs that belong together, and what differs between them.

    <root>/<name>/
      sweep.yaml                        the sweep's file
      sweep.json                        the planned variants and their runs
      <variant>-<digest>/seed-<n>/      each run, like any other run

So the directory of a sweep is a root of runs, which can be moved, sent and compared as a whole.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from tiedexp.errors import RunError
from tiedexp.files.atomic import write_text
from tiedexp.files.bounded import find_inside, read_json
from tiedexp.runs.directory import MAX_JSON_BYTES, RunDirectory
from tiedexp.runs.records import check_record

SWEEP_FORMAT = 1
SWEEP_FILE = "sweep.json"
MAX_RUNS = 100_000
_WHOSE = "the sweep's directory"

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,79}$")]
RunPath = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,100}/seed-[0-9]{1,10}$")]
Budget = Literal["weights", "macs", "time"]


class _Record(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class Variant(_Record):
    """One experiment of a sweep, with any seed.

    Args:
        name: the name in its runs' specs, unique in the sweep; letters, digits, `.`, `_` and `-`.
        label: what differs, for people, e.g. `block d4`.
        settings: what differs, by dotted keys of the spec.
        width: `model.width`, from the sweep's file or adjusted by `match`.
    """

    name: Name
    label: str
    settings: dict[str, Any]
    width: int


class PlannedRun(_Record):
    """A run of a sweep: its variant's name, its seed, and its path below the sweep's directory."""

    variant: Name
    seed: Annotated[int, Field(ge=0, lt=10**10)]
    path: RunPath

    @property
    def experiment(self) -> str:
        """The directory that holds the runs of all seeds of its variant."""
        return self.path.partition("/")[0]


class SweepRecord(_Record):
    """sweep.json.

    Args:
        format: the format of this file.
        name: the name of the sweep.
        baseline: the name of the variant that the others are compared with; None if there is none.
        match: the budget in which all variants equal the baseline, because `model.width` was adjusted; None if it was
            not.
        axes: the dotted keys of the spec in which variants differ, in the order of the sweep's file.
        variants: the variants, in the order of the sweep's file.
        runs: the runs, variant by variant.
    """

    format: int = SWEEP_FORMAT
    name: Name
    baseline: Name | None = None
    match: Budget | None = None
    axes: tuple[str, ...]
    variants: tuple[Variant, ...]
    runs: Annotated[tuple[PlannedRun, ...], Field(max_length=MAX_RUNS)]

    @model_validator(mode="after")
    def _names_are_known(self) -> Self:
        names = {variant.name for variant in self.variants}
        unknown = {*(run.variant for run in self.runs), *filter(None, [self.baseline])} - names
        if unknown:
            raise ValueError(f"no variant has the name {min(unknown)}")
        return self

    def join(self, before: SweepRecord) -> SweepRecord:
        """This plan with the runs of an earlier one, except those whose variant is a different experiment now."""
        ours = {run.variant: run.experiment for run in self.runs}
        paths = {run.path for run in self.runs}
        kept = [run for run in before.runs if ours.get(run.variant, run.experiment) == run.experiment]
        names = {run.variant for run in kept} - {variant.name for variant in self.variants}
        return self.model_copy(
            update={
                "axes": tuple(dict.fromkeys((*self.axes, *before.axes))),
                "variants": (*self.variants, *(variant for variant in before.variants if variant.name in names)),
                "runs": (*self.runs, *(run for run in kept if run.path not in paths)),
            }
        )


class SweepDirectory:
    """The directory of one sweep; nothing is made or read until a method is called.

    Args:
        path: the directory, which is also the root of its runs.
    """

    def __init__(self, path: Path):
        self.path = path

    @staticmethod
    def is_at(path: Path) -> bool:
        """Whether `path` is the directory of a sweep."""
        return os.path.isfile(path / SWEEP_FILE)  # noqa: PTH113 (pathlib's raises if a link has a long name)

    def read(self) -> SweepRecord:
        """The content of sweep.json.

        Raises:
            RunError: it cannot be read, is not as tiedexp writes it, or a newer tiedexp wrote it.
        """
        path = find_inside(self.path, SWEEP_FILE, _WHOSE)
        content = read_json(path, MAX_JSON_BYTES)
        found = content.get("format") if isinstance(content, dict) else None
        if isinstance(found, int) and found > SWEEP_FORMAT:
            raise RunError(f"{path} was written by a newer tiedexp (format {found}; this one knows {SWEEP_FORMAT})")
        return check_record(SweepRecord, content, path)

    def write(self, record: SweepRecord, text: str, *, keep: bool = False) -> None:
        """Write sweep.json and sweep.yaml.

        Args:
            record: the plan.
            text: the text of the sweep's file.
            keep: whether the runs of the earlier plan stay planned, too.
        """
        if keep:
            with suppress(RunError):  # there is no readable plan
                record = record.join(self.read())
        self.path.mkdir(parents=True, exist_ok=True)
        write_text(self.path / "sweep.yaml", text)
        write_text(self.path / SWEEP_FILE, json.dumps(record.model_dump(mode="json"), indent=2) + "\n")

    def run(self, planned: PlannedRun) -> RunDirectory:
        """The directory of one of its runs.

        Raises:
            RunError: a link leads out of the sweep, or nowhere.
        """
        return RunDirectory(find_inside(self.path, planned.path, _WHOSE))

    def runs(self) -> Iterator[tuple[PlannedRun, RunDirectory]]:
        """Its planned runs, whether they exist on disk or not."""
        for planned in self.read().runs:
            yield planned, self.run(planned)
