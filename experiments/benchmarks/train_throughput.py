"""Images a second of `tiedexp train` against a hand-written Keras `fit` of the same model.

    python experiments/benchmarks/train_throughput.py --data-dir DIR      # a TFDS directory with mnist

Both train the same untied model on MNIST with the same batch size, optimizer and default threads, each in a process of
its own, in turn, several times. The first epoch, which compiles, does not count. Prints each pair of speeds and the
median of their ratios, tiedexp over Keras.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from turns import FIT, compare, run, time_tiedexp

IMAGES = 30000
SPEC = """
name: throughput
dataset: {name: mnist, validation: 0, limit: 30000}
model: {depth: 4, width: 16, kernel_size: 5, tying: {pattern: full}}
training: {epochs: EPOCHS, batch_size: 128, optimizer: {name: adamw, learning_rate: 1e-3, weight_decay: 1e-4}}
tensorboard: {kernels: false}
"""

KERAS = """
import sys
from pathlib import Path
from tiedexp.data.sources import load_dataset
from tiedexp.models.plain import build_plain
from tiedexp.models.plan import plan_plain

epochs, data_dir = int(sys.argv[1]), Path(sys.argv[2])
train = load_dataset("mnist", data_dir=data_dir, limit=30000).train
convs = plan_plain((28, 28, 1), width=16, kernel_size=5, patterns=[None] * 4)
model = build_plain((28, 28, 1), 10, convs)
"""


def time_in_turn(folder: Path, data_dir: Path, epochs: int, rounds: int) -> Iterator[tuple[float, float]]:
    spec = folder / "spec.yaml"
    spec.write_text(SPEC.replace("EPOCHS", str(epochs)))
    for _ in range(rounds):
        options = ["--runs", str(folder / "runs"), "--data-dir", str(data_dir)]
        ours = time_tiedexp(spec, *options, images=IMAGES)
        yield ours, float(run([sys.executable, "-c", KERAS + FIT, str(epochs), str(data_dir)]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data-dir", type=Path, required=True, help="TFDS directory with mnist")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    data_dir = arguments.data_dir.resolve()
    with tempfile.TemporaryDirectory() as folder:
        compare(time_in_turn(Path(folder), data_dir, arguments.epochs, arguments.rounds), "Keras fit")


if __name__ == "__main__":
    main()
