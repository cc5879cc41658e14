"""`tiedexp reproduce`: repeats a run, and compares the results to the bit."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from tiedexp.cli.options import Json, Quiet, RunDataDir, RunPath, RunsRoot
from tiedexp.cli.printing import print_json

if TYPE_CHECKING:
    from tiedexp.experiment.reproduce import Reproduction

MAX_SHOWN = 20


def reproduce(
    run: RunPath,
    runs: RunsRoot = None,
    data_dir: RunDataDir = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Repeat a finished run and compare the two to the bit.

    All metrics and weights are compared. The new run is written to `reproduced` in the directory of all runs. If
    anything differs, the exit code is 1, and the differences in versions and machine are listed, too.
    """
    from tiedexp.backend import quiet_tensorflow
    from tiedexp.cli.train_view import TrainView, View
    from tiedexp.runs.directory import RunDirectory
    from tiedexp.signals import stop_on_signals

    directory = RunDirectory.open(run)
    with stop_on_signals() as should_stop, quiet_tensorflow(), View() if json or quiet else TrainView() as view:
        from tiedexp.experiment.reproduce import reproduce_run

        found = reproduce_run(directory, root=runs, data_dir=data_dir, should_stop=should_stop, observer=view)
    if json:
        print_json(_as_dict(found, run))
    else:
        _show(found, run)
    if found.differences:
        raise typer.Exit(1)


def _as_dict(found: Reproduction, run: Path) -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "run": str(run),
        "again": str(found.run.path),
        "identical": not found.differences,
        "metrics": found.metrics,
        "weights": found.weights,
        "differences": [asdict(difference) for difference in found.differences],
        "machine": found.machine,
    }


def _show(found: Reproduction, run: Path) -> None:
    print(f"\n{run} and {found.run.path}:")
    compared = f"{found.metrics} metrics and {found.weights} arrays of weights compared"
    if not found.differences:
        print(f"identical to the bit: {compared}")
        return
    print(f"DIFFERENT: {compared}, {len(found.differences)} differ")
    for difference in found.differences[:MAX_SHOWN]:
        largest = "" if difference.largest is None else f", by at most {difference.largest:.3g}"
        print(f"  {difference.name}: {difference.count} of {difference.total} differ{largest}")
    if len(found.differences) > MAX_SHOWN:
        print(f"  and {len(found.differences) - MAX_SHOWN} more; --json lists all")
    for text in found.machine:
        print(f"made with {text}")
    if not found.machine:
        print("the manifests have the same versions and machine")
