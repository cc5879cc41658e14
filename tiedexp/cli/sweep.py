"""`tiedexp sweep`: runs many experiments and seeds from one file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from tiedexp.cli.options import AllowInexact, DataDir, Json, Quiet, RunsRoot
from tiedexp.cli.printing import format_count, print_json, warn

if TYPE_CHECKING:
    from tiedexp.sweep.ledger import Results
    from tiedexp.sweep.planning import SweepPlan, SweepRun


def sweep(
    file: Annotated[Path, typer.Argument(metavar="SWEEP", help="The sweep, a YAML file.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="KEY=VALUE", help="Changes to the sweep, e.g. seeds=5, or to its base, e.g. training.epochs=3."
        ),
    ] = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="List the runs with their state, time and disk space; run nothing.")
    ] = False,
    jobs: Annotated[
        int | None,
        typer.Option(
            min=1, help="How many runs at a time; they share the cores. [default: one per GPU, or else per core]"
        ),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(help="Run only these: a variant, a label or a path, e.g. 'block-*/seed-0'. May be repeated."),
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Start all runs over, including finished ones.")] = False,
    retry: Annotated[int, typer.Option(min=0, help="How many more times to try a run that fails.")] = 0,
    fail_fast: Annotated[bool, typer.Option("--fail-fast", help="Stop all runs as soon as one fails.")] = False,
    executor: Annotated[
        Literal["local", "ray"], typer.Option(help="Where to run: on this machine, or on a Ray cluster.")
    ] = "local",
    address: Annotated[
        str, typer.Option(help="ray: the address of the cluster. [default: $RAY_ADDRESS, or a new one on this machine]")
    ] = "",
    num_cpus: Annotated[float, typer.Option(min=0, help="ray: CPUs per run; a run uses as many threads.")] = 1.0,
    num_gpus: Annotated[float, typer.Option(min=0, help="ray: GPUs per run.")] = 0.0,
    runs: RunsRoot = None,
    data_dir: DataDir = None,
    allow_inexact: AllowInexact = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Run every variant of an experiment with every seed.

    Finished runs are not run again, interrupted runs resume, and failed runs are tried again. So after any
    interruption, the same command completes the sweep. After Ctrl-C each run finishes its step and writes a checkpoint.

    \b
    tiedexp sweep sweep.yaml --plan          what would run, and how long it would take
    tiedexp sweep sweep.yaml seeds=5         with more seeds than in the file
    tiedexp compare runs/NAME                the results
    """
    from tiedexp.signals import stop_on_signals

    with stop_on_signals() as should_stop:
        from tiedexp.backend import require_tensorflow
        from tiedexp.cli.sweep_view import LineView, LiveView, View, show_plan
        from tiedexp.runs.directory import find_runs_root
        from tiedexp.sweep.estimate import check_disk, estimate_runs, measure_step_with
        from tiedexp.sweep.planning import plan_sweep
        from tiedexp.sweep.variants import load_sweep
        from tiedexp.sweep.worker import Task

        root = find_runs_root(runs)
        wanted = load_sweep(file, overrides or [])
        planned = plan_sweep(wanted, root, data_dir=data_dir, measure_step=measure_step_with(data_dir))
        chosen = planned.select(only or [])
        if plan:
            show_plan(planned, chosen, estimate_runs(planned, chosen, data_dir, jobs), as_json=json)
            return
        require_tensorflow()
        todo = _find_todo(chosen, data_dir, fresh=fresh)
        check_disk(planned, todo, data_dir)
        task = Task(wanted.variants[0].spec, planned.directory.path, data_dir, fresh=fresh, allow_inexact=allow_inexact)
        with View() if quiet or json else LiveView() if LiveView.is_possible() else LineView() as view:
            options: dict[str, Any] = {"retries": retry, "fail_fast": fail_fast, "observer": view}
            if executor == "ray":
                from tiedexp.sweep.ray import RayExecutor

                results = RayExecutor(address, task, num_cpus=num_cpus, num_gpus=num_gpus, **options).run(
                    planned, todo, should_stop
                )
            else:
                from tiedexp.sweep.local import LocalExecutor

                results = LocalExecutor(jobs, task, **options).run(planned, todo, should_stop)
        if not results.interrupted and not results.failed:
            planned.end()
    _conclude(planned, chosen, results, json=json)


def _find_todo(chosen: tuple[SweepRun, ...], data_dir: Path | None, *, fresh: bool) -> list[SweepRun]:
    """The runs that are not finished; raises RunError if the data of a finished one has changed."""
    from tiedexp.experiment.data_check import DataCheck

    check = DataCheck(data_dir, warn)
    todo = []
    for run in chosen:
        if fresh or not run.directory.finished:
            todo.append(run)
        else:
            check.check(run.directory, run.spec)
    return todo


def _conclude(planned: SweepPlan, chosen: tuple[SweepRun, ...], results: Results, *, json: bool) -> None:
    """Print a summary; raise an error if runs failed or the sweep was interrupted."""
    from shlex import quote

    path = planned.directory.path
    if json:
        states = {run.path: run.directory.state for run in chosen}
        print_json({"sweep": str(path), "runs": states, "failed": results.failed})
    else:
        before = sum(run.directory.finished for run in chosen) - len(results.finished)
        counts = [f"{len(results.finished)} done", *([f"{before} done before"] if before else [])]
        counts += [f"{len(results.failed)} failed"] if results.failed else []
        print(f"\n{format_count(len(chosen), 'run')} of {planned.sweep.name}: {', '.join(counts)}")
        print(f"compare    tiedexp compare {quote(str(path))}\ncurves     tiedexp board {quote(str(path))}")
    if results.interrupted:
        from tiedexp.errors import RunInterruptedError

        raise RunInterruptedError("interrupted; the same command continues with the remaining runs")
    if results.failed:
        from tiedexp.errors import RunError

        shown = [f"{path}: {message}" for path, message in results.failed.items()]
        raise RunError(
            "\n".join(
                [f"{len(shown)} of {format_count(len(chosen), 'run')} failed; the same command tries again", *shown]
            )
        )
