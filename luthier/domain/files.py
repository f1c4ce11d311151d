"""Files: received, listed, read, deleted. Bytes go through; no file is ever whole in memory."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator
from typing import Final

from luthier.core.errors import InvalidRequest, NotFound
from luthier.core.files import FileObject
from luthier.core.ids import new_id
from luthier.core.lists import Page, PageQuery
from luthier.domain.incoming import Incoming
from luthier.domain.looping import logged
from luthier.store import files
from luthier.store.blobs import Blobs, Stored
from luthier.store.database import Database

MAX_FILE_BYTES: Final = 512 << 20
BATCH_FILES_LIVE_S: Final = 30 * 24 * 3600
JSONL_PURPOSES: Final = frozenset({"fine-tune", "batch", "evals"})
# Since 2024 OpenAI sends result files base64-encoded; what reads them there (Weights & Biases' sync, scripts) decodes.
BASE64_PURPOSE: Final = "fine-tune-results"


def receive(blobs: Blobs) -> Incoming:
    """A new file's bytes, to be written and then given to `create`."""
    advice = "send a larger one in parts by /v1/uploads"
    return Incoming(blobs, new_id("file"), limit_bytes=MAX_FILE_BYTES, advice=advice, jsonl=True)


def create(
    database: Database,
    project_id: str,
    incoming: Incoming,
    *,
    filename: str,
    purpose: str,
    expires_after_s: int | None,
) -> FileObject:
    """Keep what was received as a file. Errors: as `check_format`."""
    check_format(incoming, purpose, param="file")
    file = describe(project_id, incoming.key, incoming.finish(), filename, purpose, expires_after_s)
    files.create(database, file)
    return file


def check_format(incoming: Incoming, purpose: str, *, param: str) -> None:
    """Errors: `InvalidRequest` with the line, where the purpose wants JSONL and the bytes, which `param` gave, are not.

    A batch names its own bad lines, all of them, so its file need only begin well, as with OpenAI.
    """
    if purpose not in JSONL_PURPOSES:
        return
    if (error := incoming.jsonl_error(first_line_only=purpose == "batch")) is not None:
        raise InvalidRequest(error, code="invalid_file_format", param=param)


def describe(
    project_id: str, file_id: str, stored: Stored, filename: str, purpose: str, expires_after_s: int | None
) -> FileObject:
    """The row of a file whose bytes are stored under its id."""
    now = int(time.time())
    lives_s = expires_after_s or (BATCH_FILES_LIVE_S if purpose == "batch" else None)
    return FileObject(
        id=file_id,
        project_id=project_id,
        filename=filename,
        purpose=purpose,
        size_bytes=stored.size_bytes,
        sha256=stored.sha256,
        blob=file_id,
        created_at=now,
        expires_at=now + lives_s if lives_s else None,
    )


def get(database: Database, project_id: str, file_id: str) -> FileObject:
    """The file. Errors: `NotFound`."""
    file = files.get(database, project_id, file_id)
    if file is None:
        raise _missing(file_id)
    return file


def list_page(database: Database, project_id: str, query: PageQuery, *, purpose: str | None = None) -> Page[FileObject]:
    """The project's files."""
    return files.list_page(database, project_id, query, purpose=purpose)


def content(blobs: Blobs, file: FileObject) -> tuple[Iterator[bytes], int]:
    """The bytes that a download sends, and how many: the file's own, but a result file's in base64."""
    chunks = blobs.read(file.blob, file.sha256)
    if file.purpose != BASE64_PURPOSE:
        return chunks, file.size_bytes
    return _base64(chunks), -(-file.size_bytes // 3) * 4


def delete(database: Database, blobs: Blobs, project_id: str, file_id: str) -> None:
    """Delete the file, then its bytes. Errors: `NotFound`."""
    file = files.delete(database, project_id, file_id, now=int(time.time()))
    if file is None:
        raise _missing(file_id)
    _purge(database, blobs, file)


def sweep(database: Database, blobs: Blobs) -> None:
    """Delete what has expired, and bytes that a crash left behind their deleted row."""
    files.expire(database, now=int(time.time()))
    for file in files.to_purge(database):
        with logged("file not purged"):
            _purge(database, blobs, file)


def _purge(database: Database, blobs: Blobs, file: FileObject) -> None:
    blobs.delete(file.blob)
    files.purged(database, file.id, now=int(time.time()))


def _missing(file_id: str) -> NotFound:
    return NotFound(f"No such File object: {file_id}", param="id")


def _base64(chunks: Iterator[bytes]) -> Iterator[bytes]:
    rest = b""
    for chunk in chunks:
        rest += chunk
        whole = len(rest) // 3 * 3
        yield base64.b64encode(rest[:whole])
        rest = rest[whole:]
    yield base64.b64encode(rest)
