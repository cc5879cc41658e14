"""`tiedexp extend`: trains a finished run for longer."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from tiedexp.cli.options import AllowInexact, Json, Quiet, RunDataDir, RunPath, RunsRoot


def extend(
    run: RunPath,
    epochs: Annotated[int, typer.Option(min=1, help="The epochs of the new run, including those of the old one.")],
    runs: RunsRoot = None,
    data_dir: RunDataDir = None,
    allow_inexact: AllowInexact = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Train a finished run for more epochs, as a new run.

    The new run names the finished one as its parent. With a constant, step or exponential schedule it is the same, to
    the bit, as training for this many epochs from scratch. A cosine schedule depends on the number of epochs, so with
    one the new run is different, and has a different name.
    """
    from tiedexp.backend import quiet_tensorflow
    from tiedexp.signals import stop_on_signals

    with stop_on_signals() as should_stop:
        from tiedexp.cli.train_view import choose_view
        from tiedexp.runs.directory import RunDirectory

        directory = RunDirectory.open(run)
        with quiet_tensorflow(), choose_view(as_json=json, quiet=quiet) as view:
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
        text = f"this is the same as training {epochs} epochs from scratch: its schedule does not depend on the epochs"
    else:
        text = (
            f"this differs from training {epochs} epochs from scratch: "
            f"up to epoch {parent.epochs} it followed a cosine of {parent.epochs} epochs"
        )
    print(text, file=sys.stderr)
