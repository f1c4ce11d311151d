"""The bytes of files: a local folder or an S3 bucket, by obstore. Knows keys, not what they mean.

A blob is there whole or not at all: it is written under a temporary name (S3: as an unfinished multipart upload)
and gets its own name at `close`.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, ObjectStore, from_url

from luthier.core.errors import NotFound, StoreAway, Unavailable
from luthier.core.run import sync_folder

CHUNK_BYTES: Final = 1 << 20
# What a writer holds back before it sends: S3 wants 5 MiB at least in every part but the last.
BUFFER_BYTES: Final = 8 << 20
STALE_AFTER_S: Final = 24 * 3600


@dataclass(frozen=True)
class Stored:
    """What was written."""

    size_bytes: int
    sha256: str


class Blobs:
    """A folder (`file:///…`) or a bucket (`s3://…`; credentials as the AWS tools take them). Threads may share it."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._folder = Path(unquote(parts.path)) if parts.scheme == "file" else None
        if self._folder is not None:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._store: ObjectStore = LocalStore(self._folder)
        else:
            self._store = from_url(url)

    def writer(self, key: str) -> BlobWriter:
        """A new blob's writer; use it in a `with` block."""
        with _translated(key):
            return BlobWriter(self._store, key, self._folder)

    def read(self, key: str, sha256: str) -> Iterator[bytes]:
        """The blob's bytes, in chunks of about `CHUNK_BYTES`.

        Errors: `NotFound` at once when there is none; `Unavailable` at the end when they do not have this hash.
        """
        with _translated(key):
            found = obstore.get(self._store, key)
        return self._checked(key, found, sha256)

    def delete(self, key: str) -> None:
        """Remove the blob; one that is not there is removed already."""
        try:
            with _translated(key):
                obstore.delete(self._store, key)
        except NotFound:
            return

    def sizes(self) -> Iterator[tuple[str, int]]:
        """Key and bytes of every blob."""
        with _translated("its list"):
            for some in obstore.list(self._store):
                yield from ((found["path"], found["size"]) for found in some if "#" not in found["path"])

    def remove_stale(self) -> None:
        """Remove what writers killed a day ago or earlier left. For S3 a bucket's lifecycle rules do that."""
        before = time.time() - STALE_AFTER_S
        for path in self._folder.glob("*#*") if self._folder else ():  # the names that obstore gives them
            with suppress(FileNotFoundError):
                if path.stat().st_mtime < before:
                    path.unlink()

    def _checked(self, key: str, found: obstore.GetResult, sha256: str) -> Iterator[bytes]:
        # The last chunk is held back until the whole is checked: whoever counts bytes sees that some are missing.
        digest = hashlib.sha256()
        held = b""
        with _translated(key):
            for chunk in found.stream(min_chunk_size=CHUNK_BYTES):
                if held:
                    yield held
                held = bytes(chunk)
                digest.update(held)
        if digest.hexdigest() != sha256:
            raise Unavailable(f"the stored bytes of {key} are not those that were written; restore them from a backup")
        yield held


class BlobWriter:
    """One blob being written. It exists once `close` returns; a `with` block left before that leaves nothing."""

    def __init__(self, store: ObjectStore, key: str, folder: Path | None) -> None:
        self._key = key
        self._path = folder / key if folder else None
        self._hash = hashlib.sha256()
        self._size_bytes = 0
        buffer_bytes = CHUNK_BYTES if folder else BUFFER_BYTES
        self._file: obstore.WritableFile | None = obstore.open_writer(store, key, buffer_size=buffer_bytes)

    def write(self, chunk: bytes) -> None:
        """Add bytes."""
        if self._file is None:
            raise ValueError("written to after it was closed")
        self._hash.update(chunk)
        self._size_bytes += len(chunk)
        with _translated(self._key):
            self._file.write(chunk)

    def close(self) -> Stored:
        """Make the blob appear, durably."""
        if self._file is None:
            raise ValueError("closed twice")
        with _translated(self._key):
            self._file.close()
            self._file = None
            if self._path is not None:
                _settle(self._path)
        return Stored(self._size_bytes, self._hash.hexdigest())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        self._file = None  # obstore removes what was written of an unclosed file when it is forgotten


def _settle(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fchmod(descriptor, 0o600)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    sync_folder(path.parent)


@contextmanager
def _translated(key: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise NotFound(f"no stored bytes under {key}") from error
    except (OSError, BaseError) as error:
        reason = str(error).partition("\n")[0]
        raise StoreAway(f"the blob store failed at {key}: {reason}; free disk space or check its settings") from error
