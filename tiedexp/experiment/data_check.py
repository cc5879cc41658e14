"""Whether the images that a finished run was trained on are still the same. No TensorFlow for a user's own files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tiedexp.errors import DatasetError, RunError
from tiedexp.experiment.preparation import load_images, training_source
from tiedexp.runs.directory import RunDirectory
from tiedexp.spec.schema import DatasetSpec, ExperimentSpec


class DataCheck:
    """Compares finished runs with the data that is there now; each dataset is looked at once.

    Only a user's own files can change. Names, sizes and times tell at once that they have not; if those differ, the
    images are read and their fingerprint decides.

    Args:
        data_dir: TFDS data directory; None for $TFDS_DATA_DIR or the default of TFDS.
        warn: told of data that can no longer be read, which does not make a result worthless.
    """

    def __init__(self, data_dir: Path | None, warn: Callable[[str], None]):
        self._data_dir, self._warn = data_dir, warn
        self._stamps: dict[DatasetSpec, str | None] = {}
        self._fingerprints: dict[DatasetSpec, str] = {}
        self._unreadable: set[DatasetSpec] = set()

    def check(self, run: RunDirectory, spec: ExperimentSpec) -> None:
        """Compare the data of a finished run.

        Raises:
            RunError: it has changed since, or the run's manifest cannot be read.
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
                f"the data has changed since {run.path} was trained (its fingerprint was {before} and is {now}), "
                "so its result is not of this data; --fresh trains it again"
            )

    def _find_change(self, run: RunDirectory, spec: ExperimentSpec) -> tuple[str, str] | None:
        """The fingerprints of then and now if they differ."""
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
