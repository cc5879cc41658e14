"""Datasets of TensorFlow Datasets made ready on this machine: downloaded, or imported from their original archives.

The only module that may touch the network, and only in `prepare_dataset`.
"""

from __future__ import annotations

import hashlib
import socket
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from tiedexp.data.prepared import check_name, find_data_dir, list_prepared, suggest_name
from tiedexp.errors import DatasetError

CONNECT_SECONDS = 5.0
MAX_NAMES_SHOWN = 20


def prepare_dataset(name: str, data_dir: Path | None = None) -> Path:
    """Download a dataset with TFDS and prepare it.

    Args:
        name: a dataset of TFDS, `name` or `name/config`.
        data_dir: where to; None for $TFDS_DATA_DIR or ~/tensorflow_datasets.

    Returns:
        its directory.

    Raises:
        DatasetError: an unknown name, no network, or a download that failed.
    """
    builder = _build_builder(name, find_data_dir(data_dir))
    if not builder.is_prepared():
        _check_network(sorted(builder.url_infos), name)
        _prepare(builder, name)
    return Path(builder.data_path)


def import_archives(name: str, directory: Path, data_dir: Path | None = None) -> Path:
    """Prepare a dataset from its original archives, without a network.

    Args:
        name: a dataset of TFDS, `name` or `name/config`.
        directory: holds the archives under their original names; their SHA-256 must be those that TFDS knows.
        data_dir: where to; None for $TFDS_DATA_DIR or ~/tensorflow_datasets.

    Returns:
        the dataset's directory.

    Raises:
        DatasetError: an unknown name, or archives that are missing or not the original ones.
    """
    if not directory.is_dir():
        raise DatasetError(f"{directory} is not a directory; it should hold the original archives of '{name}'")
    builder = _build_builder(name, find_data_dir(data_dir))
    if not builder.is_prepared():
        if not builder.url_infos:
            raise DatasetError(f"TFDS does not know the archives of '{name}', so it cannot be imported")
        _check_archives(directory, {info.filename: info.checksum for info in builder.url_infos.values()}, name)
        _prepare(builder, name, archives=directory)
    return Path(builder.data_path)


def _build_builder(name: str, data_dir: Path) -> Any:
    import tensorflow_datasets as tfds

    check_name(name)
    try:
        return tfds.builder(name, data_dir=data_dir, try_gcs=False)
    except (tfds.core.DatasetNotFoundError, ValueError) as error:
        hint = suggest_name(name, tuple(list_prepared(data_dir)))
        raise DatasetError(f"TFDS has no dataset '{name}'{hint}") from error


def _check_network(urls: list[str], name: str) -> None:
    """TFDS retries a host that is not there for minutes; ask once, briefly, for each host, or for the proxy to it."""
    proxies = getproxies()
    hosts = {(url.scheme, url.hostname, url.port) for url in map(urlsplit, urls) if url.hostname}
    for scheme, host, port in sorted(hosts, key=str):
        proxy = urlsplit(proxies.get(scheme, ""))
        target: tuple[str | None, int] = (host, port or (80 if scheme == "http" else 443))
        if proxy.hostname and not proxy_bypass(host):
            target = (proxy.hostname, proxy.port or 80)
        try:
            socket.create_connection(target, timeout=CONNECT_SECONDS).close()
        except OSError as error:
            raise DatasetError(
                f"'{name}' cannot be downloaded: {target[0]} does not answer ({error})\n"
                f"Without a network:  tiedexp data import {name} DIR  (from its original archives)"
            ) from error


def _check_archives(directory: Path, checksums: dict[str, str], name: str) -> None:
    missing = [file for file in checksums if not (directory / file).is_file()]
    if missing:
        names = ", ".join(missing[:MAX_NAMES_SHOWN]) + (", ..." if len(missing) > MAX_NAMES_SHOWN else "")
        raise DatasetError(f"{directory} does not hold all archives of '{name}'; missing: {names}")
    for file, checksum in checksums.items():
        with (directory / file).open("rb") as archive:
            found = hashlib.file_digest(archive, "sha256").hexdigest()
        if found != checksum:
            raise DatasetError(
                f"{directory / file} is not the original archive of '{name}': its SHA-256 is {found}, not {checksum}"
            )


def _prepare(builder: Any, name: str, archives: Path | None = None) -> None:
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.download.download_manager import NonMatchingChecksumError

    tfds.display_progress_bar(False)
    config = tfds.download.DownloadConfig(try_download_gcs=False, manual_dir=archives)
    failures = (tfds.download.DownloadError, NonMatchingChecksumError, OSError, AssertionError, ValueError)
    with tempfile.TemporaryDirectory(prefix="tiedexp-") as scratch:
        try:
            builder.download_and_prepare(download_dir=None if archives is None else scratch, download_config=config)
        except failures as error:
            raise DatasetError(f"'{name}' cannot be prepared: {error}") from error
