"""What is known about an experiment before anything is built: its run, data, model and cost. No TensorFlow."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tiedexp.convolution.cpp.compiler import find_compiler
from tiedexp.data.sources import (
    KINDS,
    Dataset,
    check_prepared,
    describe_dataset,
    find_data_dir,
    load_dataset,
    parse_source,
    stamp_files,
)
from tiedexp.errors import DatasetError, RunError
from tiedexp.models.cost import ModelCost, compute_cost
from tiedexp.models.families import FAMILIES
from tiedexp.models.plan import ConvPlan
from tiedexp.runs.directory import RunDirectory
from tiedexp.runs.seal import has_seal
from tiedexp.spec.schema import ExperimentSpec, ModelSpec, PatternOptions, PatternValue


@dataclass(frozen=True)
class Plan:
    """The model of an experiment before it is built.

    Args:
        spec: the experiment.
        image_shape: (rows, cols, channels).
        num_classes: the number of classes.
        convs: the convolutions, in order.
        cost: the number of weights and multiply-adds.
    """

    spec: ExperimentSpec
    image_shape: tuple[int, int, int]
    num_classes: int
    convs: tuple[ConvPlan, ...]
    cost: ModelCost


def describe_spec(spec: ExperimentSpec) -> dict[str, Any]:
    """A spec as the manifest stores it: plain JSON, without keys that have no value."""
    return spec.model_dump(mode="json", exclude_none=True)


def load_images(
    spec: ExperimentSpec, data_dir: Path | None, warn: Callable[[str], None] = lambda text: None
) -> Dataset:
    """Load the dataset of a spec, with its limit and image size; see `load_dataset`."""
    data, path = spec.dataset, training_source(spec).path
    return load_dataset(
        data.name, path=path, data_dir=data_dir, image_size=data.image_size, limit=data.limit, warn=warn
    )


def locate_run(spec: ExperimentSpec, root: Path) -> RunDirectory:
    """The directory of a spec's run, whether it exists or not."""
    return RunDirectory.locate(root, name=spec.name, digest=spec.digest, seed=spec.seed)


def plan_experiment(
    spec: ExperimentSpec, *, data_dir: Path | None = None, warn: Callable[[str], None] = lambda text: None
) -> Plan:
    """Work out the model and its cost.

    Args:
        spec: the experiment.
        data_dir: TFDS data directory; None for $TFDS_DATA_DIR or the default of TFDS.
        warn: see `load_dataset`.

    Raises:
        DatasetError: the dataset is unknown or missing.
    """
    source = training_source(spec, data_dir)
    shape = describe_dataset(
        source.name, path=source.path, data_dir=data_dir, image_size=spec.dataset.image_size, warn=warn
    )
    return plan_model(spec, shape.image_shape, shape.num_classes)


def plan_model(spec: ExperimentSpec, image_shape: tuple[int, int, int], num_classes: int) -> Plan:
    """Work out the model and its cost for images of a known shape, (rows, cols, channels), and number of classes."""
    model = spec.model
    family = FAMILIES[model.family]
    options = {key: getattr(model, key) for key in family.options}
    convs = family.plan(
        image_shape,
        width=model.width,
        kernel_size=model.kernel_size,
        patterns=model.conv_patterns(),
        **options,
    )
    implementation = "auto" if model.tying is None else model.tying.implementation
    native = spec.training.precision == "float32" and find_compiler() is not None
    return Plan(spec, image_shape, num_classes, tuple(convs), compute_cost(convs, num_classes, implementation, native))


def name_pattern(model: ModelSpec) -> str:
    """A short name of a model's tying for tables and plots: e.g. `block`, `hashed(groups=9, seed=0)` or `none`."""

    def name(value: PatternValue) -> str:
        if isinstance(value, PatternOptions):
            options = {key: _name_option(option) for key, option in value.options().items() if key != "preset"}
            return f"{value.preset}({', '.join(f'{key}={option}' for key, option in options.items())})"
        return "/".join(" ".join(row.split()) for row in re.split(r"[/\n]", value.strip()))

    if model.tying is None:
        return "none"
    pattern = model.tying.pattern
    return ", ".join(map(name, pattern)) if isinstance(pattern, tuple) else name(pattern)


