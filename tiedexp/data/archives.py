"""Prepares TFDS datasets on this machine, by download or from their original archives without a network.

`prepare_dataset` is the only function of tiedexp that uses the network.
"""

from __future__ import annotations

import zipfile
import zlib
from contextlib import redirect_stdout
from hashlib import file_digest
from http.client import HTTPException
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from tiedexp.data.prepared import PreparedDataset, check_name, find_data_dir, find_prepared, list_prepared, suggest_name
from tiedexp.data.sources import KINDS
from tiedexp.errors import DatasetError

CONNECT_SECONDS = 5.0


def prepare_dataset(name: str, data_dir: Path | None = None) -> PreparedDataset:
    """Download a dataset with TFDS, which verifies checksums, and prepare it; does nothing if it is prepared already.

    A host that cannot be reached is reported within seconds; TFDS would keep trying for minutes.

    Args:
        name: a dataset of TFDS with images of one class each, `name` or `name/config`.
        data_dir: TFDS data directory; None for $TFDS_DATA_DIR or ~/tensorflow_datasets.

    Raises:
        DatasetError: unknown name, no network, wrong checksum, no space, ...
    """
    directory = _find_writable_dir(data_dir)
    if name in list_prepared(directory):
        return find_prepared(name, directory)
    builder = _build_builder(name, directory)
    _check_reachable(name, list(builder.url_infos or {}))
    _generate(builder, name, None, directory / "downloads", directory / "downloads" / "manual")
    return find_prepared(name, directory)


def _find_writable_dir(data_dir: Path | None) -> Path:
    """The directory where datasets are prepared; DatasetError if it would be in a home directory that is missing."""
    directory = find_data_dir(data_dir)
    if data_dir is None and str(directory).startswith("~"):
        raise DatasetError(
            f"there is no home directory, so {directory} does not exist; use --data-dir or set TFDS_DATA_DIR"
        )
    return directory


def import_archives(name: str, archives: Path, data_dir: Path | None = None) -> PreparedDataset:
    """Prepare a dataset from its original archives, with their original names, without using the network.

    TFDS verifies their SHA-256 checksums. All archives that TFDS lists for the dataset must be present, even if the
    chosen configuration needs only some of them.

    Args:
        name: a dataset of TFDS with images of one class each, `name` or `name/config`.
        archives: the directory that contains them; it is not changed.
        data_dir: TFDS data directory; None for $TFDS_DATA_DIR or ~/tensorflow_datasets.

    Raises:
        DatasetError: unknown name, missing archives (all are named), wrong checksum, no space, ...
    """
    directory = _find_writable_dir(data_dir)
    if name in list_prepared(directory):
        return find_prepared(name, directory)
    builder = _build_builder(name, directory)
    if not archives.is_dir():
        raise DatasetError(f"there is no directory {archives}")
    try:
        _check_archives(name, archives, builder.url_infos or {})
    except OSError as error:
        raise DatasetError(f"'{name}' cannot be read from {archives}: {error}") from error
    try:
        directory.mkdir(parents=True, exist_ok=True)
        # Archives are unpacked into a separate directory, because MNIST and similar datasets use the same file names.
        with TemporaryDirectory(prefix=".import-", dir=directory, ignore_cleanup_errors=True) as scratch:
            _generate(builder, name, archives, Path(scratch), archives)
    except OSError as error:
        raise DatasetError(f"'{name}' cannot be written to {directory}: {error}") from error
    return find_prepared(name, directory)


def _build_builder(name: str, data_dir: Path) -> Any:
    import tensorflow_datasets as tfds

    if name in KINDS:
        raise DatasetError(f"'{name}' needs no preparation")
    known = (*KINDS, *tfds.list_builders())
    check_name(name, known)
    try:
        builder = tfds.builder(name, data_dir=data_dir)
        features = list(builder.info.features.values())
    except tfds.core.registered.DatasetNotFoundError as error:
        raise DatasetError(f"TFDS has no dataset '{name}'{suggest_name(name, known)}") from error
    except (ValueError, RuntimeError, ImportError, AttributeError) as error:
        raise DatasetError(f"TFDS cannot make '{name}': {error}") from error
    kinds = [sum(isinstance(feature, kind) for feature in features) for kind in _feature_kinds()]
    if 0 in kinds:
        raise DatasetError(f"'{name}' is not a dataset of images with one class each")
    return builder


