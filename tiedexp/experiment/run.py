"""A run, from wherever it stands to its result."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras

from tiedexp.convolution.choosing import NATIVE
from tiedexp.convolution.cpp.library import find_version
from tiedexp.data.pipeline import evaluation_batches, normalisation
from tiedexp.errors import (
    DivergenceError,
    RunError,
    RunInterruptedError,
    RunLockedError,
    SpecError,
    TiedexpError,
    explain_os_error,
)
from tiedexp.experiment.build import (
    EVALUATION_BATCH,
    build_batches,
    build_model,
    build_optimizer,
    build_schedule,
    build_trainer,
    load_splits,
    read_first_kernel,
    read_implementations,
)
from tiedexp.experiment.data_check import DataCheck
from tiedexp.experiment.limits import check_step_fits
from tiedexp.experiment.log import log_end, log_epoch, log_head, log_hparams_metrics
from tiedexp.experiment.observer import RunObserver
from tiedexp.experiment.preparation import (
    describe_spec,
    locate_run,
    name_pattern,
    plan_model,
    resolve_data_dir,
    training_source,
)
from tiedexp.experiment.state import RunState, load_state
from tiedexp.metrics import Predictor, compute_evaluation, compute_loss_and_accuracy
from tiedexp.runs.directory import RunDirectory
from tiedexp.runs.manifest import describe_environment, find_differences
from tiedexp.runs.records import (
    DataRecord,
    EpochLine,
    InexactResume,
    Manifest,
    Result,
    SplitLine,
    average_epoch_seconds,
)
from tiedexp.runs.seal import write_seal
from tiedexp.runs.tensorboard import TensorBoardLog
from tiedexp.spec.loading import dump_spec
from tiedexp.spec.schema import ExperimentSpec
from tiedexp.training.checkpoint import Checkpoint, CheckpointStore, check_finite, load_weights, restore
from tiedexp.training.devices import build_strategy, describe_devices, device_failures, set_up_process, uses_gpus
from tiedexp.training.selection import BestEpoch, EarlyStopping
from tiedexp.training.weights_file import MAX_VALUES, write_array

if TYPE_CHECKING:
    from tiedexp.data.sources import Split
    from tiedexp.training.trainer import EpochResult


KILLED = "was killed, possibly out of memory, or the machine stopped"
REMEDY = "the same spec would fail again, so change it: a smaller learning_rate, a warm-up or gradient_clipping"


class _StopRequested(Exception):  # noqa: N818  it is no error
    """Raised where a run is asked to stop outside of training steps."""


@device_failures()
def run_experiment(
    spec: ExperimentSpec,
    *,
    root: Path,
    data_dir: Path | None = None,
    fresh: bool = False,
    allow_inexact: bool = False,
    threads: int | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    observer: RunObserver | None = None,
) -> RunDirectory:
    """Train, choose the best epoch by validation, test it, and keep everything in the run's directory.

    A run that is finished is left as it is; one that was cut off goes on from its last checkpoint. Nothing is written
    before all is loaded and `should_stop` has said no.

    Args:
        spec: the experiment.
        root: directory of all runs.
        data_dir: TFDS data directory; None for $TFDS_DATA_DIR or the default of TFDS.
        fresh: begin again even so.
        allow_inexact: go on with a run that was begun on another machine or with other versions.
        threads: CPU threads within an operation where the spec leaves them open; None for all cores. A run that goes
            on keeps those it was begun with.
        should_stop: asked several times a second; once it says yes, a checkpoint is written and the run ends.
        observer: is told what happens.

    Raises:
        DatasetError: no data.
        RunError: the run failed; what it did so far is kept, with the reason in failure.json.
        RunInterruptedError: it was asked to stop, or Ctrl-C came; a checkpoint is kept, or else nothing at all.
    """
    observer = observer or RunObserver()
    run = locate_run(spec, root)
    if run.finished and not fresh:
        DataCheck(data_dir, observer.warned).check(run, spec)
    else:
        training_source(spec, data_dir).check()
        if run.is_locked():
            with run.lock():  # says at once who is in it
                pass
        begun = None if fresh else _read_begun(run)
        parts = ExperimentRun(spec, run, data_dir, threads, observer, should_stop, begun)
        if should_stop():
            raise RunInterruptedError("interrupted before the training began; nothing has changed")
        try:
            with run.lock() as left, _keep_failure(run), device_failures():
                if fresh:
                    run.clear()
                elif not run.finished and _read_begun(run) != begun:
                    raise RunLockedError(f"another process was in {run.path} meanwhile; the same command goes on")
                if not run.finished:
                    if left is not None and begun is not None:
                        observer.warned(f"the process before this one ({left}) {KILLED}")
                    parts.complete(allow_inexact=allow_inexact)
        except RunInterruptedError:
            if parts.saved is None:  # there is nothing to go on from
                with suppress(RunLockedError):
                    run.delete()
            raise
    observer.finished(run, run.read_result())
    return run


def _read_begun(run: RunDirectory) -> Manifest | None:
    """The manifest of a run that has begun; None if it has not."""
    return run.read_manifest() if run.inside("manifest.json").is_file() else None


@contextmanager
def _keep_failure(run: RunDirectory) -> Iterator[None]:
    """Write into the run's directory why the block failed; what the system refuses becomes a RunError."""
    try:
        try:
            yield
        except MemoryError as error:
            raise RunError(f"out of memory{f': {error}' if str(error) else ''}") from error
        except OSError as error:
            raise RunError(explain_os_error(error)) from error
    except (RunLockedError, RunInterruptedError):
        raise
    except TiedexpError as error:
        if not run.finished:
            with suppress(OSError, RunError):  # a full disk is perhaps why
                run.write_failure(str(error))
        raise


