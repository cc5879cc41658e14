"""`tiedexp extend`: a finished run trained for longer."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from tiedexp.cli.options import AllowInexact, Json, Quiet, RunDataDir, RunPath, RunsRoot


def extend(
    run: RunPath,
    epochs: Annotated[int, typer.Option(min=1, help="Of the new run, those of the old one included.")],
    runs: RunsRoot = None,
    data_dir: RunDataDir = None,
    allow_inexact: AllowInexact = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Train a finished run for more epochs, as a new run.

    The new run names the finished one as its parent. With a constant, step or exponential schedule it is, to the bit,
    the one that asked for so many epochs at first. A cosine depends on the number of epochs, so then it is not, and has
    another name.
    """
    from tiedexp.backend import quiet_tensorflow
    from tiedexp.signals import stop_on_signals

    with stop_on_signals() as should_stop:
        from tiedexp.cli.train_view import JsonView, ResultView, TrainView
        from tiedexp.runs.directory import RunDirectory

        directory = RunDirectory.open(run)
        with quiet_tensorflow(), JsonView() if json else ResultView() if quiet else TrainView() as view:
            from tiedexp.experiment.extend import extend_run

            extended = extend_run(
                directory,
                epochs,
                root=runs,
                data_dir=data_dir,
                allow_inexact=allow_inexact,
                should_stop=should_stop,
                observer=view,
            )
    parent = extended.read_manifest().parent
    if parent is None or parent.same_as_from_start:
        text = f"this is the run that asks for {epochs} epochs at first: its schedule does not depend on them"
    else:
        text = (
            f"this is not the run that asks for {epochs} epochs at first: "
            f"its cosine was one of {parent.epochs} epochs up to there"
        )
    print(text, file=sys.stderr)
