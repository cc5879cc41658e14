"""Runs a sweep on this machine: one process per run, forked from a process that has imported TensorFlow."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import connection, forkserver, get_context
from multiprocessing.process import BaseProcess
from typing import TYPE_CHECKING, Any

from tiedexp.errors import RunError
from tiedexp.host import count_cores, find_available_memory
from tiedexp.sweep.ledger import Ledger, Results
from tiedexp.sweep.observer import SweepObserver
from tiedexp.sweep.planning import SweepPlan, SweepRun
from tiedexp.sweep.worker import Outcome, Progress, Task, run_in_process, time_in_process

if TYPE_CHECKING:
    from tiedexp.experiment.step_time import StepTime

LOOK_SECONDS = 0.25  # between checks of runs that another process works on, and between refreshes of the view
WORKER_BYTES = 1 << 30  # about what a worker with a small model needs


def find_gpus() -> tuple[str, ...]:
    """The GPUs that $CUDA_VISIBLE_DEVICES or, if it is not set, nvidia-smi lists; does not load TensorFlow."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return tuple(name.strip() for name in visible.split(",") if name.strip() not in ("", "-1"))
    if shutil.which("nvidia-smi") is None:
        return ()
    listed = subprocess.run(["nvidia-smi", "--list-gpus"], capture_output=True, text=True, timeout=30, check=False)
    return tuple(str(number) for number, line in enumerate(listed.stdout.splitlines()) if line.startswith("GPU"))


def choose_jobs(num_runs: int) -> int:
    """How many runs to do at a time: one per GPU, or without GPUs one per core, as far as memory allows."""
    gpus = find_gpus()
    if gpus:
        return min(num_runs, len(gpus))
    memory = find_available_memory()
    fitting = num_runs if memory is None else memory // WORKER_BYTES
    return max(1, min(num_runs, count_cores(), fitting))


def deal_gpus(gpus: Sequence[str], jobs: int) -> list[tuple[str, ...] | None]:
    """The GPUs of each of the `jobs` slots, None without GPUs; with more slots than GPUs, slots share them in turn."""
    if not gpus:
        return [None] * jobs
    return [tuple(gpus[slot::jobs]) or (gpus[slot % len(gpus)],) for slot in range(jobs)]


@dataclass
class _Worker:
    """A worker process and its answers."""

    run: SweepRun
    slot: int
    process: BaseProcess
    answers: connection.Connection
    outcome: Outcome | None = None