def _name_option(option: Any) -> str:
    return str(option.get("preset", option)) if isinstance(option, Mapping) else str(option)


@dataclass(frozen=True)
class DataSource:
    """Where images come from: the arguments of the functions in `tiedexp.data.sources`."""

    name: str
    path: Path | None
    data_dir: Path | None
    advice: str = ""  # added to the error if the data is missing

    def check(self) -> None:
        """Raise DatasetError if the data is missing. This is fast and does not load TensorFlow."""
        try:
            check_prepared(self.name, path=self.path, data_dir=self.data_dir)
        except DatasetError as error:
            raise DatasetError(f"{error}{self.advice}") from error

    def stamp(self) -> str | None:
        """A text that changes when the user's own files change, without reading them; None for other datasets.

        Raises:
            DatasetError: the files are missing.
        """
        return None if self.path is None else stamp_files(self.name, self.path)

    def is_same(self, other: DataSource) -> bool:
        """Whether both name the same images."""
        paths = [None if source.path is None else source.path.resolve() for source in (self, other)]
        return (self.name, paths[0], self.data_dir) == (other.name, paths[1], other.data_dir)


def training_source(spec: ExperimentSpec, data_dir: Path | None = None) -> DataSource:
    """The images that a spec names."""
    path = None if spec.dataset.path is None else Path(spec.dataset.path)
    return DataSource(spec.dataset.name, path, data_dir)


def resolve_data_dir(spec: ExperimentSpec, data_dir: Path | None) -> Path | None:
    """The absolute path of the TFDS data directory of a spec's images; None if they are not from TFDS."""
    return None if spec.dataset.name in KINDS else find_data_dir(data_dir).resolve()


def rerun_source(run: RunDirectory, spec: ExperimentSpec, data_dir: Path | None = None) -> DataSource:
    """The images of a run, to train on them again; by default from the location that the run names."""
    trained_from = run.read_manifest().data.data_dir
    return training_source(spec, data_dir or (None if trained_from is None else Path(trained_from)))


def evaluation_source(
    run: RunDirectory, spec: ExperimentSpec, *, data: str | None = None, data_dir: Path | None = None
) -> DataSource:
    """The images to evaluate a run on: its own, or others.

    A run directory may come from a stranger, so the paths in it are not trusted. If this user trained the run at its
    present path, its own images are read from their old path; otherwise they are read only if they are built in or in
    the user's TFDS data directory.

    Args:
        run: the run.
        spec: its spec.
        data: a dataset's name, a directory of images or an .npz file; None for the run's own.
        data_dir: TFDS data directory; None for $TFDS_DATA_DIR or the default of TFDS.

    Raises:
        RunError: the run's own images are files, and it is not known that this user trained it.
    """
    if data is not None:
        return DataSource(*parse_source(data), data_dir)
    trained_on = rerun_source(run, spec)
    if has_seal(run, trained_on.name, trained_on.path, trained_on.data_dir):
        return trained_on if data_dir is None else replace(trained_on, data_dir=data_dir)
    source = training_source(spec, data_dir)
    if source.path is not None:
        raise RunError(
            f"{run.path} names its images: {source.path}. It is not known that you trained this run at this path, so "
            f"they are read only if you name them too: --data {shlex.quote(str(source.path))}"
        )
    trained_from = run.read_manifest().data.data_dir
    if data_dir is not None or trained_from in (None, str(find_data_dir().resolve())):
        return source
    return replace(source, advice=f"\nThe run says that it was trained on data in {trained_from}; --data-dir reads it")
