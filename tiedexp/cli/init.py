"""`tiedexp init`: a first spec to edit."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

SCHEMA_NAME = "tiedexp.schema.json"

# Lines `# key: value` are keys that may be left out, with their defaults; a test holds them to the schema.
STARTER = """\
# yaml-language-server: $schema={schema}
#
#   tiedexp validate {file}     its layers and what they cost
#   tiedexp train {file}        train it, test it
#
# A commented-out key stands at its default. Any key can be changed for one run:
#   tiedexp train {file} training.epochs=3
# and a spec that has the line `extends: {file}` starts from this one.

name: {name:<24} # names the run; letters, digits, '.', '_' and '-'
# seed: 0                      # of weights, order, split, augmentation and dropout

dataset:
  name: {dataset:<22} # digits, a TFDS image set such as mnist or cifar10, folder, or npz
{path}  # validation: 0.1            # of the training images: a share, or how many
  # image_size: null           # resize to this side, in pixels
  # limit: null                # at most this many images of each split, to try things out

model:
  family: plain                # {families}
  depth: 4                     # {depths}
  width: 32                    # filters of the first stage; each later stage has twice as many
  kernel_size: 5               # a side, or [rows, columns]
  # widen: 1                   # resnet: a factor on the width
  # dropout: 0.0               # before the classifier
  tying:                       # leave this section out for a model of standard convs
    # A pattern is a preset (`tiedexp pattern list`), a preset with options such as
    # {{preset: hashed, groups: 9, seed: 0}}, or a grid, where equal letters are one weight, -A is minus A, and . is
    # zero. This grid is the same as the preset `block`:
    pattern: |
      AABCC
      AABCC
      DDEFF
      GGHII
      GGHII
    # layers: all              # all, first, last, alternate, or a list such as [2, 3]; the rest are standard convs
    # gradient: sum            # sum over a weight's cells, or their mean
    # implementation: auto     # how a tied conv is computed: auto, expand or factored

training:
  epochs: 20
  batch_size: 64
  optimizer:                   # {optimizers}, each with options of its own
    name: adamw
    learning_rate: 2e-3
    # weight_decay: 0.004
    # beta_1: 0.9
    # beta_2: 0.999
    # epsilon: 1e-7
  schedule:                    # constant, cosine, step or exponential
    name: cosine
    warmup_epochs: 1
    # final: 0.0               # the last learning rate, as a share of the highest
  augmentation:                # random changes of the training images
    pad_crop: 1                # shift by up to this many pixels
    # flip: null               # horizontal, vertical or both
    # rotation: 0.0            # degrees either way
    # cutout: 0                # side of a square of zeros, in pixels
    # mixup: 0.0               # alpha; 0 is none
  # early_stopping: null       # or {{metric: accuracy, patience: 5, min_delta: 0.0}}
  # label_smoothing: 0.0
  # gradient_clipping: null    # largest global norm of the gradient
  # precision: float32         # or mixed_float16, mixed_bfloat16
  # jit: false                 # compile the step with XLA
  # devices: 1                 # GPUs to use, or all; 1 is the CPU where there is none
  # threads: null              # CPU threads within an operation; all cores if left out
  # steps_per_epoch: null      # at most this many steps an epoch, to try things out
  # steps_per_execution: auto  # training steps in one call of the compiled function
  # deterministic: true        # only operations that give the same bits every time

tensorboard:
  kernels: true                # the kernels of every tied conv as an image, each epoch
  # histograms: false          # of the weights and the gradient norms

checkpoint:
  every_steps: 0               # within long epochs too, so often; 0: at the end of each epoch only
"""


def init(
    path: Annotated[Path, typer.Argument(help="The file to write.")] = Path("experiment.yaml"),
    dataset: Annotated[str, typer.Option(help="One that `tiedexp data list` shows.")] = "digits",
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
) -> None:
    """Write a commented spec to start from.

    Beside it goes its JSON schema, with which editors complete and check the spec.
    """
    import json

    from tiedexp.errors import SpecError
    from tiedexp.spec.loading import build_json_schema

    if path.exists() and not force:
        raise SpecError(f"{path} is there already; name another file, or overwrite it with --force")
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
        SpecError: the dataset's name is no name.
    """
    import re

    from tiedexp.data.sources import list_file_kinds
    from tiedexp.errors import SpecError
    from tiedexp.models.families import describe_depths, describe_families
    from tiedexp.spec.document import resolve_scalar
    from tiedexp.spec.optimizers import describe_optimizers

    if not re.fullmatch(r"[A-Za-z][\w/.:+*-]*", dataset, re.ASCII) or resolve_scalar(dataset) != dataset:
        raise SpecError(f"a dataset's name is one such as digits, mnist or emnist/letters. Received: {dataset!r}")
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", path.stem).lstrip("._-")[:80] or "experiment"
    if resolve_scalar(stem) != stem:
        stem = f"experiment-{stem}"[:80]
    kind = list_file_kinds().get(dataset)
    line = f"  path: {kind.example_path:<22} # seen from the directory of this file\n" if kind else ""
    file = " ".join(path.name.split())  # it stands in comments, which end with the line
    about = {"families": describe_families(), "depths": describe_depths(), "optimizers": describe_optimizers()}
    return STARTER.format(schema=SCHEMA_NAME, file=file, name=stem, dataset=dataset, path=line, **about)
