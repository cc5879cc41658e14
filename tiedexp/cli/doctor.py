"""`tiedexp doctor`: checks the installation."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from tiedexp.cli.options import DataDir, RunsRoot

if TYPE_CHECKING:
    from tiedexp.cli.console import Console


def doctor(data_dir: DataDir = None, runs: RunsRoot = None) -> None:
    """Check versions, devices, data and the directory of runs.

    The exit code is 1 if there is a problem.
    """
    from rich.markup import escape

    from tiedexp.backend import quiet_tensorflow
    from tiedexp.cli.console import Console
    from tiedexp.errors import TiedexpError

    console = Console(highlight=False)
    problems = _check_versions(console)
    if not problems:
        try:
            with quiet_tensorflow():
                problems += _check_devices(console)
            problems += _check_layer(console)
        except TiedexpError as error:
            problems.append(str(error))
    problems += _check_data(console, data_dir)
    problems += _check_runs(console, runs)
    if not problems:
        console.print("[green]No problems found.[/]")
        return
    for problem in problems:
        console.print(f"[red]problem[/]  {escape(problem)}", soft_wrap=True)
    raise typer.Exit(1)


def _check_versions(console: Console) -> list[str]:
    import platform
    from importlib.metadata import PackageNotFoundError, requires

    from packaging.requirements import Requirement
    from rich.table import Table

    from tiedexp.installed import find_version_of

    table = Table.grid(padding=(0, 2))
    table.add_row("python", platform.python_version())
    problems = []
    try:
        required = requires("tiedexp") or []
    except PackageNotFoundError:
        required = []  # `tiedexp` itself is then reported as not installed
    for text in ["tiedexp", *required]:
        requirement = Requirement(text)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            found = find_version_of(requirement.name)
        except PackageNotFoundError:
            problems.append(f"{requirement.name} is not installed: pip install '{requirement}'")
            continue
        table.add_row(requirement.name, found)
        if not requirement.specifier.contains(found, prereleases=True):
            problems.append(
                f"{requirement.name} {found} is installed, but {requirement.specifier} is needed: "
                f"pip install '{requirement}'"
            )
    console.print(table)
    return problems


def _check_devices(console: Console) -> list[str]:
    import os
    from shutil import which

    import tensorflow as tf

    from tiedexp.host import count_cores, find_processor

    gpus = tf.config.list_physical_devices("GPU")
    names = [tf.config.experimental.get_device_details(gpu).get("device_name", "GPU") for gpu in gpus]
    console.print(f"\nprocessor  {find_processor()}, {count_cores()} threads", markup=False)
    console.print(f"GPUs       {', '.join(names) or 'none'}", markup=False)
    problems = []
    if which("nvidia-smi") and not gpus:
        problems.append("an NVIDIA driver is installed, but TensorFlow finds no GPU: pip install 'tiedexp[gpu]'")
    if "TF_CONFIG" in os.environ:
        problems.append("TF_CONFIG is set, but training across several machines is not supported: unset TF_CONFIG")
    return problems


def _check_layer(console: Console) -> list[str]:
    """Compare tied layers, which rely on internals of Keras, with the standard layer that gives the same outputs."""
    import keras
    import numpy as np

    from tiedexp.convolution.cpp.library import find_obstacle
    from tiedexp.layers.tied_conv import TiedConv2D

    obstacle = find_obstacle()
    console.print(
        f"compiled   {f'nothing: {obstacle}' if obstacle else 'the tied convolution'}", markup=False, soft_wrap=True
    )
    images = np.linspace(-1.0, 1.0, 2 * 8 * 8 * 3, dtype="float32").reshape(2, 8, 8, 3)
    difference = 0.0
    for implementation in ("expand", "factored"):
        layer = TiedConv2D(4, "block", kernel_size=5, padding="same", implementation=implementation)
        tied = keras.ops.convert_to_numpy(layer(images))
        dense = keras.ops.convert_to_numpy(layer.to_conv2d()(images))
        difference = max(difference, float(np.abs(tied - dense).max()))
    console.print(f"accuracy   a tied layer and the standard one differ by {difference:.1e}")
    return [] if difference < 1e-5 else [f"a tied layer differs from the standard one by {difference:.1e}"]


def _check_data(console: Console, data_dir: Path | None) -> list[str]:
    import os

    from tiedexp.data.sources import find_data_dir, list_prepared

    directory = find_data_dir(data_dir)
    prepared = ", ".join(list_prepared(directory)) or "nothing prepared"
    console.print(f"\ndata       digits (embedded); in {directory}: {prepared}", markup=False, soft_wrap=True)
    chosen = "--data-dir" if data_dir else "$TFDS_DATA_DIR" if os.environ.get("TFDS_DATA_DIR") else None
    if not directory.is_dir():
        # The default directory of TFDS may not exist yet.
        return [f"{chosen} is {directory}, which is not a directory"] if chosen else []
    return [] if os.access(directory, os.R_OK | os.X_OK) else [f"the data directory {directory} cannot be read"]


def _check_runs(console: Console, runs: Path | None) -> list[str]:
    import os

    from tiedexp.runs.directory import find_runs_root

    root = find_runs_root(runs)
    console.print(f"runs       {root}{'' if root.is_dir() else ' (does not exist yet)'}", markup=False, soft_wrap=True)
    existing = next(path for path in [root.absolute(), *root.absolute().parents] if path.exists())
    return [] if os.access(existing, os.W_OK) else [f"runs cannot be written: {existing} is not writable"]