def _feature_kinds() -> tuple[Any, Any]:
    import tensorflow_datasets as tfds

    return tfds.features.Image, tfds.features.ClassLabel


def _generate(builder: Any, name: str, archives: Path | None, download_dir: Path, manual_dir: Path) -> None:
    """Let TFDS prepare the dataset, and turn its errors into ours."""
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.download.download_manager import NonMatchingChecksumError
    from tensorflow_datasets.core.download.extractor import ExtractError, UnsafeArchiveError
    from tensorflow_datasets.core.download.util import DownloadError

    config = tfds.download.DownloadConfig(manual_dir=manual_dir, try_download_gcs=False)
    what = f"'{name}' could not be prepared" if archives is None else f"'{name}' could not be imported from {archives}"
    try:
        with redirect_stdout(StringIO()):  # TFDS announces downloads there, even if there are none
            builder.download_and_prepare(download_dir=download_dir, download_config=config, file_format="tfrecord")
    except (ExtractError, UnsafeArchiveError, zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise DatasetError(f"{what}: an archive is damaged: {error}") from error
    except (NonMatchingChecksumError, DownloadError, OSError, ValueError, AssertionError, ImportError) as error:
        raise DatasetError(f"{what}: {error}") from error


def _check_archives(name: str, archives: Path, url_infos: dict[str, Any]) -> None:
    """Check that every archive that TFDS would otherwise download is present and unchanged.

    TFDS verifies checksums too, but only after it has started to unpack other archives.
    """
    checksums: dict[str, set[str]] = {}
    for info in url_infos.values():
        checksums.setdefault(info.filename or "", set()).add(info.checksum)
    if not checksums or "" in checksums:
        raise DatasetError(f"'{name}' cannot be imported, because TFDS does not know the names of its archives")
    missing = [filename for filename in sorted(checksums) if not (archives / filename).is_file()]
    if missing:
        raise DatasetError(
            f"to import '{name}', {archives} must contain {', '.join(sorted(checksums))}; missing: {', '.join(missing)}"
        )
    for filename, expected in sorted(checksums.items()):
        with (archives / filename).open("rb") as file:
            found = file_digest(file, "sha256").hexdigest()
        if found not in expected:
            raise DatasetError(
                f"{archives / filename} is not the original archive: its SHA-256 is {found}, not {', '.join(expected)}"
            )


def _check_reachable(name: str, urls: list[str]) -> None:
    """Send a request to every host, all in parallel so that slow hosts do not add up; DatasetError if one fails."""
    first_urls = {urlsplit(url).netloc: url for url in reversed(urls)}
    answers: dict[str, str | None] = {}

    def ask(host: str, url: str) -> None:
        try:
            with urlopen(Request(url, method="HEAD"), timeout=CONNECT_SECONDS):
                answers[host] = None
        except HTTPError as error:
            error.close()  # whatever the status, the host is reachable
            answers[host] = None
        except (OSError, HTTPException, ValueError) as error:
            answers[host] = str(getattr(error, "reason", error))

    # A name lookup has no time limit, so threads that are still waiting are abandoned.
    threads = [Thread(target=ask, args=item, daemon=True) for item in first_urls.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(2 * CONNECT_SECONDS)
    for host in first_urls:
        reason = answers.get(host, f"no answer in {2 * CONNECT_SECONDS:.0f} s")
        if reason is not None:
            raise DatasetError(
                f"'{name}' cannot be downloaded: {host} cannot be reached ({reason}). If you have its original "
                f"archives, import them from their directory:  tiedexp data import {name} DIR"
            )
