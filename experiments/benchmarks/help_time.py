"""Wall time of `tiedexp --help` against a Python that imports typer and rich.console.

    python experiments/benchmarks/help_time.py

Both in turn, several times. Prints the medians and their ratio.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

ROUNDS = 15
COMMANDS = {
    "tiedexp --help": [str(Path(sys.executable).parent / "tiedexp"), "--help"],
    "import typer, rich.console": [sys.executable, "-c", "import typer, rich.console"],
}


def main() -> None:
    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(ROUNDS):
        for name, command in COMMANDS.items():
            begin = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            seconds[name].append(time.perf_counter() - begin)
    ours, theirs = (statistics.median(times) for times in seconds.values())
    print(f"tiedexp --help {ours:.3f} s, import of typer and rich.console {theirs:.3f} s, ratio {ours / theirs:.2f}")


if __name__ == "__main__":
    main()
