"""Evaluate a run again: on other images, from another checkpoint, or after a transform."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tiedexp.data.pipeline import evaluation_batches
from tiedexp.data.sources import Dataset, Split, describe_dataset, load_dataset
from tiedexp.data.transforms import apply_transform
from tiedexp.errors import DatasetError
from tiedexp.experiment.assembly import EVALUATION_BATCH
from tiedexp.experiment.limits import check_fits
from tiedexp.experiment.preparation import evaluation_source, plan_model, training_source
from tiedexp.experiment.trained import ROUNDING, build_as_trained, find_checkpoint
from tiedexp.metrics import Predictor, compute_evaluation
from tiedexp.runs.directory import RunDirectory
from tiedexp.runs.records import DataRecord, Evaluation, Manifest
from tiedexp.spec.loading import load_spec
from tiedexp.spec.schema import ExperimentSpec
from tiedexp.training.checkpoint import load_weights
from tiedexp.training.devices import device_failures, set_up_process


@device_failures()
def evaluate_run(
    run: RunDirectory,
    *,
    split: str = "test",
    checkpoint: str = "best",
    transform: str | None = None,
    data: str | None = None,
    data_dir: Path | None = None,
    warn: Callable[[str], None] = lambda text: None,
) -> tuple[Evaluation, int]:
    """Evaluate a run's checkpoint. The model is rebuilt from the run's own spec; only weights are loaded.

    Args:
        run: the run.
        split: test, validation or train.
        checkpoint: best or last.
        transform: the name of a transform in `tiedexp.data.transforms` to apply to every image first.
        data: another dataset with as many classes: a name, a folder of images or an .npz file. All its test images
            are used, or all its images if it has no test images of its own.
        data_dir: TFDS data directory; None for $TFDS_DATA_DIR or the default of TFDS.
        warn: called for damaged checkpoints, which are not used, for how images are interpreted, and for anything
            that may make the results differ from those of training.

    Returns:
        the results, and the epoch of the checkpoint.

    Raises:
        RunError: the run or its checkpoint is missing or damaged, or the device lacks memory or an operation.
        DatasetError: the images are missing, damaged, have changed, or do not fit the model.
        SpecError: the run's spec is not valid.
    """
    spec = load_spec(run.spec, allow_extends=False)
    manifest = run.read_manifest()
    trained = manifest.data
    kept = find_checkpoint(run, checkpoint, warn)
    _set_up_as_trained(spec, manifest, warn)
    source = evaluation_source(run, spec, data=data, data_dir=data_dir)
    source.check()
    shape = describe_dataset(
        source.name, path=source.path, data_dir=source.data_dir, image_size=spec.dataset.image_size
    )
    check_fits(plan_model(spec, shape.image_shape, shape.num_classes), shape, kept.weights, EVALUATION_BATCH)
    # The run's limit and test split apply to its own images, however they are named; of another dataset, all images.
    own = source.is_same(training_source(spec, source.data_dir))
    dataset = load_dataset(
        source.name,
        path=source.path,
        data_dir=source.data_dir,
        image_size=spec.dataset.image_size,
        limit=spec.dataset.limit if own else None,
        hold_out_test=own,
        warn=warn,
    )
    _check_data(dataset, trained, own=own)
    images = _choose_images(dataset, spec, split)
    if transform is not None:
        images = Split(apply_transform(images.images, transform), images.labels)
    plan = plan_model(spec, dataset.image_shape, dataset.num_classes)
    model = build_as_trained(plan, manifest.implementations, warn)
    load_weights(kept, model)
    batches = evaluation_batches(images, batch_size=EVALUATION_BATCH, mean=trained.mean, std=trained.std)
    return compute_evaluation(*Predictor(model)(batches), dataset.class_names), kept.epoch


def _set_up_as_trained(spec: ExperimentSpec, manifest: Manifest, warn: Callable[[str], None]) -> None:
    training, trained_with = spec.training, manifest.threads
    threads = set_up_process(
        threads=training.threads, deterministic=training.deterministic, preferred_threads=trained_with
    )
    if threads != trained_with:
        warn(f"the run was trained with {trained_with} threads, but this process has {threads}: {ROUNDING}")


def _choose_images(dataset: Dataset, spec: ExperimentSpec, split: str) -> Split:
    images = dataset.test
    if split != "test":
        train, validation = dataset.split_validation(spec.dataset.validation, spec.seed)
        images = train if split == "train" else validation
    if not len(images.labels):
        raise DatasetError(f"the {split} split of {dataset.name} has no images")
    return images


def _check_data(dataset: Dataset, trained: DataRecord, *, own: bool) -> None:
    """Refuse images that do not fit the run; its own images (`own`) must be unchanged."""
    if own and dataset.fingerprint != trained.fingerprint:
        raise DatasetError(
            f"the data has changed since the run was trained (its fingerprint was {trained.fingerprint} and is now "
            f"{dataset.fingerprint}); to evaluate on it anyway, copy it to another path and name that with --data"
        )
    expected = trained.image_shape, len(trained.class_names)
    if (dataset.image_shape, dataset.num_classes) != expected:
        raise DatasetError(
            f"the run was trained on images {expected[0]} of {expected[1]} classes, "
            f"but {dataset.name} has images {dataset.image_shape} of {dataset.num_classes} classes"
        )
