"""Whether the images of a finished run have changed since. A user's own files are checked without TensorFlow."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tiedexp.errors import DatasetError, RunError
from tiedexp.experiment.preparation import load_images, training_source
from tiedexp.runs.directory import RunDirectory
from tiedexp.spec.schema import DatasetSpec, ExperimentSpec


class DataCheck:
    """Compares the data of finished runs with the data of today; each dataset is checked once.

    Only a user's own files can change. If their names, sizes and times are the same, so are the images; otherwise the
    images are read and their fingerprint decides.

    Args:
        data_dir: TFDS data directory; None for $TFDS_DATA_DIR or the default of TFDS.
        warn: called for data that can no longer be read, which does not make a result worthless.
    """

    def __init__(self, data_dir: Path | None, warn: Callable[[str], None]):
        self._data_dir, self._warn = data_dir, warn
        self._stamps: dict[DatasetSpec, str | None] = {}
        self._fingerprints: dict[DatasetSpec, str] = {}
        self._unreadable: set[DatasetSpec] = set()

    def check(self, run: RunDirectory, spec: ExperimentSpec) -> None:
        """Check the data of a finished run.

        Raises:
            RunError: it has changed since the run was trained, or the run's manifest cannot be read.
        """
        if spec.dataset in self._unreadable:
            return
        try:
            changed = self._find_change(run, spec)
        except DatasetError as error:
            self._unreadable.add(spec.dataset)
            self._warn(f"the data that {run.path} was trained on can no longer be read: {error}")
            return
        if changed is not None:
            before, now = changed
            raise RunError(
                f"the data has changed since {run.path} was trained (its fingerprint was {before} and is now {now}), "
                "so its result does not belong to this data; --fresh trains it again"
            )

    def _find_change(self, run: RunDirectory, spec: ExperimentSpec) -> tuple[str, str] | None:
        """The old and the new fingerprint; None if the data is the same."""
        trained, dataset = run.read_manifest().data, spec.dataset
        if dataset not in self._stamps:
            source = training_source(spec, self._data_dir)
            source.check()
            self._stamps[dataset] = source.stamp()
        stamp = self._stamps[dataset]
        if stamp is None or stamp == trained.files:
            return None
        if dataset not in self._fingerprints:
            self._fingerprints[dataset] = load_images(spec, self._data_dir).fingerprint
        now = self._fingerprints[dataset]
        return None if now == trained.fingerprint else (trained.fingerprint, now)
