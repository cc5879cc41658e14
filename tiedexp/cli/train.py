"""`tiedexp train`: trains and tests the model of a spec."""

from __future__ import annotations

from typing import Annotated

import typer

from tiedexp.cli.options import AllowInexact, DataDir, Json, Overrides, Quiet, RunsRoot, SpecPath


def train(
    spec: SpecPath,
    overrides: Overrides = None,
    runs: RunsRoot = None,
    data_dir: DataDir = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Start over, even if the run is finished or partly done.")
    ] = False,
    allow_inexact: AllowInexact = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Train and test the model of a spec.

    Everything is written to a run directory, which is always the same for the same spec and seed. A finished run is
    not run again. An interrupted run resumes where it stopped, and gives the same bits as one without interruption.
    After Ctrl-C (or SIGTERM) the run finishes the step and writes a checkpoint; a second Ctrl-C stops it immediately.
    Before the first step, one Ctrl-C stops it immediately and nothing is left behind.
    """
    from tiedexp.backend import quiet_tensorflow
    from tiedexp.signals import stop_on_signals

    with stop_on_signals() as should_stop:
        from tiedexp.cli.train_view import choose_view
        from tiedexp.experiment.data_check import DataCheck
        from tiedexp.experiment.preparation import locate_run, training_source
        from tiedexp.runs.directory import find_runs_root
        from tiedexp.spec.loading import load_spec

        experiment = load_spec(spec, overrides or [])
        root = find_runs_root(runs)
        view = choose_view(as_json=json, quiet=quiet)
        run = locate_run(experiment, root)
        if run.finished and not fresh:
            DataCheck(data_dir, view.warned).check(run, experiment)
            view.finished(run, run.read_result())
            return
        training_source(experiment, data_dir).check()
        with quiet_tensorflow(), view:
            from tiedexp.experiment.run import run_experiment

            run_experiment(
                experiment,
                root=root,
                data_dir=data_dir,
                fresh=fresh,
                allow_inexact=allow_inexact,
                should_stop=should_stop,
                observer=view,
            )
