"""TensorBoard, started in this process with the parts that show what a run writes."""

from __future__ import annotations

import io
import sys
from contextlib import redirect_stderr
from pathlib import Path
from types import ModuleType
from typing import Any

from tiedexp.errors import RunError


def launch_tensorboard(folder: Path, host: str, port: int | None, reload_seconds: float) -> str:
    """Start TensorBoard in a thread of this process.

    Args:
        folder: where it looks for runs.
        host: the address to listen on.
        port: 0 for any free one, None for 6006 or the next free one.
        reload_seconds: between two looks at the folder.

    Returns:
        Its URL.

    Raises:
        RunError: it does not start.
    """
    # TensorBoard's own switch for a build without TensorFlow: it needs none, and would load it on some requests.
    sys.modules.setdefault("tensorboard.compat.notf", ModuleType("tensorboard.compat.notf"))
    from tensorboard import program

    tensorboard = program.TensorBoard(plugins=_load_plugins())
    tensorboard.configure(logdir=str(folder), host=host, port=port, reload_interval=reload_seconds)
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