class LocalExecutor:
    """Does the runs of a sweep, several at a time.

    Args:
        jobs: the number of runs at a time, among which the cores are divided; None chooses it.
        task: the task of each run, apart from its spec.
        retries: further attempts for a run that failed; each resumes from the last checkpoint.
        fail_fast: stop the other runs once a run has failed for good.
        observer: is notified of what happens.
    """

    def __init__(self, jobs: int | None, task: Task, *, retries: int, fail_fast: bool, observer: SweepObserver):
        self._jobs, self._task, self._fail_fast = jobs, task, fail_fast
        self._observer, self._ledger = observer, Ledger(retries, observer)
        self._gpus: list[tuple[str, ...] | None] = []
        self._queue: deque[SweepRun] = deque()
        self._active: list[_Worker] = []
        self._free: list[int] = []
        self._stopping = False

    def run(self, plan: SweepPlan, runs: Sequence[SweepRun], should_stop: Callable[[], bool]) -> Results:
        """Do runs of a plan; when asked to stop, active runs write a checkpoint and end.

        Nothing is written, and `should_stop` is not called, before TensorFlow is loaded.
        """
        if runs:
            load_tensorflow()
        if should_stop():
            self._ledger.results.interrupted = True
            return self._ledger.results
        plan.begin()
        jobs = self._jobs or choose_jobs(max(1, len(runs)))
        threads = max(1, count_cores() // jobs)
        self._task = replace(self._task, threads=threads)
        self._gpus, self._free = deal_gpus(find_gpus(), jobs), list(range(jobs))
        self._queue.extend(runs)
        each = f"{threads} thread{'s' * (threads > 1)} each"
        self._observer.begins(plan, runs, f"{jobs} at a time, {each}" if jobs > 1 else f"one at a time, {each}")
        try:
            while self._queue or self._active:
                if should_stop():
                    self._ledger.results.interrupted = True
                    self._stop()
                self._start_some()
                self._listen()
                self._observer.refresh()
        finally:  # even if the observer raises
            self._stop()
            for worker in self._active:
                worker.process.join()
                worker.run.directory.remove_empty()
            self._ledger.write_failures()
        return self._ledger.results

    def _start_some(self) -> None:
        for _ in range(len(self._queue)):
            if not self._free:
                return
            run = self._queue.popleft()
            if run.directory.is_locked():
                self._observer.waits(run)
                self._queue.append(run)
                continue
            slot = self._free.pop(0)
            task = replace(self._task, spec=run.spec, gpus=self._gpus[slot])
            self._active.append(_Worker(run, slot, *start_worker(run_in_process, task)))
            self._observer.started(run)

    def _listen(self) -> None:
        if not self._active:
            time.sleep(LOOK_SECONDS if self._queue else 0)
            return
        handles: list[Any] = [worker.process.sentinel for worker in self._active]
        connection.wait([*handles, *(worker.answers for worker in self._active)], timeout=LOOK_SECONDS)
        for worker in list(self._active):
            ended = not worker.process.is_alive()  # checked before reading the answers, so that none is missed
            for answer in _read_answers(worker.answers):
                if isinstance(answer, Outcome):
                    worker.outcome = answer
                else:
                    assert isinstance(answer, Progress)
                    self._observer.progressed(worker.run, answer)
            if ended or worker.answers.closed:
                worker.process.join()
                self._active.remove(worker)
                self._free.append(worker.slot)
                self._conclude(worker)

    def _conclude(self, worker: _Worker) -> None:
        outcome = worker.outcome or _explain_death(worker)
        if self._stopping and outcome.kind != "finished":
            return  # it was asked to stop
        if self._ledger.note(worker.run, outcome):
            self._queue.append(worker.run)
        elif outcome.kind != "finished" and self._fail_fast:
            self._stop()

    def _stop(self) -> None:
        self._queue.clear()
        if not self._stopping:
            for worker in self._active:
                worker.process.terminate()
        self._stopping = True


def time_steps_of(tasks: Sequence[Task], jobs: int) -> list[StepTime]:
    """Time some training steps of each task, `jobs` tasks at a time.

    Raises:
        RunError: a task cannot be trained.
    """
    times: list[StepTime] = []
    for at in range(0, len(tasks), jobs):
        started = [(task, *start_worker(time_in_process, task)) for task in tasks[at : at + jobs]]
        for task, process, answers in started:
            try:
                answer = answers.recv()
            except EOFError:
                answer = None
            process.join()
            if answer is None or isinstance(answer, Outcome):
                reason = answer.message if answer else _describe_exit(process)
                raise RunError(f"the steps of {task.spec.name} cannot be timed: {reason}")
            times.append(answer)
    return times


def load_tensorflow() -> None:
    """Wait until the process that workers are forked from has imported TensorFlow."""
    process, answers = start_worker(_do_nothing, None)
    process.join()
    answers.close()


def _do_nothing(task: None, answers: connection.Connection) -> None:
    pass


def start_worker(target: Callable[..., None], task: Task | None) -> tuple[BaseProcess, connection.Connection]:
    """Fork a process that runs `target(task, connection)` from the process that has imported TensorFlow."""
    context = get_context("forkserver")
    context.set_forkserver_preload(["tiedexp.sweep.preload"])
    os.environ["TIEDEXP_SWEEP_PID"] = str(os.getpid())  # see preload.py
    with _discard_stderr():
        forkserver.ensure_running()
    reader, writer = context.Pipe(duplex=False)
    process = context.Process(target=target, args=(task, writer))
    process.start()
    writer.close()  # so that the reader notices when the worker ends
    return process, reader


@contextmanager
def _discard_stderr() -> Iterator[None]:
    """Discard the stderr of the process that is started here, because TensorFlow prints notices in it."""
    sys.stderr.flush()
    stderr, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(null)


def _read_answers(answers: connection.Connection) -> Iterator[Any]:
    """The answers that a worker has sent; closes the connection once the worker has ended."""
    try:
        while answers.poll():
            yield answers.recv()
    except (EOFError, OSError):
        answers.close()


def _explain_death(worker: _Worker) -> Outcome:
    """The outcome of a worker that ended without sending one."""
    log = worker.run.directory.path / "log.txt"
    return Outcome("failed", f"{_describe_exit(worker.process)}; see {log}", may_retry=True)


def _describe_exit(process: BaseProcess) -> str:
    code = process.exitcode or 0
    if code >= 0:
        return f"its process exited unexpectedly (exit code {code})"
    hint = ", possibly out of memory" if -code in (signal.SIGKILL, signal.SIGABRT) else ""
    return f"its process was killed by {signal.Signals(-code).name}{hint}"
