"""Images a second of `tiedexp train configs/mnist_block.yaml` against the layer people write by hand, in Keras `fit`.

    python experiments/benchmarks/handwritten_model.py --data-dir DIR      # a TFDS directory with mnist

The other side is the same model with the kernels built as the usual answer has it, rows and columns of a 3x3 kernel
doubled by stacking, trained by plain `fit` with the same batch size, optimizer and threads. Each runs in a process of
its own, in turn, several times; the first epoch, which compiles, does not count. Prints each pair of speeds and the
median of their ratios, tiedexp over the other.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from turns import FIT, compare, run, tiedexp, time_tiedexp

CONFIG = Path(__file__).resolve().parents[2] / "configs" / "mnist_block.yaml"
IMAGES = 12800

BY_HAND = """
import sys
from pathlib import Path
import keras, tensorflow as tf
from tiedexp.bench.handwritten import StackedConv2D
from tiedexp.data.sources import load_dataset

threads, epochs, data_dir = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
tf.config.threading.set_intra_op_parallelism_threads(threads)
train = load_dataset("mnist", data_dir=data_dir, limit=IMAGES).train
x = inputs = keras.Input((28, 28, 1))
for number, filters in enumerate(FILTERS):
    if number and filters > FILTERS[number - 1]:
        x = keras.layers.AveragePooling2D(2)(x)
    x = StackedConv2D(filters, (2, 1, 2), (2, 1, 2))(x)
    x = keras.layers.BatchNormalization(momentum=0.9)(x)
    x = keras.layers.Activation("relu")(x)
model = keras.Model(inputs, keras.layers.Dense(10)(keras.layers.GlobalAveragePooling2D()(x)))
"""


def time_in_turn(
    folder: str, data_dir: str, *, threads: int, epochs: int, rounds: int
) -> Iterator[tuple[float, float]]:
    layers = tiedexp("validate", str(CONFIG), "--data-dir", data_dir)["layers"]
    filters = [layer["output_shape"][-1] for layer in layers if layer["kind"] == "tied conv"]
    script = BY_HAND.replace("IMAGES", str(IMAGES)).replace("FILTERS", repr(filters)) + FIT
    changes = [f"training.epochs={epochs}", f"dataset.limit={IMAGES}", "dataset.validation=0"]
    changes += [f"training.threads={threads}", "training.schedule={name: constant}"]
    for _ in range(rounds):
        ours = time_tiedexp(CONFIG, *changes, "--runs", folder, "--data-dir", data_dir, images=IMAGES)
        yield ours, float(run([sys.executable, "-c", script, str(threads), str(epochs), data_dir]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data-dir", type=Path, required=True, help="TFDS directory with mnist")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rounds = time_in_turn(
            folder,
            str(arguments.data_dir.resolve()),
            threads=arguments.threads,
            epochs=arguments.epochs,
            rounds=arguments.rounds,
        )
        compare(rounds, "by hand")


if __name__ == "__main__":
    main()
