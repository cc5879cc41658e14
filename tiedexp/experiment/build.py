"""The parts of an experiment, made from its spec."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy.typing as npt

from tiedexp.data.pipeline import Augmentation, Batches
from tiedexp.data.sources import Dataset, Split
from tiedexp.experiment.preparation import Plan, load_images
from tiedexp.layers.tied_conv import TiedConv2D
from tiedexp.models.families import FAMILIES
from tiedexp.spec.schema import ExperimentSpec
from tiedexp.training import optimizers
from tiedexp.training.trainer import Trainer
from tiedexp.training.weights_file import FIRST_TIED, FIRST_UNTIED

if TYPE_CHECKING:
    from keras.optimizers.schedules import LearningRateSchedule

EVALUATION_BATCH = 500  # images at a time where nothing is trained


def build_model(plan: Plan, implementations: Mapping[str, Mapping[str, str]] | None = None) -> keras.Model:
    """The model of a plan, with freshly drawn weights.

    Args:
        plan: the plan.
        implementations: of tied convs, by name, how they are computed; None for what the spec says.
    """
    model = plan.spec.model
    options: dict[str, Any] = {"dropout": model.dropout, "dtype": plan.spec.training.precision}
    if model.tying is not None:
        options.update(gradient=model.tying.gradient, implementation=implementations or model.tying.implementation)
    return FAMILIES[model.family].build(plan.image_shape, plan.num_classes, plan.convs, **options)


def read_implementations(model: keras.Model) -> dict[str, dict[str, str]]:
    """Of every tied conv, by name, how it is computed."""
    return {layer.name: layer.choice.as_dict() for layer in model.layers if isinstance(layer, TiedConv2D)}


def read_first_kernel(model: keras.Model) -> tuple[str, npt.NDArray[Any]]:
    """The kernel of the first tied conv, or of the first conv of a model without, as a file of weights holds it.

    Returns:
        its name in the file; the free weights, (groups, in_channels, filters), or the untied kernel, (rows, cols,
        in_channels, filters).
    """
    convs = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    tied = next((layer for layer in convs if isinstance(layer, TiedConv2D)), None)
    if tied is None:
        return FIRST_UNTIED, keras.ops.convert_to_numpy(convs[0].kernel)
    return FIRST_TIED, keras.ops.convert_to_numpy(tied.free_kernel)


def build_batches(spec: ExperimentSpec, train: Split, num_classes: int, mean: Any, std: Any) -> Batches:
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
    return optimizers.build_optimizer(
        training.optimizer.name,
        schedule,
        precision=training.precision,
        **training.optimizer.model_dump(exclude={"name", "learning_rate"}),
    )


def build_trainer(spec: ExperimentSpec, model: keras.Model, batches: Batches, strategy: Any) -> Trainer:
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


def load_splits(
    spec: ExperimentSpec, data_dir: Path | None, warn: Callable[[str], None] = lambda text: None
) -> tuple[Dataset, Split, Split]:
    """The dataset, and its training images split in those to train on and those for validation; see `load_dataset`."""
    dataset = load_images(spec, data_dir, warn)
    return dataset, *dataset.split_validation(spec.dataset.validation, spec.seed)
