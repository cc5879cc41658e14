"""Images a second of `tiedexp train configs/mnist_block.yaml` against the layer people write by hand, in Keras `fit`.

    python tests/benchmarks/handwritten_model.py --data-dir DIR      # a TFDS directory with mnist

The other side is the same model with the kernels built as the usual answer has it, rows and columns of a 3x3 kernel
doubled by stacking, trained by plain `fit` with the same batch size, optimizer and threads. Each runs in a process of
its own, in turn, several times; the first epoch, which compiles, does not count. Prints each pair of speeds and the
median of their ratios, tiedexp over the other.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

CONFIG = Path(__file__).resolve().parents[2] / "configs" / "mnist_block.yaml"
IMAGES = 12800

FIT = """
import sys, time
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
model.compile(
    keras.optimizers.AdamW(1e-3, weight_decay=1e-4),
    keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    metrics=["accuracy"],
)
images = tf.data.Dataset.from_tensor_slices((train.images, train.labels))
images = images.shuffle(len(train)).batch(128, drop_remainder=True)
images = images.map(lambda x, y: ((tf.cast(x, tf.float32) / 255.0 - 0.1307) / 0.3081, y)).prefetch(tf.data.AUTOTUNE)
model.fit(images, epochs=1, verbose=0)
begin = time.perf_counter()
model.fit(images, epochs=epochs - 1, verbose=0)
print(model.count_params(), IMAGES // 128 * 128 * (epochs - 1) / (time.perf_counter() - begin))
"""


def run(command: list[str]) -> str:
    env = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stderr}")
    return done.stdout


def tiedexp(*arguments: str) -> dict[str, object]:
    return json.loads(run([str(Path(sys.executable).parent / "tiedexp"), *arguments, "--json"]))


def time_tiedexp(folder: str, data_dir: Path, threads: int, epochs: int) -> float:
    changes = [f"training.epochs={epochs}", f"dataset.limit={IMAGES}", "dataset.validation=0"]
    changes += [f"training.threads={threads}", "training.schedule={name: constant}"]
    options = ["--runs", folder, "--data-dir", str(data_dir), "--fresh"]
    result = tiedexp("train", str(CONFIG), *changes, *options)
    lines = (Path(str(result["run"])) / "metrics.jsonl").read_text().splitlines()[1:]
    seconds = sum(json.loads(line)["seconds"] for line in lines)
    return IMAGES // 128 * 128 * len(lines) / seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data-dir", type=Path, required=True, help="TFDS directory with mnist")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    data_dir = str(arguments.data_dir.resolve())
    layers = tiedexp("validate", str(CONFIG), "--data-dir", data_dir)["layers"]
    filters = [layer["output_shape"][-1] for layer in layers if layer["kind"] == "tied conv"]
    script = FIT.replace("IMAGES", str(IMAGES)).replace("FILTERS", repr(filters))
    ratios = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(1, arguments.rounds + 1):
            ours = time_tiedexp(folder, arguments.data_dir.resolve(), arguments.threads, arguments.epochs)
            command = [sys.executable, "-c", script, str(arguments.threads), str(arguments.epochs), data_dir]
            theirs = float(run(command).split()[1])
            ratios.append(ours / theirs)
            print(f"round {number}: tiedexp {ours:,.0f} images/s, by hand {theirs:,.0f}, ratio {ratios[-1]:.3f}")
    print(f"median ratio {statistics.median(ratios):.3f} (from {min(ratios):.3f} to {max(ratios):.3f})")


if __name__ == "__main__":
    main()
