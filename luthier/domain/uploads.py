"""Uploads: a file in parts, sent in parallel and in any order, put together in the order that completing names."""

from __future__ import annotations

import hmac
import time
from collections.abc import Sequence
from typing import Final

from luthier.core.errors import InvalidRequest, NotFound
from luthier.core.files import FileObject, Part, Upload
from luthier.core.ids import new_id
from luthier.domain import files
from luthier.domain.incoming import Incoming
from luthier.store import uploads
from luthier.store.blobs import Blobs
from luthier.store.database import Database

MAX_UPLOAD_BYTES: Final = 8 << 30
MAX_PART_BYTES: Final = 64 << 20
LIVES_S: Final = 3600


def create(
    database: Database,
    project_id: str,
    *,
    filename: str,
    purpose: str,
    size_bytes: int,
    mime_type: str,
    file_expires_after_s: int | None,
) -> Upload:
    """Begin an upload. Errors: `InvalidRequest` when it would be too large."""
    if size_bytes > MAX_UPLOAD_BYTES:
        raise InvalidRequest(
            f"Invalid 'bytes': an upload has at most {MAX_UPLOAD_BYTES} bytes (8 GB), not {size_bytes}.",
            code="integer_above_max_value",
            param="bytes",
        )
    now = int(time.time())
    upload = Upload(
        id=new_id("upload"),
        project_id=project_id,
        filename=filename,
        purpose=purpose,
        size_bytes=size_bytes,
        mime_type=mime_type,
        created_at=now,
        expires_at=now + LIVES_S,
        file_expires_after_s=file_expires_after_s,
    )
    uploads.create(database, upload)
    return upload


def receive_part(blobs: Blobs) -> Incoming:
    """A part's bytes, to be written and then given to `add_part`."""
    advice = "send the file in smaller parts"
    return Incoming(blobs, new_id("part"), limit_bytes=MAX_PART_BYTES, noun="part", advice=advice)


def pending(database: Database, project_id: str, upload_id: str) -> Upload:
    """The upload, if it still takes parts. Errors: `NotFound`; `InvalidRequest` once it has ended."""
    upload = uploads.get(database, project_id, upload_id)
    if upload is None:
        raise NotFound(f"No such Upload object: {upload_id}", param="upload_id")
    if upload.status == "pending" and upload.expires_at <= time.time():
        upload = uploads.end(database, upload_id, "expired") or upload
    if upload.status != "pending":
        raise _ended(upload)
    return upload


def add_part(database: Database, blobs: Blobs, upload: Upload, incoming: Incoming) -> Part:
    """Keep what was received as a part. Errors: `InvalidRequest` when the upload ended meanwhile."""
    stored = incoming.finish()
    part = Part(
        incoming.key,
        upload.project_id,
        upload.id,
        stored.size_bytes,
        stored.sha256,
        incoming.key,
        int(time.time()),
    )
    if not uploads.add_part(database, part):
        blobs.delete(part.blob)
        raise _ended(pending(database, upload.project_id, upload.id))
    return part


def complete(
    database: Database, blobs: Blobs, project_id: str, upload_id: str, part_ids: Sequence[str], md5: str | None
) -> tuple[Upload, FileObject]:
    """Make the file out of these parts, in this order.

    Errors: `InvalidRequest` for parts that are not the upload's, a wrong number of bytes, another MD5, or bytes that
    are not what the purpose wants.
    """
    upload = pending(database, project_id, upload_id)
    parts = _ordered(uploads.parts(database, upload_id), part_ids)
    total = sum(part.size_bytes for part in parts)
    if total != upload.size_bytes:
        raise InvalidRequest(
            f"The parts have {total} bytes, but the upload was created with {upload.size_bytes}; "
            "add what is missing, or list the right parts.",
            code="invalid_value",
            param="part_ids",
        )
    with Incoming(blobs, new_id("file"), limit_bytes=MAX_UPLOAD_BYTES, jsonl=True, md5=md5 is not None) as incoming:
        for part in parts:
            for chunk in blobs.read(part.blob, part.sha256):
                incoming.write(chunk)
        found = incoming.md5_hex()
        if md5 is not None and found is not None and not hmac.compare_digest(md5.lower().encode(), found.encode()):
            raise InvalidRequest(
                f"The parts have the MD5 {found}, not {md5}; a part is damaged or out of order.",
                code="invalid_value",
                param="md5",
            )
        files.check_format(incoming, upload.purpose, param="part_ids")
        stored = incoming.finish()
    file = files.describe(
        project_id, incoming.key, stored, upload.filename, upload.purpose, upload.file_expires_after_s
    )
    completed = uploads.complete(database, upload, file)
    if completed is None:
        blobs.delete(file.blob)
        raise _ended(pending(database, project_id, upload_id))
    _drop_parts(database, blobs, upload_id)
    return completed, file


def cancel(database: Database, blobs: Blobs, project_id: str, upload_id: str) -> Upload:
    """End the upload; no parts are taken any more. Errors: as `pending`."""
    upload = pending(database, project_id, upload_id)
    cancelled = uploads.end(database, upload.id, "cancelled")
    if cancelled is None:
        raise _ended(pending(database, project_id, upload_id))
    _drop_parts(database, blobs, upload_id)
    return cancelled


def sweep(database: Database, blobs: Blobs) -> None:
    """End uploads whose hour is over, and remove the parts of all that have ended."""
    for upload in uploads.overdue(database, now=int(time.time())):
        uploads.end(database, upload.id, "expired")
    for upload_id in uploads.ended_with_parts(database):
        _drop_parts(database, blobs, upload_id)


def _ordered(parts: Sequence[Part], part_ids: Sequence[str]) -> list[Part]:
    by_id = {part.id: part for part in parts}
    unknown = [part_id for part_id in part_ids if part_id not in by_id]
    if unknown:
        raise InvalidRequest(f"The upload has no part '{unknown[0]}'.", code="invalid_value", param="part_ids")
    if len(set(part_ids)) != len(part_ids):
        raise InvalidRequest("A part is listed twice.", code="invalid_value", param="part_ids")
    return [by_id[part_id] for part_id in part_ids]


def _drop_parts(database: Database, blobs: Blobs, upload_id: str) -> None:
    for part in uploads.parts(database, upload_id):
        blobs.delete(part.blob)
    uploads.drop_parts(database, upload_id)


def _ended(upload: Upload) -> InvalidRequest:
    return InvalidRequest(
        f"Upload {upload.id} is {upload.status} and takes no more; create a new one.", code="invalid_upload_status"
    )
