"""What `training.deterministic: true` costs: the speed of configs/mnist_block.yaml with it over that without.

    python experiments/benchmarks/determinism_cost.py --data-dir DIR [--rounds 3] [--steps 150]

Each training is a process of its own, in turn with and without; the first epoch, which compiles, does not count. Prints
the images a second of each pair, and the median of their ratios.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

CONFIG = Path(__file__).resolve().parents[2] / "configs" / "mnist_block.yaml"


def measure(data_dir: Path, steps: int, *, deterministic: bool) -> float:
    """Images a second in the second epoch."""
    with tempfile.TemporaryDirectory() as runs:
        changes = [f"training.deterministic={str(deterministic).lower()}", f"training.steps_per_epoch={steps}"]
        code = "from tiedexp.cli import main; main()"
        options = ["--runs", runs, "--data-dir", str(data_dir), "--quiet"]
        command = [sys.executable, "-c", code, "train", str(CONFIG), "training.epochs=2", *changes, *options]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        (path,) = Path(runs).glob("*/seed-0/metrics.jsonl")
        return float(json.loads(path.read_text().splitlines()[1])["train"]["images_per_second"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, required=True, help="TFDS data directory with mnist")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=150)
    options = parser.parse_args()
    ratios = []
    for _ in range(options.rounds):
        with_it, without = (measure(options.data_dir, options.steps, deterministic=value) for value in (True, False))
        ratios.append(with_it / without)
        print(f"deterministic {with_it:,.0f} images/s, not {without:,.0f}: ratio {ratios[-1]:.3f}", flush=True)
    print(f"median {statistics.median(ratios):.3f}")


if __name__ == "__main__":
    main()
