"""`tiedexp sweep`: many experiments and seeds from one file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from tiedexp.cli.options import AllowInexact, DataDir, Json, Quiet, RunsRoot

if TYPE_CHECKING:
    from tiedexp.sweep.ledger import Results
    from tiedexp.sweep.planning import SweepPlan, SweepRun


def sweep(
    file: Annotated[Path, typer.Argument(metavar="SWEEP", help="The sweep, a YAML file.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE]...", help="Changes to the sweep (seeds=5) or to its base (training.epochs=3)."
        ),
    ] = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="List the runs, how they stand, and time and disk to come; run nothing.")
    ] = False,
    jobs: Annotated[
        int | None,
        typer.Option(min=1, help="Runs at a time, among which the cores are divided. [default: one a GPU, or a core]"),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(help="Do these runs only: a variant, label or path such as 'block-*/seed-0'. May be repeated."),
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Start all of them over, finished ones too.")] = False,
    retry: Annotated[int, typer.Option(min=0, help="Further attempts of a run that failed.")] = 0,
    fail_fast: Annotated[bool, typer.Option("--fail-fast", help="Stop all runs once one has failed.")] = False,
    executor: Annotated[
        Literal["local", "ray"], typer.Option(help="Who runs them: this machine, or a Ray cluster.")
    ] = "local",
    address: Annotated[
        str, typer.Option(help="ray: the cluster's address. [default: $RAY_ADDRESS, or one on this machine]")
    ] = "",
    num_cpus: Annotated[float, typer.Option(min=0, help="ray: CPUs of a run, which are its threads too.")] = 1.0,
    num_gpus: Annotated[float, typer.Option(min=0, help="ray: GPUs of a run.")] = 0.0,
    runs: RunsRoot = None,
    data_dir: DataDir = None,
    allow_inexact: AllowInexact = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Run every variant of an experiment with every seed.

    What is finished is not run again, what was cut off goes on and what failed is tried anew, so the same command
    after any interruption completes the sweep. Ctrl-C lets each run finish its step and write a checkpoint.

    \b
    tiedexp sweep sweep.yaml --plan          what it would do, and how long it would take
    tiedexp sweep sweep.yaml seeds=5         more seeds than the file says
    tiedexp compare runs/NAME                what came of it
    """
    from tiedexp.signals import stop_on_signals

    with stop_on_signals() as should_stop:
        from tiedexp.backend import require_tensorflow
        from tiedexp.cli.sweep_view import LineView, LiveView, QuietView, show_plan
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
        with QuietView() if quiet or json else LiveView() if LiveView.is_possible() else LineView() as view:
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
    """The runs that are not finished; RunError if the data of those that are has changed."""
    from tiedexp.experiment.data_check import DataCheck

    check = DataCheck(data_dir, lambda text: print(f"warning: {text}", file=sys.stderr))
    todo = []
    for run in chosen:
        if fresh or not run.directory.finished:
            todo.append(run)
        else:
            check.check(run.directory, run.spec)
    return todo


def _conclude(planned: SweepPlan, chosen: tuple[SweepRun, ...], results: Results, *, json: bool) -> None:
    """Say what came of it, and end with the exit code for it."""
    from shlex import quote

    path = planned.directory.path
    if json:
        from json import dumps

        states = {run.path: run.directory.state for run in chosen}
        print(dumps({"sweep": str(path), "runs": states, "failed": results.failed}, indent=2))
    else:
        before = sum(run.directory.finished for run in chosen) - len(results.finished)
        counts = [f"{len(results.finished)} done", *([f"{before} done before"] if before else [])]
        counts += [f"{len(results.failed)} failed"] if results.failed else []
        print(f"\n{len(chosen)} runs of {planned.sweep.name}: {', '.join(counts)}")
        print(f"compare    tiedexp compare {quote(str(path))}\nlook at it tiedexp board {quote(str(path))}")
    if results.interrupted:
        from tiedexp.errors import RunInterruptedError

        raise RunInterruptedError("interrupted; the same command goes on with what is left")
    if results.failed:
        from tiedexp.errors import RunError

        shown = [f"{path}: {message}" for path, message in results.failed.items()]
        raise RunError(
            "\n".join([f"{len(shown)} of {len(chosen)} runs failed; the same command tries them anew", *shown])
        )
