"""What must hold before a run is resumed: a usable checkpoint, the same data, and the same machine and versions."""

from __future__ import annotations

from collections.abc import Callable

from tiedexp.errors import RunError
from tiedexp.experiment.state import RunState, load_state
from tiedexp.runs.manifest import find_differences
from tiedexp.runs.records import InexactResume, Manifest
from tiedexp.training.checkpoint import Checkpoint, CheckpointStore


def find_checkpoint(store: CheckpointStore, warn: Callable[[str], None]) -> Checkpoint | None:
    """The newest checkpoint whose best epoch can still be tested, or the newest of all if there is none such.

    Going further back only costs time: the repeated epochs give the same bits.

    Args:
        store: the checkpoints of the run.
        warn: called with what is damaged and what follows from it.

    Returns:
        the checkpoint to resume from; None if there is none.
    """
    newest, lost = None, ""
    for checkpoint in store.newest_first(warn):
        best = load_state(checkpoint).best.epoch
        if not best or store.find(best) is not None:
            if lost:
                warn(f"{lost}: the run resumes from an earlier checkpoint, which gives the same result")
            return checkpoint
        newest = newest or checkpoint
        lost = f"the checkpoint of the best epoch so far, {best}, is missing or damaged"
    if newest is not None:
        warn(
            f"{lost}, and there is no earlier one: unless a later epoch is better, the run cannot be tested; "
            "--fresh starts over and gives the same result"
        )
    return newest


def check_same(
    before: Manifest, now: Manifest, state: RunState, *, allow_inexact: bool, warn: Callable[[str], None]
) -> InexactResume | None:
    """Compare the data and the machine with those that the run started with.

    Args:
        before: the run's manifest.
        now: the manifest that it would have if it started now.
        state: where the run stands.
        allow_inexact: whether the run may be resumed on another machine or with other versions.
        warn: called with the differences if they are allowed.

    Returns:
        what to add to the run's manifest; None if nothing differs.

    Raises:
        RunError: the data has changed, or there are differences that are not allowed.
    """
    steps, epoch = state.sums.steps, state.epoch
    after = f"step {steps} of epoch {epoch + 1}" if steps else f"epoch {epoch}"
    if before.data.fingerprint != now.data.fingerprint:
        raise RunError(
            f"the data has changed since this run started (its fingerprint was {before.data.fingerprint} and is now "
            f"{now.data.fingerprint}), so it cannot be resumed after {after}; --fresh starts over"
        )
    differences = find_differences(before, now)
    if not differences:
        return None
    text = f"after {after} this run resumes with {'; '.join(differences)}"
    if not allow_inexact:
        raise RunError(
            f"{text}: the result may differ from that of a run that never stopped; "
            "--allow-inexact resumes anyway, --fresh starts over"
        )
    warn(text)
    return InexactResume(after_epoch=epoch, after_step=steps, differences=differences)
