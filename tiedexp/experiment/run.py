"""A run, from wherever it stands to its result."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras

from tiedexp.data.pipeline import evaluation_batches, normalisation
from tiedexp.errors import DivergenceError, RunError, RunInterruptedError, SpecError
from tiedexp.evaluation import Predictor, compute_evaluation, compute_loss_and_accuracy
from tiedexp.experiment.build import (
    EVALUATION_BATCH,
    build_batches,
    build_model,
    build_optimizer,
    build_schedule,
    build_trainer,
    load_splits,
)
from tiedexp.experiment.log import log_end, log_epoch, log_head
from tiedexp.experiment.observer import Observer
from tiedexp.experiment.plan import locate_run, name_pattern, plan_model, resolve_data_dir, training_source
from tiedexp.experiment.state import read_state
from tiedexp.runs.directory import RunDirectory
from tiedexp.runs.manifest import describe_environment
from tiedexp.runs.tensorboard import TensorBoardLog
from tiedexp.spec.loading import dump_spec
from tiedexp.spec.schema import ExperimentSpec
from tiedexp.training.checkpoint import CheckpointStore, check_finite, load_weights, restore
from tiedexp.training.devices import build_strategy, describe_devices, device_failures, set_up_process
from tiedexp.training.selection import BestEpoch, EarlyStopping

if TYPE_CHECKING:
    from tiedexp.data.sources import Split
    from tiedexp.training.trainer import EpochResult


REMEDY = "the same spec would come to the same, so change it: a smaller learning_rate, a warm-up or gradient_clipping"


@dataclass(frozen=True)
class _Progress:
    """Epochs done, and what selection made of them."""

    epoch: int
    best: BestEpoch
    stopping: EarlyStopping | None
    seconds: float

    @property
    def stops(self) -> bool:
        return self.stopping is not None and self.stopping.stops


@device_failures()
def run_experiment(
    spec: ExperimentSpec,
    *,
    root: Path,
    data_dir: Path | None = None,
    fresh: bool = False,
    observer: Observer | None = None,
) -> RunDirectory:
    """Train, choose the best epoch by validation, test it, and keep everything in the run's directory.

    A run that is finished is left as it is; one that was cut off goes on from its last checkpoint.

    Args:
        spec: the experiment.
        root: directory of all runs.
        data_dir: TFDS data directory; None for $TFDS_DATA_DIR or the default of TFDS.
        fresh: begin again even so.
        observer: is told what happens.

    Raises:
        DatasetError: no data.
        RunError: the run failed; what it did so far is kept.
        RunInterruptedError: Ctrl-C; the last checkpoint is kept.
    """
    observer = observer or Observer()
    run = locate_run(spec, root)
    if fresh or not run.finished:
        training_source(spec, data_dir).check()
        if run.path.is_dir():
            with run.lock():  # says at once if another process is in it
                pass
        parts = _Run(spec, run, data_dir, observer)  # before anything is made on disk: this may fail
        with run.lock():
            if fresh:
                run.clear()
            if not run.finished:
                parts.complete()
    observer.finished(run, run.read_result())
    return run


class _Run:
    """One run while it happens: the parts of the experiment, and where each goes."""

    def __init__(self, spec: ExperimentSpec, run: RunDirectory, data_dir: Path | None, observer: Observer):
        self.spec, self.run, self.observer = spec, run, observer
        self.data_dir = resolve_data_dir(spec, data_dir)
        training = spec.training
        self.threads = set_up_process(threads=training.threads, deterministic=training.deterministic)
        self.dataset, self.train, self.validation = load_splits(spec, self.data_dir)
        self.plan = plan_model(spec, self.dataset.image_shape, self.dataset.num_classes)
        self.mean, self.std = normalisation(self.train)
        batches = build_batches(spec, self.train, self.dataset.num_classes, self.mean, self.std)
        self.steps_per_epoch = int(min(batches.steps_per_epoch, training.steps_per_epoch or math.inf))
        strategy = build_strategy(training.devices)
        self.device = describe_devices(strategy)
        if training.batch_size % strategy.num_replicas_in_sync:
            raise SpecError(
                f"training.batch_size ({training.batch_size}) must be a multiple of the "
                f"{strategy.num_replicas_in_sync} devices"
            )
        self.schedule = build_schedule(spec, self.steps_per_epoch)
        keras.utils.set_random_seed(spec.seed)
        with strategy.scope():
            self.model = build_model(self.plan)
            optimizer = build_optimizer(spec, self.schedule)
            optimizer.build(self.model.trainable_variables)
            self.model.compile(optimizer=optimizer)  # so that `save_weights` takes the optimizer's state along
        self.trainer = build_trainer(spec, self.model, batches, strategy)
        self.predict = Predictor(self.model)
        self.store = CheckpointStore(run.checkpoints)

    def complete(self) -> None:
        """From wherever the run stands to its result."""
        progress = self._restore()
        if progress.epoch == 0:
            self.run.clear()
            self.run.write_spec(dump_spec(self.spec))
            self.run.write_json("manifest.json", self._manifest())
        else:
            self.observer.resumed(progress.epoch)
        splits = {"train": self.train, "validation": self.validation, "test": self.dataset.test}
        sizes = {name: len(split.labels) for name, split in splits.items()}
        self.observer.planned(self.plan, self.run, self.device, self.dataset, sizes)
        with TensorBoardLog(self.run.tensorboard, resume_step=progress.epoch + 1 if progress.epoch else None) as log:
            log_head(log, self.plan, self.dataset.name)
            progress = self._train(progress, log)
            try:
                self._test(progress, log)
            except DivergenceError as error:
                raise DivergenceError(f"the test of epoch {progress.best.epoch}: {error}; {REMEDY}") from None

    def _restore(self) -> _Progress:
        """Fill model and optimizer from the last checkpoint, and bring metrics.jsonl to the same epoch."""
        rule = self.spec.training.early_stopping
        stopping = None if rule is None else EarlyStopping(**rule.model_dump())
        checkpoint = self.store.latest()
        if checkpoint is None:
            return _Progress(0, BestEpoch(), stopping, 0.0)
        state = read_state(checkpoint)
        self._check_data(checkpoint.epoch)
        restore(checkpoint, self.model)
        lines = [line for line in self.run.read_metrics() if line["epoch"] < checkpoint.epoch]
        lines.append(checkpoint.state["metrics"])
        self.run.rewrite_metrics(lines)
        return _Progress(checkpoint.epoch, state.best, state.stopping, sum(line["seconds"] for line in lines))

    def _check_data(self, epoch: int) -> None:
        """The data must be what it was when the run began."""
        before, now = self.run.read_manifest().data.fingerprint, self.dataset.fingerprint
        if before != now:
            raise RunError(
                f"the data has changed since this run began (its fingerprint was {before} and is {now}), so it cannot "
                f"go on after epoch {epoch}; --fresh starts over"
            )

    def _manifest(self) -> dict[str, Any]:
        cost, model = self.plan.cost, self.spec.model
        return {
            **describe_environment(),
            "device": self.device,
            "replicas": self.trainer.num_replicas,
            "threads": self.threads,
            "deterministic": self.spec.training.deterministic,
            "data": {
                "name": self.dataset.name,
                "fingerprint": self.dataset.fingerprint,
                "data_dir": None if self.data_dir is None else str(self.data_dir),
                "image_shape": self.plan.image_shape,
                "class_names": self.dataset.class_names,
                "mean": [float(value) for value in self.mean],
                "std": [float(value) for value in self.std],
            },
            "pattern": name_pattern(model),
            "patterns": {conv.name: conv.pattern.digest for conv in self.plan.convs if conv.pattern is not None},
            "unique_weights": cost.unique_weights,
            "expanded_weights": cost.expanded_weights,
            "macs_dense": cost.macs_dense,
            "macs_tied": cost.macs_tied,
            "steps_per_epoch": self.steps_per_epoch,
        }

    # Epochs

    def _train(self, progress: _Progress, log: TensorBoardLog) -> _Progress:
        while progress.epoch < self.spec.training.epochs and not progress.stops:
            epoch = progress.epoch + 1
            self.observer.epoch_begins(epoch, self.steps_per_epoch)
            try:
                with device_failures():
                    result = self.trainer.run_epoch(
                        progress.epoch * self.steps_per_epoch, self.steps_per_epoch, self.observer.progressed
                    )
                    progress = self._end_epoch(progress, result, log)
            except KeyboardInterrupt:
                raise RunInterruptedError(f"interrupted in epoch {epoch}; {self._what_is_kept(progress)}") from None
            except DivergenceError as error:
                raise DivergenceError(f"epoch {epoch}: {error}; {self._what_is_kept(progress, REMEDY)}") from None
            except RunError as error:
                raise RunError(f"epoch {epoch}: {error}; {self._what_is_kept(progress)}") from None
        return progress

    def _what_is_kept(self, progress: _Progress, advice: str = "the same command goes on") -> str:
        if progress.epoch == 0:
            nothing = f"no epoch was complete, so there is no checkpoint in {self.run.path}"
            return f"{nothing}; {advice}" if advice is REMEDY else nothing
        return f"the checkpoint of epoch {progress.epoch} is kept in {self.run.checkpoints}; {advice}"

    def _end_epoch(self, progress: _Progress, result: EpochResult, log: TensorBoardLog) -> _Progress:
        epoch = progress.epoch + 1
        check_finite(self.model)
        line = self._metrics_line(epoch, result)
        validation = line["validation"] or {"accuracy": None, "loss": None}
        best = progress.best.update(epoch, validation["accuracy"], validation["loss"])
        stopping = progress.stopping
        if stopping is not None:
            stopping = stopping.update(validation["accuracy"], validation["loss"])
        state = {
            "step": epoch * self.steps_per_epoch,
            "best": best.as_dict(),
            "stopping": None if stopping is None else stopping.as_dict(),
            "metrics": line,
        }
        self.store.save(epoch, self.model, state)
        self.store.prune(keep={epoch, progress.epoch, best.epoch})
        self.run.append_metrics(line)
        log_epoch(log, line, result, self.plan, self.model)
        self.observer.epoch_ends(line)
        return _Progress(epoch, best, stopping, progress.seconds + line["seconds"])

    def _metrics_line(self, epoch: int, result: EpochResult) -> dict[str, Any]:
        validation = None
        if len(self.validation.labels):
            begin = time.perf_counter()
            loss, accuracy = compute_loss_and_accuracy(*self._predict(self.validation))
            speed = len(self.validation.labels) / (time.perf_counter() - begin)
            validation = {"loss": loss, "accuracy": accuracy, "images_per_second": round(speed, 1)}
        step = epoch * self.steps_per_epoch
        return {
            "epoch": epoch,
            "step": step,
            "learning_rate": float(self.schedule(step - 1)),
            "train": {
                "loss": result.loss,
                "accuracy": result.accuracy,
                "images_per_second": round(result.images_per_second, 1),
            },
            "validation": validation,
            "seconds": round(result.seconds, 3),
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
        }

    def _predict(self, split: Split) -> tuple[Any, Any]:
        """Logits and labels of a split."""
        return self.predict(evaluation_batches(split, batch_size=EVALUATION_BATCH, mean=self.mean, std=self.std))

    # The end

    def _test(self, progress: _Progress, log: TensorBoardLog) -> None:
        """Test the best epoch, and write the result: from here on the run is finished."""
        load_weights(self.store.of_epoch(progress.best.epoch), self.model)
        names = self.dataset.class_names
        begin = time.perf_counter()
        test = compute_evaluation(*self._predict(self.dataset.test), names)
        speed = test.images / (time.perf_counter() - begin)
        validation = None
        if len(self.validation.labels):
            validation = compute_evaluation(*self._predict(self.validation), names)
        rate = float(self.schedule(progress.best.epoch * self.steps_per_epoch - 1))
        extra = {"images_per_second": speed, "learning_rate": rate}
        log_end(log, progress.best.epoch, progress.epoch, test, validation, extra)
        result = {
            "test": test.as_dict(),
            "validation": None if validation is None else validation.as_dict(),
            "best_epoch": progress.best.epoch,
            "epochs": progress.epoch,
            "stopped_early": progress.epoch < self.spec.training.epochs,
            "seconds": round(progress.seconds, 3),
        }
        self.run.write_json("result.json", result)
