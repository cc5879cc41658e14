"""`tiedexp train`: a spec in, a trained and tested run out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def train(
    spec: Annotated[Path, typer.Argument(help="The spec, a YAML file.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Changes to it, as training.epochs=3.")
    ] = None,
    runs: Annotated[Path | None, typer.Option(help="Directory of all runs (default: $TIEDEXP_RUNS or ./runs)")] = None,
    data_dir: Annotated[
        Path | None, typer.Option(help="TFDS data directory (default: $TFDS_DATA_DIR or ~/tensorflow_datasets)")
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Start over, even if the run is finished or half done.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print the result only.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the result as one JSON document, nothing else.")] = False,
) -> None:
    """Train and test the model of a spec.

    Everything is kept in a run directory. The same spec and seed always have the same one: a finished run is not run
    again, one that was cut off goes on where it was.
    """
    from tiedexp.cli.process import interruptible, quiet_tensorflow
    from tiedexp.cli.train_view import JsonView, ResultView, TrainView
    from tiedexp.experiment.plan import locate_run, training_source
    from tiedexp.runs.directory import find_runs_root
    from tiedexp.spec.loading import load_spec

    experiment = load_spec(spec, overrides or [])
    root = find_runs_root(runs)
    view = JsonView() if json else ResultView() if quiet else TrainView()
    run = locate_run(experiment, root)
    if run.finished and not fresh:
        view.finished(run, run.read_json("result.json"))
        return
    training_source(experiment, data_dir).check()
    with interruptible(), quiet_tensorflow(), view:
        from tiedexp.experiment.run import run_experiment

        run_experiment(experiment, root=root, data_dir=data_dir, fresh=fresh, observer=view)
