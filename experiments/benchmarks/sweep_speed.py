"""How many times as fast a sweep is as a shell loop over `tiedexp train`.

    python experiments/benchmarks/sweep_speed.py

24 runs of three epochs on the embedded digits: eight patterns, three seeds. The sweep is run before and after the loop,
so that a machine that is busy for a while slows both.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

PATTERNS = ("full", "block", "mirror_h", "point", "rot90", "d4", "rings", "row")
SEEDS = (0, 1, 2)
SPEC = """\
name: base
dataset: {name: digits}
model: {depth: 2, width: 8, kernel_size: 5, tying: {pattern: full}}
training: {epochs: 3, batch_size: 64}
"""
SWEEP = f"""\
name: speed
base: base.yaml
grid: {{model.tying.pattern: [{", ".join(PATTERNS)}]}}
seeds: {len(SEEDS)}
"""
COMMAND = [sys.executable, "-c", "from tiedexp.cli import main; main()"]


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "base.yaml").write_text(SPEC)
        (folder / "sweep.yaml").write_text(SWEEP)
        first = run_sweep(folder, "first")
        loop = run_loop(folder)
        second = run_sweep(folder, "second")
    sweep = (first + second) / 2
    print(
        f"{len(PATTERNS) * len(SEEDS)} runs: loop {loop:.1f} s, sweep {first:.1f} s before and {second:.1f} s after it"
    )
    print(f"the sweep is {loop / sweep:.2f} times as fast")


def run_sweep(folder: Path, root: str) -> float:
    """Seconds of the sweep."""
    return run(folder, "sweep", "sweep.yaml", "--runs", root, "-q")


def run_loop(folder: Path) -> float:
    """Seconds of one process after another."""
    return sum(
        run(folder, "train", "base.yaml", f"model.tying.pattern={pattern}", f"seed={seed}", "--runs", "loop", "-q")
        for pattern in PATTERNS
        for seed in SEEDS
    )


def run(folder: Path, *arguments: str) -> float:
    """Seconds of a command."""
    begin = time.perf_counter()
    subprocess.run([*COMMAND, *arguments], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begin


if __name__ == "__main__":
    main()
