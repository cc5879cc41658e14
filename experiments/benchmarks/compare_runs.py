"""Wall time and peak memory of `tiedexp compare` over many run directories.

    python experiments/benchmarks/compare_runs.py RUN [--runs 1000] [--seeds 5]

Makes the directories in a temporary one, from a real run: its files but for the weights and event files, with other
seeds, patterns and widths, and accuracies that are drawn. Prints the median time of five and the largest memory.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

ROUNDS = 5
PATTERNS = ("full", "block", "rings", "d4", "row", "column", "toeplitz", "checkerboard")


def make_runs(run: Path, root: Path, count: int, seeds: int) -> None:
    """Write `count` runs below `root`, `seeds` of every variant."""
    draw = random.Random(0)
    manifest = json.loads((run / "manifest.json").read_text())
    result = json.loads((run / "result.json").read_text())
    for number in range(count):
        variant, seed = divmod(number, seeds)
        width, place = divmod(variant, len(PATTERNS))
        spec = manifest["spec"]
        spec["name"] = manifest["pattern"] = PATTERNS[place]
        spec["seed"], spec["model"]["width"] = seed, 8 + width
        manifest["unique_weights"] = 1000 * (place + 1) * (8 + width)
        for split in ("test", "validation"):
            result[split]["accuracy"] = 0.9 + 0.005 * place + draw.gauss(0, 0.003)
        directory = root / f"{PATTERNS[place]}-{variant:010x}" / f"seed-{seed}"
        directory.mkdir(parents=True)
        (directory / "manifest.json").write_text(json.dumps(manifest, indent=2))
        (directory / "result.json").write_text(json.dumps(result, indent=2))
        for name in ("metrics.jsonl", "spec.yaml"):
            shutil.copyfile(run / name, directory / name)
        for name in ("checkpoints", "tensorboard"):
            (directory / name).mkdir()


def measure(command: list[str]) -> tuple[float, float]:
    """(seconds, MiB at most) of a process."""
    begin = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as child:
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        sys.exit(f"{command} failed")
    return time.perf_counter() - begin, usage.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a finished run")
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    tiedexp = str(Path(sys.executable).parent / "tiedexp")
    with TemporaryDirectory() as folder:
        make_runs(options.run, Path(folder), options.runs, options.seeds)
        measured = [measure([tiedexp, "compare", folder]) for _ in range(ROUNDS)]
    seconds, memory = zip(*measured, strict=True)
    print(f"{options.runs} runs: {statistics.median(seconds):.2f} s (median of {ROUNDS}), {max(memory):.0f} MiB")


if __name__ == "__main__":
    main()