class ExperimentRun:
    """One run while it happens: the parts of the experiment, and where each goes."""

    def __init__(
        self,
        spec: ExperimentSpec,
        run: RunDirectory,
        data_dir: Path | None,
        threads: int | None,
        observer: RunObserver,
        should_stop: Callable[[], bool],
        begun: Manifest | None = None,
    ):
        self.spec, self.run, self.observer, self.should_stop = spec, run, observer, should_stop
        self.data_dir = resolve_data_dir(spec, data_dir)
        training = spec.training
        # With other threads, or another choice of how to compute, a run that goes on would not end with the same bits.
        self.threads = set_up_process(
            threads=training.threads,
            deterministic=training.deterministic,
            preferred_threads=threads if begun is None else begun.threads,
        )
        self.files = training_source(spec).stamp()  # before they are read: if they change meanwhile, it is noticed
        self.dataset, self.train, self.validation = load_splits(spec, self.data_dir, observer.warned)
        self.plan = plan_model(spec, self.dataset.image_shape, self.dataset.num_classes)
        if not uses_gpus():  # on which running out of memory is an error of TensorFlow's
            check_step_fits(self.plan, self.dataset)
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
            self.model = build_model(self.plan, None if begun is None else begun.implementations)
            optimizer = build_optimizer(spec, self.schedule)
            optimizer.build(self.model.trainable_variables)
            self.model.compile(optimizer=optimizer)  # so that `save_weights` takes the optimizer's state along
        self.trainer = build_trainer(spec, self.model, batches, strategy)
        self.predict = Predictor(self.model)
        self.store = CheckpointStore(run.checkpoints)
        self.saved: RunState | None = None  # where the newest checkpoint is
        self.first_epoch = 1  # that this process ends

    def complete(self, *, allow_inexact: bool) -> None:
        """From wherever the run stands to its result."""
        self.run.check_entries()
        self.run.check_format()
        begun = self.run.inside("manifest.json").is_file()
        if not begun and self.store.latest() is not None:
            raise RunError(
                f"{self.run.path} has checkpoints but no manifest.json, which says what they were made with, "
                "so it cannot go on; --fresh starts over"
            )
        checkpoint = self._find_checkpoint() if begun else None
        if checkpoint is None:
            self.run.clear()
            self.run.remove_unfinished()
            self.run.write_manifest(self._manifest())
            self._keep_first_kernel()
            rule = self.spec.training.early_stopping
            state = RunState(0, BestEpoch(), None if rule is None else EarlyStopping(**rule.model_dump()))
        else:
            state = load_state(checkpoint)
            self._check_same(state, allow_inexact=allow_inexact)
            self.run.inside("failure.json").unlink(missing_ok=True)
            self.saved = state = self._restore(checkpoint, state)
            self.observer.resumed(state.epoch, state.sums.steps)
        self.run.write_spec(dump_spec(self.spec))
        source = training_source(self.spec, self.data_dir)
        if source.path is not None or source.data_dir is not None:
            write_seal(self.run, source.name, source.path, source.data_dir)
        splits = {"train": self.train, "validation": self.validation, "test": self.dataset.test}
        sizes = {name: len(split.labels) for name, split in splits.items()}
        self.observer.planned(self.plan, self.run, self.device, self.dataset, sizes)
        with TensorBoardLog(self.run.tensorboard, resume_step=state.epoch + 1 if state.epoch else None) as log:
            log_head(log, self.plan, self.dataset.name)
            for line in self.run.read_metrics():  # of earlier processes
                log_hparams_metrics(log, line)
            state = self._train(state, log)
            try:
                self._test(state, log)
            except _StopRequested:
                raise RunInterruptedError(f"interrupted in the test; {self._what_is_kept()}") from None
            except DivergenceError as error:
                raise DivergenceError(f"the test of epoch {state.best.epoch}: {error}; {REMEDY}") from None

    def _keep_first_kernel(self) -> None:
        """Write what pictures set beside the kernel that is learnt, where that is small enough for a picture."""
        name, kernel = read_first_kernel(self.model)
        if kernel.size <= MAX_VALUES:
            write_array(self.run.initial_kernel, name, kernel)

    def _find_checkpoint(self) -> Checkpoint | None:
        """The newest checkpoint whose best epoch can still be tested; the newest of all if there is no such.

        To go back further costs time and nothing else: the same epochs come to the same bits.
        """
        newest, lost = None, ""
        for checkpoint in self.store.newest_first(self.observer.warned):
            best = load_state(checkpoint).best.epoch
            if not best or self.store.find(best) is not None:
                if lost:
                    self.observer.warned(f"{lost}: the run goes on from before it, and comes to the same")
                return checkpoint
            newest = newest or checkpoint
            lost = f"the checkpoint of the best epoch so far, {best}, is missing or damaged"
        if newest is not None:
            self.observer.warned(
                f"{lost}, and there is none before it: unless a later epoch is better, the run cannot be tested; "
                "--fresh starts over, and comes to the same"
            )
        return newest

    def _check_same(self, state: RunState, *, allow_inexact: bool) -> None:
        """The data must be what it was when the run began, and so must the machine, or the user does not mind."""
        before = self.run.read_manifest()
        after = (
            f"epoch {state.epoch}" if not state.sums.steps else f"step {state.sums.steps} of epoch {state.epoch + 1}"
        )
        if before.data.fingerprint != self.dataset.fingerprint:
            raise RunError(
                f"the data has changed since this run began (its fingerprint was {before.data.fingerprint} and is "
                f"{self.dataset.fingerprint}), so it cannot go on after {after}; --fresh starts over"
            )
        differences = find_differences(before, self._manifest())
        if not differences:
            return
        text = f"after {after} this run goes on with {'; '.join(differences)}"
        if not allow_inexact:
            raise RunError(
                f"{text}: the result may differ from that of a run that never stopped; "
                "--allow-inexact goes on even so, --fresh starts over"
            )
        self.observer.warned(text)
        resume = InexactResume(after_epoch=state.epoch, after_step=state.sums.steps, differences=differences)
        self.run.write_manifest(before.model_copy(update={"inexact": (*before.inexact, resume)}))

    def _restore(self, checkpoint: Checkpoint, state: RunState) -> RunState:
        """Fill model and optimizer from a checkpoint, and bring metrics.jsonl to the same epoch."""
        restore(checkpoint, self.model)
        lines = [line for line in self.run.read_metrics() if line.epoch < state.epoch]
        if state.line is not None:
            lines.append(state.line)
        if len(lines) != state.epoch or any(line.epoch != at for at, line in enumerate(lines, 1)):
            self.observer.warned(f"{self.run.path / 'metrics.jsonl'} has lost some epochs before epoch {state.epoch}")
        self.run.rewrite_metrics(lines)
        self.run.remove_unfinished()
        self._prune(state)
        return replace(state, seconds=sum(line.seconds for line in lines))

    def _manifest(self) -> Manifest:
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

    # Epochs

    def _train(self, state: RunState, log: TensorBoardLog) -> RunState:
        self.first_epoch = state.epoch + 1
        while state.epoch < self.spec.training.epochs and not state.stops:
            epoch = state.epoch + 1
            self.observer.epoch_begins(epoch, self.steps_per_epoch)
            try:
                with device_failures():
                    state = self._run_steps(state)
                    if not self.should_stop():
                        state = self._end_epoch(state, log)
            except _StopRequested:
                pass
            except KeyboardInterrupt:
                raise RunInterruptedError(f"interrupted in epoch {epoch}; {self._what_is_kept()}") from None
            except DivergenceError as error:
                raise DivergenceError(f"epoch {epoch}: {error}; {self._what_is_kept(REMEDY)}") from None
            except RunError as error:
                raise RunError(f"epoch {epoch}: {error}; {self._what_is_kept()}") from None
            except MemoryError as error:
                raise RunError(f"epoch {epoch}: out of memory; {self._what_is_kept()}") from error
            except OSError as error:
                raise RunError(f"epoch {epoch}: {explain_os_error(error)}; {self._what_is_kept()}") from error
            if self.should_stop():
                if state.sums.steps and state.sums.steps not in state.kept:
                    state = self._save(state)
                where = f"in epoch {epoch}" if state.epoch < epoch else f"after epoch {epoch}"
                raise RunInterruptedError(f"interrupted {where}; {self._what_is_kept()}")
        return state

    def _run_steps(self, state: RunState) -> RunState:
        """Train to the end of an epoch, or until asked to stop, with checkpoints on the way."""
        every = self.spec.checkpoint.every_steps or self.steps_per_epoch
        first_step = state.epoch * self.steps_per_epoch
        while state.sums.steps < self.steps_per_epoch and not self.should_stop():
            until = min((state.sums.steps // every + 1) * every, self.steps_per_epoch)
            sums = self.trainer.run_steps(first_step, state.sums, until, self.observer.progressed, self.should_stop)
            state = replace(state, sums=sums)
            if until < self.steps_per_epoch and sums.steps == until:
                state = self._save(state)
        return state

    def _end_epoch(self, state: RunState, log: TensorBoardLog) -> RunState:
        check_finite(self.model)
        epoch, result = state.epoch + 1, state.sums.result(self.spec.training.batch_size)
        line = self._metrics_line(epoch, result)
        best, stopping = state.best.update(epoch, None, None), state.stopping
        if line.validation is not None:
            accuracy, loss = line.validation.accuracy, line.validation.loss
            best = state.best.update(epoch, accuracy, loss)
            stopping = None if stopping is None else stopping.update(accuracy, loss)
        # Before the checkpoint: a run that goes on after it does not come here again.
        log_epoch(log, line, result, self.plan, self.model)
        state = self._save(RunState(epoch, best, stopping, state.seconds + line.seconds, line))
        self.run.append_metrics(line)
        self.observer.epoch_ends(line)
        return state

    def _save(self, state: RunState) -> RunState:
        """Write a checkpoint, and keep of the others the last two of epochs, the best, and the last two of steps."""
        step = state.sums.steps
        if step:
            check_finite(self.model)
        self.store.save(state.epoch, self.model, state.as_dict(), step=step)
        state = replace(state, kept=(*state.kept[-1:], step) if step else ())
        self._prune(state)
        self.saved = state
        return state

    def _prune(self, state: RunState) -> None:
        epochs = {state.epoch, state.epoch - 1, state.best.epoch}
        self.store.prune({*((epoch, 0) for epoch in epochs), *((state.epoch, step) for step in state.kept)})

    def _what_is_kept(self, advice: str = "the same command goes on") -> str:
        state = self.saved
        if state is not None and state.kept:
            what = f"the checkpoint of step {state.kept[-1]} of {self.steps_per_epoch} of epoch {state.epoch + 1}"
        elif state is not None:
            what = f"the checkpoint of epoch {state.epoch}"
        else:
            nothing = f"no epoch was complete, so there is no checkpoint in {self.run.path}"
            return f"{nothing}; {advice}" if advice is REMEDY else nothing
        return f"{what} is kept in {self.run.checkpoints}; {advice}"

    def _metrics_line(self, epoch: int, result: EpochResult) -> EpochLine:
        validation = None
        if len(self.validation.labels):
            begin = time.perf_counter()
            loss, accuracy = compute_loss_and_accuracy(*self._predict(self.validation))
            speed = len(self.validation.labels) / (time.perf_counter() - begin)
            validation = SplitLine(loss=loss, accuracy=accuracy, images_per_second=round(speed, 1))
        step = epoch * self.steps_per_epoch
        return EpochLine(
            epoch=epoch,
            step=step,
            learning_rate=float(self.schedule(step - 1)),
            train=SplitLine(
                loss=result.loss, accuracy=result.accuracy, images_per_second=round(result.images_per_second, 1)
            ),
            validation=validation,
            seconds=round(result.seconds, 3),
            first_of_process=epoch == self.first_epoch,
            time=datetime.now(UTC).isoformat(timespec="seconds"),
        )

    def _predict(self, split: Split) -> tuple[Any, Any]:
        """Logits and labels of a split."""
        batches = evaluation_batches(split, batch_size=EVALUATION_BATCH, mean=self.mean, std=self.std)
        return self.predict(self._until_stop(batches))

    def _until_stop(self, batches: Iterable[Any]) -> Iterator[Any]:
        for batch in batches:
            if self.should_stop():
                raise _StopRequested
            yield batch

    # The end

    def _test(self, state: RunState, log: TensorBoardLog) -> None:
        """Test the best epoch, and write the result: from here on the run is finished."""
        load_weights(self.store.of_epoch(state.best.epoch), self.model)
        names = self.dataset.class_names
        begin = time.perf_counter()
        test = compute_evaluation(*self._predict(self.dataset.test), names)
        speed = test.images / (time.perf_counter() - begin)
        validation = None
        if len(self.validation.labels):
            validation = compute_evaluation(*self._predict(self.validation), names)
        rate = float(self.schedule(state.best.epoch * self.steps_per_epoch - 1))
        extra = {"images_per_second": speed, "learning_rate": rate}
        log_end(log, state.best.epoch, state.epoch, test, validation, extra)
        result = Result(
            test=test,
            validation=validation,
            best_epoch=state.best.epoch,
            epochs=state.epoch,
            stopped_early=state.epoch < self.spec.training.epochs,
            seconds=round(state.seconds, 3),
            epoch_seconds=average_epoch_seconds(self.run.read_metrics()),
        )
        self.run.write_result(result)
