"""Executes one run of a sweep, in a process of its own or on another machine."""

from __future__ import annotations

import os
import platform
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from multiprocessing import connection, parent_process
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tiedexp.backend import quiet_tensorflow
from tiedexp.errors import (
    DivergenceError,
    RunInterruptedError,
    RunLockedError,
    SpecError,
    TiedexpError,
    explain_os_error,
)
from tiedexp.experiment.observer import RunObserver
from tiedexp.experiment.preparation import locate_run
from tiedexp.signals import stop_on_signals
from tiedexp.spec.schema import ExperimentSpec

if TYPE_CHECKING:
    from tiedexp.experiment.step_time import StepTime
    from tiedexp.runs.records import EpochLine
    from tiedexp.training.trainer import Progress as TrainingProgress

REPORT_SECONDS = 0.25


@dataclass(frozen=True)
class Task:
    """What a worker should do.

    Args:
        spec: the experiment.
        root: the sweep's directory, the root of its runs.
        data_dir: TFDS data directory.
        fresh: start over instead of resuming.
        allow_inexact: resume even on another machine, although the results can then differ.
        threads: CPU threads within one operation, unless the spec or the existing run says otherwise.
        gpus: the numbers of the GPUs it can use; None for all.
    """

    spec: ExperimentSpec
    root: Path
    data_dir: Path | None = None
    fresh: bool = False
    allow_inexact: bool = False
    threads: int | None = None
    gpus: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Progress:
    """The progress of a run: epochs done, epochs in total, the fraction of all steps, and the latest accuracy."""

    epoch: int
    epochs: int
    share: float
    accuracy: float | None


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Args:
        kind: finished; failed; stopped, with a checkpoint; or locked, if another process has the run.
        message: why the run did not finish.
        may_retry: whether another attempt might succeed.
        accuracy: the test accuracy.
    """

    kind: Literal["finished", "failed", "stopped", "locked"]
    message: str = ""
    may_retry: bool = False
    accuracy: float | None = None


class _Reporter(RunObserver):
    """Calls a function with the progress of the run, a few times a second."""

    def __init__(self, epochs: int, report: Callable[[Progress], None]):
        self._epochs, self._report = epochs, report
        self._done, self._steps, self._last = 0, 1, 0.0
        self._accuracy: float | None = None

    def resumed(self, epochs_done: int, steps_done: int) -> None:
        self._done = epochs_done

    def warned(self, text: str) -> None:
        print(f"warning: {text}", flush=True)

    def epoch_started(self, epoch: int, num_steps: int) -> None:
        self._steps = num_steps

    def progressed(self, progress: TrainingProgress) -> None:
        now = time.monotonic()
        if now - self._last >= REPORT_SECONDS:
            self._last = now
            self._tell(progress.step / self._steps)

    def epoch_finished(self, line: EpochLine) -> None:
        self._done = line.epoch
        self._accuracy = line.measured.accuracy
        print(f"epoch {line.epoch}: accuracy {self._accuracy:.4f}", flush=True)
        self._tell(0.0)

    def _tell(self, share_of_epoch: float) -> None:
        share = (self._done + share_of_epoch) / self._epochs
        self._report(Progress(self._done, self._epochs, share, self._accuracy))


def execute(
    task: Task,
    report: Callable[[Progress], None] = lambda progress: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Outcome:
    """Do or resume the run; errors that tiedexp raises deliberately become the outcome."""
    from tiedexp.experiment.run import run_experiment

    try:
        done = run_experiment(
            task.spec,
            root=task.root,
            data_dir=task.data_dir,
            fresh=task.fresh,
            allow_inexact=task.allow_inexact,
            threads=task.threads,
            should_stop=should_stop,
            observer=_Reporter(task.spec.training.epochs, report),
        )
        return Outcome("finished", accuracy=done.read_result().test.accuracy)
    except RunLockedError as error:
        return Outcome("locked", str(error))
    except RunInterruptedError as error:
        return Outcome("stopped", str(error))
    except TiedexpError as error:
        return Outcome("failed", str(error), may_retry=not isinstance(error, DivergenceError | SpecError))


def run_in_process(task: Task, answers: connection.Connection) -> None:
    """The main function of a worker process: sends progress and the outcome to `answers`, and output to log.txt."""
    _become_worker(task)
    with stop_on_signals() as should_stop:
        answers.send(execute_with_log(task, answers.send, should_stop))


def execute_with_log(task: Task, report: Callable[[Progress], None], should_stop: Callable[[], bool]) -> Outcome:
    """`execute`, with all further output of this process redirected to the run's log.txt.

    If the log cannot be written either, e.g. on a full disk, that is the outcome.
    """
    try:
        log = locate_run(task.spec, task.root).open_log()
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.close(log)
        now, host = datetime.now().astimezone().isoformat(timespec="seconds"), platform.node()
        print(f"--- {now}, process {os.getpid()} on {host}", flush=True)
        with quiet_tensorflow():
            outcome = execute(task, report, should_stop)
    except OSError as error:
        outcome = Outcome("failed", explain_os_error(error), may_retry=True)
    except TiedexpError as error:
        outcome = Outcome("failed", str(error))
    with suppress(OSError):
        print(outcome.kind + (f": {outcome.message}" if outcome.message else ""), flush=True)
    return outcome


def time_in_process(task: Task, answers: connection.Connection) -> None:
    """Time a few steps of the task's experiment and send the `StepTime`, or an `Outcome` if that fails."""
    _become_worker(task)
    answer: StepTime | Outcome
    with quiet_tensorflow():
        from tiedexp.experiment.step_time import time_steps

        try:
            answer = time_steps(task.spec, data_dir=task.data_dir, threads=task.threads)
        except TiedexpError as error:
            answer = Outcome("failed", str(error))
    answers.send(answer)


def _become_worker(task: Task) -> None:
    # So that Ctrl-C in the terminal reaches only the parent, which passes it on; a second signal would kill the run.
    os.setpgid(0, 0)
    if task.gpus is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(task.gpus)
    threading.Thread(target=_stop_with_parent, daemon=True).start()


def _stop_with_parent() -> None:
    """If the parent is killed, stop as if it had asked for that, so that the next sweep finds the run unlocked."""
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)
