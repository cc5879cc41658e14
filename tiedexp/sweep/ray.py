"""Runs a sweep on a Ray cluster: one task per run, each in a new process, all writing to one shared directory."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from tiedexp.errors import RunError
from tiedexp.sweep.ledger import Ledger, Results
from tiedexp.sweep.observer import SweepObserver
from tiedexp.sweep.planning import SweepPlan, SweepRun
from tiedexp.sweep.worker import Outcome, Progress, Task, execute_with_log

LOOK_SECONDS = 1.0
CONNECT_SECONDS = 10.0
STOP_SECONDS = 120.0  # for runs to write a checkpoint
SHARE_SECONDS = 30.0  # until a network file system shows what another node wrote
NODE_LOSSES = 20  # of one run before it counts as failed


class RayExecutor:
    """Does the runs of a sweep as tasks of a Ray cluster. If a node is lost, its runs resume on other nodes.

    Args:
        address: the cluster's address; if empty, $RAY_ADDRESS, and if that is not set, a new cluster on this machine.
        task: the task of each run, apart from its spec; its paths must be the same on all nodes.
        num_cpus: CPUs that Ray reserves for a run, and the number of its threads.
        num_gpus: GPUs that Ray reserves for a run.
        retries: further attempts for a run that failed for another reason than the loss of its node.
        fail_fast: stop the other runs once a run has failed for good.
        observer: is notified of what happens.
    """

    def __init__(
        self,
        address: str,
        task: Task,
        *,
        num_cpus: float,
        num_gpus: float,
        retries: int,
        fail_fast: bool,
        observer: SweepObserver,
    ):
        self._address, self._num_cpus, self._num_gpus = address, num_cpus, num_gpus
        data_dir = None if task.data_dir is None else task.data_dir.resolve()
        self._task = replace(task, root=task.root.resolve(), data_dir=data_dir, threads=max(1, int(num_cpus)))
        self._fail_fast, self._observer, self._ledger = fail_fast, observer, Ledger(retries, observer)
        self._pending: dict[Any, SweepRun] = {}
        self._patience = SHARE_SECONDS
        self._seen: dict[str, int] = {}  # bytes of metrics.jsonl that were reported, by path of the run

    def run(self, plan: SweepPlan, runs: Sequence[SweepRun], should_stop: Callable[[], bool]) -> Results:
        """Do runs of a plan; when asked to stop, active runs write a checkpoint and end.

        Raises:
            RunError: Ray is not installed, there is no cluster at the address, or its head is lost.
        """
        ray = _import_ray()
        _connect(ray, self._address)
        try:
            remote = ray.remote(
                # One process per run: threads and determinism cannot be changed once a process has trained.
                num_cpus=self._num_cpus, num_gpus=self._num_gpus, max_calls=1, max_retries=NODE_LOSSES,
            )(_execute)  # fmt: skip
            nodes = sum(node["Alive"] for node in ray.nodes())
            each = f"{self._num_cpus:g} CPUs and {self._num_gpus:g} GPUs each"
            self._observer.begins(plan, runs, f"on {nodes} Ray node{'s' * (nodes > 1)}, {each}")
            if not should_stop():
                plan.begin()
                for run in runs:
                    self._submit(remote, run)
            head = ray.get_runtime_context().gcs_address
            while self._pending and not should_stop() and not (self._fail_fast and self._ledger.results.failed):
                _check_head(head)
                self._look(ray, remote)
            self._ledger.results.interrupted = should_stop()
            self._cancel(ray)
        finally:
            ray.shutdown()
            self._ledger.write_failures()
        return self._ledger.results

    def _submit(self, remote: Any, run: SweepRun) -> None:
        self._seen.pop(run.path, None)  # of an earlier attempt
        self._pending[remote.remote(replace(self._task, spec=run.spec))] = run

    def _look(self, ray: Any, remote: Any) -> None:
        ended, _ = ray.wait(list(self._pending), num_returns=1, timeout=LOOK_SECONDS)
        for reference in ended:
            run = self._pending.pop(reference)
            try:
                outcome = self._confirm(run, ray.get(reference))
            except ray.exceptions.RayError as error:
                reason = str(error).strip().splitlines()[-1]
                outcome = Outcome("failed", f"Ray could not run it: {reason}", may_retry=True)
            if self._ledger.note(run, outcome):
                self._submit(remote, run)
        for run in self._pending.values():
            self._report(run)
        self._observer.refresh()

    def _confirm(self, run: SweepRun, outcome: Outcome) -> Outcome:
        """The worker's outcome, or a failure if its result is missing here because the directory is not shared."""
        if outcome.kind != "finished":
            return outcome
        deadline = time.monotonic() + self._patience
        while not _has_result(run, outcome):
            if time.monotonic() >= deadline:
                self._patience = 0.0
                return Outcome(
                    "failed",
                    f"a Ray node finished the run, but its result is not in {run.directory.path} on this machine: "
                    "--runs must be a directory that all nodes share",
                )
            time.sleep(0.5)
        return outcome

    def _report(self, run: SweepRun) -> None:
        """Report the progress of a run by the files it wrote, because its worker can be on any node."""
        metrics = run.directory.path / "metrics.jsonl"
        if run.path not in self._seen:
            if run.directory.started:
                self._seen[run.path] = 0
                self._observer.started(run)
            return
        with suppress(OSError, RunError):
            size = metrics.stat().st_size
            if size != self._seen[run.path]:
                self._seen[run.path] = size
                line = run.directory.read_metrics()[-1]
                epochs = run.spec.training.epochs
                progress = Progress(line.epoch, epochs, line.epoch / epochs, line.measured.accuracy)
                self._observer.progressed(run, progress)

    def _cancel(self, ray: Any) -> None:
        references = list(self._pending)
        for reference in references:
            ray.cancel(reference)
        if references:
            ray.wait(references, num_returns=len(references), timeout=STOP_SECONDS)


def _has_result(run: SweepRun, outcome: Outcome) -> bool:
    """Whether the run has a result on this machine that belongs to this outcome."""
    try:
        return run.directory.read_result().test.accuracy == outcome.accuracy
    except RunError:
        return False


def _execute(task: Task) -> Outcome:
    """The task of a Ray worker. Cancelling raises KeyboardInterrupt in it, upon which `run_experiment` stops."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    return execute_with_log(task, lambda progress: None, lambda: False)


def _import_ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise RunError("Ray is not installed: pip install 'tiedexp[ray]'") from error
    return ray


def _connect(ray: Any, address: str) -> None:
    where = address or os.environ.get("RAY_ADDRESS")
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": False}
    if where is None:
        options["include_dashboard"] = False
    elif where != "auto" and "://" not in where:
        _check_reachable(where)
    try:
        ray.init(address=where, **options)
    except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
        reason = str(error).strip().splitlines()[0]
        raise RunError(f"no Ray cluster at {where}: {reason}") from error


def _check_head(address: str) -> None:
    """RunError if the cluster's head is lost; Ray itself would end this process after a minute without a message."""
    try:
        _check_reachable(address)
    except RunError as error:
        raise RunError(
            f"the head of the Ray cluster is lost ({error}); once the cluster is running again, the same command "
            "resumes from the last checkpoints"
        ) from error


def _check_reachable(address: str) -> None:
    """RunError at once if nothing listens at an address; Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()
    except (OSError, ValueError) as error:
        reason = "an address has the form HOST:PORT" if isinstance(error, ValueError) else error.strerror or str(error)
        raise RunError(f"no Ray cluster at {address}: {reason}") from error
