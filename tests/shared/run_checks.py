"""What tests of whole runs share: an observer that records and interrupts, and comparisons to the bit."""

from __future__ import annotations

import h5py
import numpy as np
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

from tiedexp.experiment.observer import RunObserver


class Recorder(RunObserver):
    """Records what happens; interrupts like Ctrl-C in a given epoch."""

    def __init__(self, interrupt_in=None):
        self.interrupt_in, self.events, self.sizes = interrupt_in, [], None

    def planned(self, plan, run, device, dataset, sizes):
        self.events.append("planned")
        self.sizes = dict(sizes)

    def resumed(self, epochs_done, steps_done):
        self.events.append(f"resumed after {epochs_done}" + (f" and {steps_done} steps" if steps_done else ""))

    def warned(self, text):
        self.events.append(f"warned: {text}")

    def epoch_started(self, epoch, num_steps):
        self.epoch = epoch

    def progressed(self, progress):
        if self.epoch == self.interrupt_in:
            raise KeyboardInterrupt

    def epoch_finished(self, line):
        self.events.append(line.epoch)

    def finished(self, run, result):
        self.events.append("finished")


def stop_after(calls):
    """A `should_stop` that returns True once training has called it this many times."""
    remaining = iter(range(1 + calls))  # and once before anything is written
    return lambda: next(remaining, None) is None


def read_weights(path):
    arrays = {}
    with h5py.File(path) as file:
        file.visititems(lambda name, item: arrays.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
    return arrays


def without_times(run):
    """The lines of metrics.jsonl without times."""
    times = {"seconds": 1.0, "first_of_process": False, "time": None}
    lines = []
    for line in run.read_metrics():
        splits = {name: without_speed(getattr(line, name)) for name in ("train", "validation")}
        lines.append(line.model_copy(update={**times, **splits}))
    return lines


def without_speed(split):
    return None if split is None else split.model_copy(update={"images_per_second": 1.0})


def assert_same_run(ours, theirs):
    """They are equal to the bit, apart from times."""
    assert without_times(ours) == without_times(theirs)
    times = {"seconds": 1.0, "epoch_seconds": None}
    results = [run.read_result().model_copy(update=times) for run in (ours, theirs)]
    assert results[0] == results[1]
    initial = [read_weights(run.initial_kernel) for run in (ours, theirs)]
    np.testing.assert_equal(initial[0], initial[1])
    names = [sorted(path.name for path in run.checkpoints.iterdir()) for run in (ours, theirs)]
    assert names[0] == names[1]
    for name in names[0]:
        if name.endswith(".h5"):
            weights = read_weights(ours.checkpoints / name), read_weights(theirs.checkpoints / name)
            assert weights[0].keys() == weights[1].keys()
            for key in weights[0]:
                np.testing.assert_array_equal(weights[0][key], weights[1][key])


def read_series(run):
    """(directory, tag, step, value) of everything that TensorBoard shows, in the order of the files.

    Values are None where runs may differ: times, and the text of the spec, which says when checkpoints are written.
    """
    found = []
    for directory in (".", "train", "validation", "test"):
        for path in sorted((run.tensorboard / directory).glob("events*")):
            for event in EventFileLoader(str(path)).Load():
                for value in event.summary.value:
                    content = None if value.tag in ("images_per_second", "spec") else value.tensor.SerializeToString()
                    found.append((directory, value.tag, event.step, content))
    return found


def assert_same_series(ours, theirs):
    assert read_series(ours) == read_series(theirs)
