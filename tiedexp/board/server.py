"""Starting TensorBoard in this process, with only the plugins that show what a run writes."""

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
        folder: the folder of the runs to show.
        host: the address to listen on.
        port: the port; 0 is any free one, and None is 6006 or the next free one.
        reload_seconds: seconds between two scans of the folder.

    Returns:
        Its URL.

    Raises:
        RunError: it does not start.
    """
    # TensorBoard's own switch to run without TensorFlow, which it does not need but would load on some requests.
    sys.modules.setdefault("tensorboard.compat.notf", ModuleType("tensorboard.compat.notf"))
    from tensorboard import program

    def make_server(app: Any, flags: Any) -> Any:
        return program.create_port_scanning_werkzeug_server(HostCheck(app, host), flags)

    tensorboard = program.TensorBoard(plugins=_load_plugins(), server_class=make_server)
    tensorboard.configure(logdir=str(folder), host=host, port=port, reload_interval=reload_seconds)
    try:
        with redirect_stderr(io.StringIO()):  # it mentions flags that this command does not have
            url: str = tensorboard.launch()
    except program.TensorBoardServerException as error:
        raise RunError(f"TensorBoard does not start: {error.msg}") from error
    return url


class HostCheck:
    """A WSGI application that only answers requests for the names of this machine.

    Another site can make its own name point to this machine, so that its pages can read what is served here (DNS
    rebinding). Their requests still contain that name.

    Args:
        app: the application.
        host: the address that the server listens on.
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
        return [b"tiedexp board only answers requests for localhost or for the address given by --host\n"]

    def allows(self, header: str) -> bool:
        """Whether a Host header, `name` or `name:port`, names this machine. Addresses cannot be rebound."""
        name = header.partition("]")[0][1:] if header.startswith("[") else header.partition(":")[0]
        is_here = name.lower() in self._names or _is_address(name, "is_loopback")
        return is_here or (self._is_open and _is_address(name, "version"))


def _is_address(text: str, kind: str) -> bool:
    """Whether a text is an IP address of this kind."""
    try:
        return bool(getattr(ipaddress.ip_address(text.strip("[]")), kind))
    except ValueError:
        return False


def _load_plugins() -> list[Any]:
    """The plugins that show what a run writes. Others would open any file that a log names, wherever it is."""
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
