"""An assembly: the data, model, optimizer and training loop of an experiment, made from its spec."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy.typing as npt

from tiedexp.convolution.choosing import NATIVE
from tiedexp.convolution.cpp.library import find_version
from tiedexp.data.pipeline import Augmentation, Batches, evaluation_batches, normalisation
from tiedexp.data.sources import Dataset, Split
from tiedexp.errors import SpecError
from tiedexp.experiment.limits import check_step_fits
from tiedexp.experiment.preparation import (
    Plan,
    describe_spec,
    load_images,
    name_pattern,
    plan_model,
    resolve_data_dir,
    training_source,
)
from tiedexp.layers.tied_conv import TiedConv2D
from tiedexp.metrics import Predictor
from tiedexp.models.families import FAMILIES
from tiedexp.runs.manifest import describe_environment
from tiedexp.runs.records import DataRecord, Manifest
from tiedexp.spec.schema import ExperimentSpec
from tiedexp.training import optimizers
from tiedexp.training.devices import build_strategy, describe_devices, set_up_process, uses_gpus
from tiedexp.training.trainer import Trainer
from tiedexp.training.weights_file import FIRST_TIED, FIRST_UNTIED

if TYPE_CHECKING:
    from keras.optimizers.schedules import LearningRateSchedule

EVALUATION_BATCH = 500  # images per batch in evaluation


@dataclass(frozen=True)
class Assembly:
    """All parts of an experiment, ready to train; nothing of it is on disk.

    Args:
        spec: the experiment.
        data_dir: TFDS data directory of the images; None if they come from none.
        files: a stamp of the user's own image files, taken before they were read; None for other datasets.
        threads: CPU threads within an operation.
        device: the device or devices, for a person.
        dataset: all images.
        train: the images to train on.
        validation: the images held out for validation; possibly none.
        mean: the mean of each channel of `train`, which every batch is normalised with.
        std: the standard deviation of each channel of `train`.
        plan: the convolutions and their cost.
        model: compiled with its optimizer, so that checkpoints hold both.
        schedule: the learning rate as a function of the step.
        steps_per_epoch: training steps per epoch.
        trainer: the training loop.
        predictor: computes the model's logits.
    """

    spec: ExperimentSpec
    data_dir: Path | None
    files: str | None
    threads: int
    device: str
    dataset: Dataset
    train: Split
    validation: Split
    mean: npt.NDArray[Any]
    std: npt.NDArray[Any]
    plan: Plan
    model: keras.Model
    schedule: LearningRateSchedule
    steps_per_epoch: int
    trainer: Trainer
    predictor: Predictor

    @property
    def sizes(self) -> dict[str, int]:
        """The number of images of each split."""
        splits = {"train": self.train, "validation": self.validation, "test": self.dataset.test}
        return {name: len(split.labels) for name, split in splits.items()}

    def evaluation_batches(self, split: Split) -> Iterable[Any]:
        """The images and labels of a split, in order and normalised."""
        return evaluation_batches(split, batch_size=EVALUATION_BATCH, mean=self.mean, std=self.std)

    def learning_rate(self, step: int) -> float:
        """The learning rate of a step, counted from 1 over the whole training."""
        return float(self.schedule(step - 1))

    def describe(self) -> Manifest:
        """The manifest of a run that starts now with these parts."""
        cost, implementations = self.plan.cost, read_implementations(self.model)
        is_compiled = any(NATIVE in choice.values() for choice in implementations.values())
        return Manifest(
            **dict(describe_environment(compiled=find_version() or "none" if is_compiled else None)),
            device=self.device,
            replicas=self.trainer.num_replicas,
            threads=self.threads,
            deterministic=self.spec.training.deterministic,
            data=DataRecord(
                name=self.dataset.name,
                fingerprint=self.dataset.fingerprint,
                files=self.files,
                data_dir=None if self.data_dir is None else str(self.data_dir),
                image_shape=self.plan.image_shape,
                class_names=tuple(self.dataset.class_names),
                mean=tuple(float(value) for value in self.mean),
                std=tuple(float(value) for value in self.std),
            ),
            spec=describe_spec(self.spec),
            pattern=name_pattern(self.spec.model),
            patterns={conv.name: conv.pattern.digest for conv in self.plan.convs if conv.pattern is not None},
            unique_weights=cost.unique_weights,
            expanded_weights=cost.expanded_weights,
            macs_dense=cost.macs_dense,
            macs_tied=cost.macs_tied,
            implementations=implementations,
            steps_per_epoch=self.steps_per_epoch,
        )


def assemble(
    spec: ExperimentSpec,
    *,
    data_dir: Path | None = None,
    threads: int | None = None,
    implementations: Mapping[str, Mapping[str, str]] | None = None,
    warn: Callable[[str], None] = lambda text: None,
) -> Assembly:
    """Load the data and build the model of an experiment. Nothing is written.

    It sets the number of threads, the determinism and the random seeds of this process.

    Args:
        spec: the experiment.
        data_dir: TFDS data directory; None for $TFDS_DATA_DIR or the default of TFDS.
        threads: CPU threads within an operation if the spec leaves them open; None for all cores.
        implementations: how to compute each tied conv, by its name; None for what the spec says.
        warn: see `load_dataset`.

    Raises:
        DatasetError: the data is missing or damaged.
        SpecError: the devices cannot share a batch equally.
        RunError: there is too little memory, or there are fewer devices than the spec asks for.
    """
    training = spec.training
    data_dir = resolve_data_dir(spec, data_dir)
    # Before TensorFlow runs anything, after which the number of threads cannot change.
    threads = set_up_process(threads=training.threads, deterministic=training.deterministic, preferred_threads=threads)
    files = training_source(spec).stamp()  # before the files are read, so that a change meanwhile is noticed
    dataset = load_images(spec, data_dir, warn)
    train, validation = dataset.split_validation(spec.dataset.validation, spec.seed)
    plan = plan_model(spec, dataset.image_shape, dataset.num_classes)
    if not uses_gpus():  # on a GPU, TensorFlow raises an error when memory runs out
        check_step_fits(plan, dataset)
    mean, std = normalisation(train)
    batches = _build_batches(spec, train, dataset.num_classes, mean, std)
    steps_per_epoch = int(min(batches.steps_per_epoch, training.steps_per_epoch or math.inf))
    strategy = build_strategy(training.devices)
    if training.batch_size % strategy.num_replicas_in_sync:
        raise SpecError(
            f"training.batch_size ({training.batch_size}) must be a multiple of the "
            f"{strategy.num_replicas_in_sync} devices"
        )
    schedule = build_schedule(spec, steps_per_epoch)
    keras.utils.set_random_seed(spec.seed)
    with strategy.scope():
        model = build_model(plan, implementations)
        optimizer = build_optimizer(spec, schedule)
        optimizer.build(model.trainable_variables)
        model.compile(optimizer=optimizer)
    return Assembly(
        spec=spec,
        data_dir=data_dir,
        files=files,
        threads=threads,
        device=describe_devices(strategy),
        dataset=dataset,
        train=train,
        validation=validation,
        mean=mean,
        std=std,
        plan=plan,
        model=model,
        schedule=schedule,
        steps_per_epoch=steps_per_epoch,
        trainer=_build_trainer(spec, model, batches, strategy),
        predictor=Predictor(model),
    )


def build_model(plan: Plan, implementations: Mapping[str, Mapping[str, str]] | None = None) -> keras.Model:
    """The model of a plan, with freshly drawn weights.

    Args:
        plan: the plan.
        implementations: how to compute each tied conv, by its name; None for what the spec says.
    """
    model = plan.spec.model
    options: dict[str, Any] = {"dropout": model.dropout, "dtype": plan.spec.training.precision}
    if model.tying is not None:
        options.update(gradient=model.tying.gradient, implementation=implementations or model.tying.implementation)
    return FAMILIES[model.family].build(plan.image_shape, plan.num_classes, plan.convs, **options)


def read_implementations(model: keras.Model) -> dict[str, dict[str, str]]:
    """How each tied conv of a model is computed, by its name."""
    return {layer.name: layer.choice.as_dict() for layer in model.layers if isinstance(layer, TiedConv2D)}


def read_first_kernel(model: keras.Model) -> tuple[str, npt.NDArray[Any]]:
    """The kernel of a model's first tied conv, or of its first conv if none is tied, as a weights file stores it.

    Returns:
        its name in the file; the free weights, (tied groups, in_channels, filters), or the untied kernel, (rows,
        cols, in_channels, filters).
    """
    convs = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    tied = next((layer for layer in convs if isinstance(layer, TiedConv2D)), None)
    if tied is None:
        return FIRST_UNTIED, keras.ops.convert_to_numpy(convs[0].kernel)
    return FIRST_TIED, keras.ops.convert_to_numpy(tied.free_kernel)


def build_schedule(spec: ExperimentSpec, steps_per_epoch: int) -> LearningRateSchedule:
    """The learning rate as a function of the step."""
    training = spec.training
    options = training.schedule.model_dump(exclude={"name"})
    if "epochs" in options:
        options["drop_epochs"] = options.pop("epochs")
    return optimizers.build_schedule(
        training.schedule.name,
        training.optimizer.learning_rate,
        steps_per_epoch=steps_per_epoch,
        epochs=training.epochs,
        **options,
    )


def build_optimizer(spec: ExperimentSpec, schedule: LearningRateSchedule) -> keras.optimizers.Optimizer:
    """The optimizer, not yet built for any variables."""
    training = spec.training
    optimizer = training.optimizer
    return optimizers.build_optimizer(
        optimizer.load_class(), schedule, precision=training.precision, **optimizer.options()
    )


def _build_batches(spec: ExperimentSpec, train: Split, num_classes: int, mean: Any, std: Any) -> Batches:
    """The batches of training, as a function of the step."""
    return Batches(
        train,
        num_classes=num_classes,
        batch_size=spec.training.batch_size,
        seed=spec.seed,
        mean=mean,
        std=std,
        augmentation=Augmentation(**spec.training.augmentation.model_dump()),
    )


def _build_trainer(spec: ExperimentSpec, model: keras.Model, batches: Batches, strategy: Any) -> Trainer:
    """The training loop of a compiled model."""
    training = spec.training
    steps = training.steps_per_execution
    return Trainer(
        model,
        model.optimizer,
        batches,
        batch_size=training.batch_size,
        strategy=strategy,
        label_smoothing=training.label_smoothing,
        gradient_clipping=training.gradient_clipping,
        jit=training.jit,
        steps_per_execution=None if steps == "auto" else int(steps),
        record_gradient_norms=spec.tensorboard.histograms,
    )
