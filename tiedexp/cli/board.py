"""`tiedexp board`: some runs, or all of them, in TensorBoard."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

REFRESH_SECONDS = 5.0


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
    host: Annotated[str, typer.Option(help="The address to listen on; 0.0.0.0 admits other machines.")] = "localhost",
    open_browser: Annotated[bool, typer.Option("--open/--no-open", help="Also open the page in a browser.")] = False,
) -> None:
    """Show just these runs in TensorBoard, until Ctrl-C.

    Runs that start later in a directory given here appear by themselves. Runs that `tiedexp reproduce` made are shown
    only if their directory (`reproduced`) is named.

    The runs of a sweep are named by what differs and their seed (`block d4 s0`). Where a variant has several seeds,
    `block d4 mean`, `mean-std` and `mean+std` are the mean over them, and one standard deviation below and above it.
    Custom Scalars, which opens first, draws the means with their deviations. The HParams tab has one row per run, with
    the hyperparameters that differ.

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
            f"a sweep is shown alone; to show {sweeps[0]} beside others, name its runs: {sweeps[0]}/*"
        )
    shown = _show_sweep(sweeps[0], folder) if sweeps else _show_runs(paths, folder)
    address = shown.find_address(launch_tensorboard(folder, host, port, REFRESH_SECONDS))
    typer.echo(f"TensorBoard of {shown.what} (Ctrl-C ends it): {address}")
    if "regexInput" in address:
        typer.echo(f"Images and Text begin with {shown.first}; for others, clear the filter of runs and tick them.")
    if open_browser:
        typer.launch(address)
    while True:
        time.sleep(REFRESH_SECONDS)
        shown.refresh()


@dataclass(frozen=True)
class _Shown:
    """What TensorBoard shows.

    Args:
        what: in words.
        find_address: the page to begin with, by the URL of TensorBoard.
        refresh: brings the folder up to date with runs that go on, or start later.
        first: which runs the pages begin with that cannot show all.
    """

    what: str
    find_address: Callable[[str], str]
    refresh: Callable[[], None]
    first: str


def _show_runs(paths: list[Path], folder: Path) -> _Shown:
    """Link the runs under `paths`."""
    from tiedexp.board.addresses import address_of_runs
    from tiedexp.board.links import link_runs

    linked: dict[Path, str] = {}
    for path in paths:
        link_runs(path, folder, linked)

    def refresh() -> None:
        for path in filter(Path.is_dir, paths):
            link_runs(path, folder, linked, required=False)

    names = list(linked.values())

    def find_address(url: str) -> str:
        return address_of_runs(url, folder, names)

    return _Shown(_count(len(linked), "run"), find_address, refresh, "the first runs")


def _show_sweep(path: Path, folder: Path) -> _Shown:
    """Show a sweep."""
    from tiedexp.board.addresses import address_of_sweep
    from tiedexp.board.sweep_board import SweepBoard
    from tiedexp.runs.sweeps import SweepDirectory

    board = SweepBoard(SweepDirectory(path), folder)
    board.update(strict=True)
    seed, has_means = board.seeds[0], len(board.seeds) > 1

    def find_address(url: str) -> str:
        return address_of_sweep(url, folder, board.variants, seed, has_means=has_means)

    what = f"the sweep {path.resolve().name}, {_count(board.shown, 'run')} of {board.planned}"
    return _Shown(what, find_address, board.update, f"seed {seed}")


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"
