"""The life of a run: it starts or resumes, trains, and tests its best epoch."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiedexp.errors import DivergenceError, RunError, RunInterruptedError, RunLockedError
from tiedexp.experiment.assembly import Assembly, assemble, read_first_kernel
from tiedexp.experiment.data_check import DataCheck
from tiedexp.experiment.failures import REMEDY, record_failure, system_failures
from tiedexp.experiment.log import log_end, log_epoch, log_head, log_hparams_metrics
from tiedexp.experiment.observer import RunObserver
from tiedexp.experiment.preparation import locate_run, training_source
from tiedexp.experiment.resuming import check_same, find_checkpoint
from tiedexp.experiment.saving import Saver
from tiedexp.experiment.state import RunState, load_state
from tiedexp.metrics import compute_evaluation, compute_loss_and_accuracy
from tiedexp.runs.directory import RunDirectory
from tiedexp.runs.records import EpochLine, Manifest, Result, SplitLine, average_epoch_seconds
from tiedexp.runs.seal import write_seal
from tiedexp.runs.tensorboard import TensorBoardLog
from tiedexp.spec.loading import dump_spec
from tiedexp.spec.schema import ExperimentSpec
from tiedexp.training.checkpoint import CheckpointStore, check_finite, load_weights, restore
from tiedexp.training.devices import device_failures
from tiedexp.training.selection import BestEpoch, EarlyStopping
from tiedexp.training.weights_file import MAX_VALUES, write_array

if TYPE_CHECKING:
    from tiedexp.data.sources import Split
    from tiedexp.training.trainer import EpochResult


KILLED = "was killed, possibly out of memory, or the machine stopped"


class _StopRequested(Exception):  # noqa: N818  it is not an error
    """Raised when a run is asked to stop outside its training steps."""


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
    """Train, choose the best epoch by validation, test it, and save everything in the run's directory.

    A finished run is left as it is; one that was cut off is resumed from its last checkpoint. Nothing is written
    before everything is loaded and `should_stop` has returned False.

    Args:
        spec: the experiment.
        root: the directory of all runs.
        data_dir: TFDS data directory; None for $TFDS_DATA_DIR or the default of TFDS.
        fresh: start over even if the run is finished or can be resumed.
        allow_inexact: resume even a run that was started on another machine or with other versions.
        threads: CPU threads within an operation if the spec leaves them open; None for all cores. A resumed run keeps
            the number that it was started with.
        should_stop: called several times a second; once it returns True, a checkpoint is written and the run ends.
        observer: called with what happens.

    Raises:
        DatasetError: the data is missing or damaged.
        RunError: the run failed; what it has done so far is kept, with the reason in failure.json.
        RunInterruptedError: it was asked to stop, or Ctrl-C was pressed; a checkpoint is kept if there is one, and
            nothing at all otherwise.
    """
    observer = observer or RunObserver()
    run = locate_run(spec, root)
    if run.finished and not fresh:
        DataCheck(data_dir, observer.warned).check(run, spec)
    else:
        training_source(spec, data_dir).check()
        if run.is_locked():
            with run.lock():  # raises an error that names the other process
                pass
        before = None if fresh else _read_manifest(run)
        # With other threads, or tied convs computed otherwise, a resumed run would not end with the same bits.
        parts = assemble(
            spec,
            data_dir=data_dir,
            threads=threads if before is None else before.threads,
            implementations=None if before is None else before.implementations,
            warn=observer.warned,
        )
        if should_stop():
            raise RunInterruptedError("interrupted before training started; nothing has changed")
        process = ExperimentRun(parts, run, observer, should_stop)
        try:
            with run.lock() as left, record_failure(run), device_failures():
                if fresh:
                    run.clear()
                elif not run.finished and _read_manifest(run) != before:
                    raise RunLockedError(
                        f"another process has used {run.path} in the meantime; the same command resumes the run"
                    )
                if not run.finished:
                    if left is not None and before is not None:
                        observer.warned(f"the process before this one ({left}) {KILLED}")
                    process.complete(allow_inexact=allow_inexact)
        except RunInterruptedError:
            if process.saver.saved is None:  # there is nothing to resume from
                with suppress(RunLockedError):
                    run.delete()
            raise
    observer.finished(run, run.read_result())
    return run


def _read_manifest(run: RunDirectory) -> Manifest | None:
    """The manifest of a run; None if it has not started."""
    return run.read_manifest() if run.started else None


class ExperimentRun:
    """One run while it happens: from wherever it stands to its result.

    Args:
        parts: the assembled experiment.
        run: its directory, which is locked.
        observer: called with what happens.
        should_stop: called often; the run ends soon after it returns True.
    """

    def __init__(self, parts: Assembly, run: RunDirectory, observer: RunObserver, should_stop: Callable[[], bool]):
        self.parts, self.run, self.observer, self.should_stop = parts, run, observer, should_stop
        self.spec, self.model, self.steps_per_epoch = parts.spec, parts.model, parts.steps_per_epoch
        self.store = CheckpointStore(run.checkpoints)
        self.saver = Saver(self.store, parts.model, parts.steps_per_epoch)
        self.first_epoch = 1  # the first that this process completes

    def complete(self, *, allow_inexact: bool) -> None:
        """Start or resume the run, train it, and test its best epoch."""
        self.run.check_entries()
        self.run.check_format()
        state = self._resume(allow_inexact=allow_inexact) or self._start()
        self.run.write_spec(dump_spec(self.spec))
        source = training_source(self.spec, self.parts.data_dir)
        if source.path is not None or source.data_dir is not None:
            write_seal(self.run, source.name, source.path, source.data_dir)
        parts = self.parts
        self.observer.planned(parts.plan, self.run, parts.device, parts.dataset, parts.sizes)
        with TensorBoardLog(self.run.tensorboard, resume_step=state.epoch + 1 if state.epoch else None) as log:
            log_head(log, parts.plan, parts.dataset.name)
            for line in self.run.read_metrics():  # of earlier processes
                log_hparams_metrics(log, line)
            state = self._train(state, log)
            try:
                self._test(state, log)
            except _StopRequested:
                raise RunInterruptedError(f"interrupted in the test; {self.saver.describe()}") from None
            except DivergenceError as error:
                raise DivergenceError(f"the test of epoch {state.best.epoch}: {error}; {REMEDY}") from None

    def _start(self) -> RunState:
        """Write what a run has before its first step."""
        self.run.clear()
        self.run.remove_unfinished()
        self.run.write_manifest(self.parts.describe())
        name, kernel = read_first_kernel(self.model)
        if kernel.size <= MAX_VALUES:  # small enough for a picture
            write_array(self.run.initial_kernel, name, kernel)
        rule = self.spec.training.early_stopping
        return RunState(0, BestEpoch(), None if rule is None else EarlyStopping(**rule.model_dump()))

    def _resume(self, *, allow_inexact: bool) -> RunState | None:
        """Bring model, metrics.jsonl and checkpoints to the state of the newest usable checkpoint; None without one."""
        if not self.run.started:
            if self.store.latest() is not None:
                raise RunError(
                    f"{self.run.path} has checkpoints but no manifest.json, which says what they were made with, "
                    "so it cannot be resumed; --fresh starts over"
                )
            return None
        warn = self.observer.warned
        checkpoint = find_checkpoint(self.store, warn)
        if checkpoint is None:
            return None
        state, before = load_state(checkpoint), self.run.read_manifest()
        inexact = check_same(before, self.parts.describe(), state, allow_inexact=allow_inexact, warn=warn)
        if inexact is not None:
            self.run.write_manifest(before.model_copy(update={"inexact": (*before.inexact, inexact)}))
        self.run.remove_failure()
        restore(checkpoint, self.model)
        lines = [line for line in self.run.read_metrics() if line.epoch < state.epoch]
        if state.line is not None:
            lines.append(state.line)
        if len(lines) != state.epoch or any(line.epoch != at for at, line in enumerate(lines, 1)):
            warn(f"{self.run.path / 'metrics.jsonl'} has lost some epochs before epoch {state.epoch}")
        self.run.rewrite_metrics(lines)
        self.run.remove_unfinished()
        state = replace(state, seconds=sum(line.seconds for line in lines))
        self.saver.keep(state)
        self.observer.resumed(state.epoch, state.sums.steps)
        return state

    # Epochs

    def _train(self, state: RunState, log: TensorBoardLog) -> RunState:
        """Train to the last epoch, or until early stopping."""
        self.first_epoch = state.epoch + 1
        while state.epoch < self.spec.training.epochs and not state.stops:
            epoch = state.epoch + 1
            self.observer.epoch_started(epoch, self.steps_per_epoch)
            try:
                with device_failures(), system_failures():
                    state = self._run_steps(state)
                    if not self.should_stop():
                        state = self._end_epoch(state, log)
            except _StopRequested:
                pass
            except KeyboardInterrupt:
                raise RunInterruptedError(f"interrupted in epoch {epoch}; {self.saver.describe()}") from None
            except DivergenceError as error:
                raise DivergenceError(f"epoch {epoch}: {error}; {self.saver.describe(REMEDY)}") from None
            except RunError as error:
                raise RunError(f"epoch {epoch}: {error}; {self.saver.describe()}") from error
            if self.should_stop():
                if state.sums.steps and state.sums.steps not in state.kept:
                    state = self._save_step(state)
                where = f"in epoch {epoch}" if state.epoch < epoch else f"after epoch {epoch}"
                raise RunInterruptedError(f"interrupted {where}; {self.saver.describe()}")
        return state

    def _run_steps(self, state: RunState) -> RunState:
        """Train to the end of an epoch, or until asked to stop, saving checkpoints on the way."""
        every = self.spec.checkpoint.every_steps or self.steps_per_epoch
        first_step = state.epoch * self.steps_per_epoch
        while state.sums.steps < self.steps_per_epoch and not self.should_stop():
            until = min((state.sums.steps // every + 1) * every, self.steps_per_epoch)
            sums = self.parts.trainer.run_steps(
                first_step, state.sums, until, self.observer.progressed, self.should_stop
            )
            state = replace(state, sums=sums)
            if until < self.steps_per_epoch and sums.steps == until:
                state = self._save_step(state)
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
        # Before the checkpoint: a run that resumes from it does not log this epoch again.
        log_epoch(log, line, result, self.parts.plan, self.model)
        state = self.saver.save(RunState(epoch, best, stopping, state.seconds + line.seconds, line))
        self.run.append_metrics(line)
        self.observer.epoch_finished(line)
        return state

    def _save_step(self, state: RunState) -> RunState:
        check_finite(self.model)
        return self.saver.save(state)

    def _metrics_line(self, epoch: int, result: EpochResult) -> EpochLine:
        validation = None
        if len(self.parts.validation.labels):
            begin = time.perf_counter()
            loss, accuracy = compute_loss_and_accuracy(*self._predict(self.parts.validation))
            speed = len(self.parts.validation.labels) / (time.perf_counter() - begin)
            validation = SplitLine(loss=loss, accuracy=accuracy, images_per_second=round(speed, 1))
        step = epoch * self.steps_per_epoch
        return EpochLine(
            epoch=epoch,
            step=step,
            learning_rate=self.parts.learning_rate(step),
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

        def until_stop() -> Iterator[Any]:
            for batch in self.parts.evaluation_batches(split):
                if self.should_stop():
                    raise _StopRequested
                yield batch

        return self.parts.predictor(until_stop())

    # The end

    def _test(self, state: RunState, log: TensorBoardLog) -> None:
        """Test the best epoch and write result.json, which makes the run a finished one."""
        load_weights(self.store.of_epoch(state.best.epoch), self.model)
        names = self.parts.dataset.class_names
        begin = time.perf_counter()
        test = compute_evaluation(*self._predict(self.parts.dataset.test), names)
        speed = test.images / (time.perf_counter() - begin)
        validation = None
        if len(self.parts.validation.labels):
            validation = compute_evaluation(*self._predict(self.parts.validation), names)
        rate = self.parts.learning_rate(state.best.epoch * self.steps_per_epoch)
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
