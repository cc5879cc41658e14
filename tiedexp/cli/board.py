"""`tiedexp board`: shows runs in TensorBoard."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from tiedexp.cli.options import RunPaths, RunsRoot
from tiedexp.cli.printing import format_count

REFRESH_SECONDS = 5.0


def board(
    paths: RunPaths = None,
    root: RunsRoot = None,
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="The port; 0 takes any free one. [default: 6006 or the next free one]"),
    ] = None,
    host: Annotated[
        str, typer.Option(help="The address to listen on; 0.0.0.0 lets other machines connect.")
    ] = "localhost",
    open_browser: Annotated[bool, typer.Option("--open/--no-open", help="Open the page in a browser.")] = False,
) -> None:
    """Show runs in TensorBoard until Ctrl-C.

    Only the given runs are shown; a sweep is shown alone. Runs that start later in a given directory appear by
    themselves. Runs made by `tiedexp reproduce` are shown only if their directory (`reproduced`) is named.

    The runs of a sweep are named after what differs and their seed, e.g. `block d4 s0`. If a variant has several
    seeds, `block d4 mean`, `mean-std` and `mean+std` are the mean over its seeds and one standard deviation below and
    above it. Custom Scalars, the tab that opens first, plots the means with their deviations. The HParams tab has one
    row per run, with the hyperparameters that differ.

    \b
    tiedexp board                            all runs
    tiedexp board runs/mnist-block-*         all seeds of some experiments
    tiedexp board runs/patterns-on-mnist     a sweep
    """
    from tiedexp.runs.directory import find_runs_root

    endings = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    for ending in endings:  # each acts like Ctrl-C, so that no files are left behind
        signal.signal(ending, signal.default_int_handler)
    with TemporaryDirectory(prefix="tiedexp-board-") as folder:
        try:
            _serve(paths or [find_runs_root(root)], Path(folder), host, port, open_browser)
        except KeyboardInterrupt:
            for ending in endings:  # a second Ctrl-C must not keep the folder from being removed
                signal.signal(ending, signal.SIG_IGN)
    typer.echo("\nTensorBoard has stopped.")


def _serve(paths: list[Path], folder: Path, host: str, port: int | None, open_browser: bool) -> None:
    """Show the runs below `paths`, linked into `folder`, until an exception ends it."""
    from tiedexp.board.server import launch_tensorboard
    from tiedexp.runs.sweeps import SweepDirectory

    sweeps = [path for path in paths if SweepDirectory.is_at(path)]
    if sweeps and len(paths) > 1:
        raise typer.BadParameter(
            f"a sweep can only be shown alone; to show it beside other runs, name its runs: {sweeps[0]}/*"
        )
    shown = _show_sweep(sweeps[0], folder) if sweeps else _show_runs(paths, folder)
    address = shown.find_address(launch_tensorboard(folder, host, port, REFRESH_SECONDS))
    typer.echo(f"TensorBoard shows {shown.what} (stop it with Ctrl-C): {address}")
    if "regexInput" in address:
        typer.echo(f"Images and Text open with {shown.first}; to see others, clear the filter of runs and tick them.")
    if open_browser:
        typer.launch(address)
    while True:
        time.sleep(REFRESH_SECONDS)
        shown.refresh()


@dataclass(frozen=True)
class _Shown:
    """What TensorBoard shows.

    Args:
        what: a description.
        find_address: finds the page to open first, given the URL of TensorBoard.
        refresh: updates the folder with what active and new runs have written.
        first: the runs that a page opens with if it cannot show all.
    """

    what: str
    find_address: Callable[[str], str]
    refresh: Callable[[], None]
    first: str


def _show_runs(paths: list[Path], folder: Path) -> _Shown:
    """Link the runs below `paths` into `folder`."""
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

    return _Shown(format_count(len(linked), "run"), find_address, refresh, "the first runs")


def _show_sweep(path: Path, folder: Path) -> _Shown:
    """Write the board of a sweep into `folder`."""
    from tiedexp.board.addresses import address_of_sweep
    from tiedexp.board.sweep_board import SweepBoard
    from tiedexp.runs.sweeps import SweepDirectory

    board = SweepBoard(SweepDirectory(path), folder)
    board.update(strict=True)
    seed, has_means = board.seeds[0], len(board.seeds) > 1

    def find_address(url: str) -> str:
        return address_of_sweep(url, folder, board.variants, seed, has_means=has_means)

    what = f"the sweep {path.resolve().name}, {board.shown} of {format_count(board.planned, 'run')}"
    return _Shown(what, find_address, board.update, f"seed {seed}")
