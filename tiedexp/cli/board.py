"""`tiedexp board`: TensorBoard on some runs, or on all of them."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

REFRESH_SECONDS = 5.0
MEANS_PAGE = "#custom_scalars&regexInput=mean%24"  # only of up to 40 runs that fit does TensorBoard show all at first


def board(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[RUNS]...", help="Run directories, directories of runs, or one sweep. [default: all runs]"
        ),
    ] = None,
    root: Annotated[
        Path | None, typer.Option("--runs", help="The directory of all runs. [default: $TIEDEXP_RUNS or ./runs]")
    ] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="0 takes any free port. [default: 6006 or the next free one]")
    ] = None,
    host: Annotated[str, typer.Option(help="The address to listen on; 0.0.0.0 lets other machines in.")] = "localhost",
    open_browser: Annotated[bool, typer.Option("--open/--no-open", help="Open the page in a browser too.")] = False,
) -> None:
    """Open TensorBoard on just these runs, until Ctrl-C.

    Runs that start later in a directory given here appear by themselves.

    Of a sweep, runs are named by what differs and their seed (`block d4 s0`). Where a variant has two seeds or more,
    `block d4 mean`, `mean-std` and `mean+std` are the mean over them and a standard deviation below and above it. The
    HParams tab has a row a run and the hyperparameters that differ; Custom Scalars draws the means with their margins.

    \b
    tiedexp board                            every run
    tiedexp board runs/mnist-block-*         all seeds of some experiments
    tiedexp board runs/patterns-on-mnist     a sweep
    """
    from tiedexp.runs.directory import find_runs_root

    endings = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    for ending in endings:  # all as Ctrl-C, so that nothing stays behind
        signal.signal(ending, signal.default_int_handler)
    with TemporaryDirectory(prefix="tiedexp-board-") as folder:
        try:
            _serve(paths or [find_runs_root(root)], Path(folder), host, port, open_browser)
        except KeyboardInterrupt:
            for ending in endings:  # a second Ctrl-C must not stop the removal of the folder
                signal.signal(ending, signal.SIG_IGN)
    typer.echo("\nTensorBoard has ended.")


def _serve(paths: list[Path], folder: Path, host: str, port: int | None, open_browser: bool) -> None:
    """Show the runs under `paths` in `folder`; returns only by an exception."""
    from tiedexp.board.server import launch_tensorboard
    from tiedexp.runs.sweeps import SweepDirectory

    sweeps = [path for path in paths if SweepDirectory.is_at(path)]
    if sweeps and len(paths) > 1:
        raise typer.BadParameter(
            f"the sweep {sweeps[0]} is shown by itself; beside others, name its runs: {sweeps[0]}/*"
        )
    what, refresh = _show_sweep(sweeps[0], folder) if sweeps else _show_runs(paths, folder)
    url = launch_tensorboard(folder, host, port, REFRESH_SECONDS)
    typer.echo(f"TensorBoard of {what} at {url} (Ctrl-C ends it)")
    if sweeps:
        typer.echo(f"mean and standard deviation of each variant: {url}{MEANS_PAGE}")
    if open_browser:
        typer.launch(url)
    while True:
        time.sleep(REFRESH_SECONDS)
        refresh()


def _show_runs(paths: list[Path], folder: Path) -> tuple[str, Callable[[], None]]:
    """Link the runs under `paths`; gives what is shown, and what adds runs that start later."""
    from tiedexp.board.links import link_runs

    linked: dict[Path, str] = {}
    for path in paths:
        link_runs(path, folder, linked)

    def refresh() -> None:
        for path in filter(Path.is_dir, paths):
            link_runs(path, folder, linked, required=False)

    return _count(len(linked), "run"), refresh


def _show_sweep(path: Path, folder: Path) -> tuple[str, Callable[[], None]]:
    """Show a sweep; gives what is shown, and what brings it up to date."""
    from tiedexp.board.sweep import SweepBoard
    from tiedexp.runs.sweeps import SweepDirectory

    board = SweepBoard(SweepDirectory(path), folder)
    board.update(strict=True)
    return f"the sweep {path.resolve().name}, {_count(board.shown, 'run')} of {board.planned},", board.update


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"
