"""`tiedexp init`: writes a first spec to edit."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

SCHEMA_NAME = "tiedexp.schema.json"

# Lines `# key: value` are optional keys with their defaults; a test checks them against the schema.
STARTER = """\
# yaml-language-server: $schema={schema}
#
#   tiedexp validate {file}     shows the layers and their cost
#   tiedexp train {file}        trains and tests the model
#
# Keys that are commented out show their defaults. Any key can be changed for one run, e.g.
#   tiedexp train {file} training.epochs=3
# A spec with the line `extends: {file}` inherits everything from this one.

name: {name:<24} # name of the run: letters, digits, '.', '_' and '-'
# seed: 0                      # for the weights, order, split, augmentation and dropout

dataset:
  name: {dataset:<22} # digits, folder, npz, or a TFDS dataset, e.g. mnist or cifar10
{path}  # validation: 0.1            # a fraction of the training images, or a number of them
  # image_size: null           # side in pixels to resize the images to
  # limit: null                # use at most this many images of each split, for quick tries

model:
  family: plain                # {families}
  depth: 4                     # {depths}
  width: 32                    # filters of the first stage; every stage doubles them
  kernel_size: 5               # the side, or [rows, columns]
  # widen: 1                   # factor on the width, for resnet
  # dropout: 0.0               # dropout rate before the classifier
  tying:                       # without this section, all convs are standard ones
    # A pattern is a preset (see `tiedexp pattern list`), a preset with options, e.g.
    # {{preset: hashed, groups: 9, seed: 0}}, or a grid. In a grid, equal letters share one weight, -A is minus A and
    # . is zero. This grid is the same as the preset `block`:
    pattern: |
      AABCC
      AABCC
      DDEFF
      GGHII
      GGHII
    # layers: all              # tied convs: all, first, last, alternate, or a list, e.g. [2, 3]
    # gradient: sum            # of a weight: sum or mean over its cells
    # implementation: auto     # method of computing tied convs: auto, expand or factored

training:
  epochs: 20
  batch_size: 64
  optimizer:                   # {optimizers}, each with its own options
    name: adamw
    learning_rate: 2e-3
    # weight_decay: 0.004
    # beta_1: 0.9
    # beta_2: 0.999
    # epsilon: 1e-7
  schedule:                    # constant, cosine, step or exponential
    name: cosine
    warmup_epochs: 1
    # final: 0.0               # the last learning rate, as a fraction of the highest
  augmentation:                # random changes to the training images
    pad_crop: 1                # shift by up to this many pixels
    # flip: null               # horizontal, vertical or both
    # rotation: 0.0            # up to this many degrees either way
    # cutout: 0                # side in pixels of a square that is set to zero
    # mixup: 0.0               # alpha; 0 disables mixup
  # early_stopping: null       # or {{metric: accuracy, patience: 5, min_delta: 0.0}}
  # label_smoothing: 0.0
  # gradient_clipping: null    # maximum global norm of the gradient
  # precision: float32         # or mixed_float16, mixed_bfloat16
  # jit: false                 # compile the training step with XLA
  # devices: 1                 # number of GPUs, or all; without a GPU, 1 is the CPU
  # threads: null              # CPU threads per operation; null uses all cores
  # steps_per_epoch: null      # use at most this many steps per epoch, for quick tries
  # steps_per_execution: auto  # training steps per call of the compiled function
  # deterministic: true        # use only operations that give the same bits every time

tensorboard:
  kernels: true                # log an image of the kernels of every tied conv, each epoch
  # histograms: false          # log histograms of the weights and gradient norms

checkpoint:
  every_steps: 0               # steps between checkpoints; 0 saves only at the end of epochs
"""


def init(
    path: Annotated[Path, typer.Argument(help="The file to write.")] = Path("experiment.yaml"),
    dataset: Annotated[str, typer.Option(help="The dataset, e.g. one that `tiedexp data list` shows.")] = "digits",
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
) -> None:
    """Write a commented spec to start from.

    The JSON schema of specs is written to the same directory; editors use it to complete and check the spec.
    """
    import json

    from tiedexp.errors import SpecError
    from tiedexp.spec.loading import build_json_schema

    if path.exists() and not force:
        raise SpecError(f"{path} already exists; name another file, or overwrite it with --force")
    text = build_starter(path, dataset)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        (path.parent / SCHEMA_NAME).write_text(json.dumps(build_json_schema(), indent=2) + "\n", encoding="utf-8")
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise SpecError(f"{path}: cannot be written: {error.strerror}") from None
    typer.echo(f"wrote {path} and {path.parent / SCHEMA_NAME}\nnext: tiedexp train {path}")


def build_starter(path: Path, dataset: str) -> str:
    """The text of a starter spec for a dataset.

    Raises:
        SpecError: the name cannot be the name of a dataset.
    """
    import re

    from tiedexp.data.sources import list_file_kinds
    from tiedexp.errors import SpecError
    from tiedexp.models.families import describe_depths, describe_families
    from tiedexp.spec.document import resolve_scalar
    from tiedexp.spec.optimizers import describe_optimizers

    if not re.fullmatch(r"[A-Za-z][\w/.:+*-]*", dataset, re.ASCII) or resolve_scalar(dataset) != dataset:
        raise SpecError(
            f"--dataset must be the name of a dataset, e.g. digits, mnist or emnist/letters. Received: {dataset!r}"
        )
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", path.stem).lstrip("._-")[:80] or "experiment"
    if resolve_scalar(stem) != stem:
        stem = f"experiment-{stem}"[:80]
    kind = list_file_kinds().get(dataset)
    line = f"  path: {kind.example_path:<22} # relative to the directory of this file\n" if kind else ""
    file = " ".join(path.name.split())  # it is used in comments, which must not contain a line break
    about = {"families": describe_families(), "depths": describe_depths(), "optimizers": describe_optimizers()}
    return STARTER.format(schema=SCHEMA_NAME, file=file, name=stem, dataset=dataset, path=line, **about)
