"""The command `tiedexp`, also `python -m tiedexp`. From the start, a signal ends it with exit code 130."""

from __future__ import annotations

import os
import signal
from types import FrameType
from typing import NoReturn


def main() -> None:
    """Run the command line."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    import tiedexp.cli  # takes a while

    tiedexp.cli.main()


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    os.write(2, b"interrupted\n")
    os._exit(130)  # an import that catches all exceptions could swallow one


if __name__ == "__main__":
    main()
