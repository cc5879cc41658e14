"""`tiedexp board`: TensorBoard on some runs, or on all of them."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer

REFRESH_SECONDS = 5.0


def board(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[RUNS]...", help="Run directories, or directories of runs. [default: all runs]"),
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

        tiedexp board                            every run
        tiedexp board runs/mnist-block-*         all seeds of some experiments
    """
    from tiedexp.runs.directory import find_runs_root

    endings = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    for ending in endings[1:]:  # as Ctrl-C, so that nothing stays behind
        signal.signal(ending, signal.default_int_handler)
    with TemporaryDirectory(prefix="tiedexp-board-") as folder:
        try:
            _serve(paths or [find_runs_root(root)], Path(folder), host, port, open_browser)
        except KeyboardInterrupt:
            for ending in endings:  # a second Ctrl-C must not stop the removal of the folder
                signal.signal(ending, signal.SIG_IGN)
    typer.echo("\nTensorBoard has ended.")


def _serve(paths: list[Path], folder: Path, host: str, port: int | None, open_browser: bool) -> None:
    """Show the runs under `paths` by links in `folder`; returns only by an exception."""
    linked: dict[Path, str] = {}
    for path in paths:
        _link_runs(path, folder, linked)
    url = _launch_tensorboard(folder, host, port)
    typer.echo(f"TensorBoard of {len(linked)} run{'s' * (len(linked) != 1)} at {url} (Ctrl-C ends it)")
    if open_browser:
        typer.launch(url)
    while True:
        time.sleep(REFRESH_SECONDS)
        for path in filter(Path.is_dir, paths):
            _link_runs(path, folder, linked, required=False)


def _launch_tensorboard(folder: Path, host: str, port: int | None) -> str:
    """Start TensorBoard in a thread of this process and return its URL."""
    import io
    import sys
    from contextlib import redirect_stderr
    from types import ModuleType

    # TensorBoard's own switch for a build without TensorFlow: it needs none, and would load it on some requests.
    sys.modules.setdefault("tensorboard.compat.notf", ModuleType("tensorboard.compat.notf"))
    from tensorboard import program

    from tiedexp.errors import RunError

    tensorboard = program.TensorBoard(plugins=_load_plugins())
    tensorboard.configure(logdir=str(folder), host=host, port=port, reload_interval=REFRESH_SECONDS)
    try:
        with redirect_stderr(io.StringIO()):  # a note about flags that this command does not have
            url: str = tensorboard.launch()
    except program.TensorBoardServerException as error:
        raise RunError(f"TensorBoard does not start: {error.msg}") from error
    return url


def _load_plugins() -> list[Any]:
    """The parts of TensorBoard that show what a run writes; others open files that a log names, wherever they are."""
    from tensorboard.plugins.core.core_plugin import CorePluginLoader
    from tensorboard.plugins.custom_scalar.custom_scalars_plugin import CustomScalarsPlugin
    from tensorboard.plugins.distribution.distributions_plugin import DistributionsPlugin
    from tensorboard.plugins.histogram.histograms_plugin import HistogramsPlugin
    from tensorboard.plugins.hparams.hparams_plugin import HParamsPlugin
    from tensorboard.plugins.image.images_plugin import ImagesPlugin
    from tensorboard.plugins.metrics.metrics_plugin import MetricsPlugin
    from tensorboard.plugins.scalar.scalars_plugin import ScalarsPlugin
    from tensorboard.plugins.text.text_plugin import TextPlugin

    return [
        CorePluginLoader(include_debug_info=True),
        MetricsPlugin,
        ScalarsPlugin,
        CustomScalarsPlugin,
        ImagesPlugin,
        DistributionsPlugin,
        HistogramsPlugin,
        TextPlugin,
        HParamsPlugin,
    ]


def _link_runs(path: Path, folder: Path, linked: dict[Path, str], *, required: bool = True) -> None:
    """Link the log of each run at or below `path` into `folder`, as `<experiment>/<seed>`, if it is not yet there.

    Args:
        path: a run, or a directory of runs.
        folder: where the links are made.
        linked: the runs linked so far and their names, added to.
        required: whether it is an error that there is no run.

    Raises:
        RunError: `path` is absent, holds no run, or has a link that leads out of it.
    """
    from tiedexp.errors import RunError
    from tiedexp.runs.directory import RunDirectory

    if not path.is_dir():
        raise RunError(f"{path} is no directory of runs" + ("" if path.exists() else ": it does not exist"))
    found = False
    for run in _find_runs(path.resolve()):
        found = True
        if run in linked:
            continue
        log = RunDirectory(run).tensorboard
        for _ in _walk(log):
            pass
        name = "/".join(run.parts[-2:])
        if name in linked.values():
            name += f" ({len(linked)})"
        link = folder / name
        link.parent.mkdir(exist_ok=True)
        link.symlink_to(log, target_is_directory=True)
        linked[run] = name
    if required and not found:
        raise RunError(f"{path} holds no run with a TensorBoard log (a directory such as mnist-block-1a2b3c/seed-0)")


def _find_runs(top: Path) -> Iterator[Path]:
    """The directories at or below `top` that hold a TensorBoard log."""
    for directory, below in _walk(top):
        if (directory / "tensorboard").is_dir():
            below.clear()
            yield directory


def _walk(top: Path) -> Iterator[tuple[Path, list[str]]]:
    """Each directory at or below `top`, and the names of those below it, which the caller may remove.

    Raises:
        RunError: a link leads out of `top`.
    """
    from tiedexp.errors import RunError

    for name, below, files in os.walk(top):
        for entry in (Path(name, entry) for entry in below + files):
            if entry.is_symlink() and not entry.resolve().is_relative_to(top):
                raise RunError(f"{entry} is a link that leads out of {top}; it is not followed")
        below.sort()
        yield Path(name), below
