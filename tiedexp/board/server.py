"""TensorBoard, started in this process with the parts that show what a run writes."""

from __future__ import annotations

import io
import ipaddress
import socket
import sys
from collections.abc import Iterable
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

    def make_server(app: Any, flags: Any) -> Any:
        return program.create_port_scanning_werkzeug_server(HostCheck(app, host), flags)

    tensorboard = program.TensorBoard(plugins=_load_plugins(), server_class=make_server)
    tensorboard.configure(logdir=str(folder), host=host, port=port, reload_interval=reload_seconds)
    try:
        with redirect_stderr(io.StringIO()):  # a note about flags that this command does not have
            url: str = tensorboard.launch()
    except program.TensorBoardServerException as error:
        raise RunError(f"TensorBoard does not start: {error.msg}") from error
    return url


class HostCheck:
    """A WSGI application that answers only to the names by which this machine is known.

    A page of another site can have its own name point to this machine, and then read what is served here as if it were
    its own (DNS rebinding). Its requests still carry that name.

    Args:
        app: the application.
        host: the address that it listens on.
    """

    def __init__(self, app: Any, host: str):
        self._app = app
        self._names = {"localhost", host.strip("[]").lower()}
        self._is_open = _is_address(host, "is_unspecified")
        if self._is_open:
            self._names |= {name.lower() for name in (socket.gethostname(), socket.getfqdn())}

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Pass the request on, or refuse it."""
        if self.allows(environ.get("HTTP_HOST", "")):
            answer: Iterable[bytes] = self._app(environ, start_response)
            return answer
        start_response("403 Forbidden", [("Content-Type", "text/plain; charset=utf-8")])
        return [b"tiedexp board answers to localhost and to what --host says\n"]

    def allows(self, header: str) -> bool:
        """Whether a Host header, `name` or `name:port`, names this machine; an address is no name to be rebound."""
        name = header.partition("]")[0][1:] if header.startswith("[") else header.partition(":")[0]
        is_here = name.lower() in self._names or _is_address(name, "is_loopback")
        return is_here or (self._is_open and _is_address(name, "version"))


def _is_address(text: str, kind: str) -> bool:
    """Whether it is an IP address, of this kind."""
    try:
        return bool(getattr(ipaddress.ip_address(text.strip("[]")), kind))
    except ValueError:
        return False


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
