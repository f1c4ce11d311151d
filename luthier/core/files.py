"""Files and uploads as values. Knows no database, no blob store, no HTTP."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

FileStatus = Literal["uploaded", "processed", "error"]
UploadStatus = Literal["pending", "completed", "cancelled", "expired"]


@dataclass(frozen=True)
class FileObject:
    """A file. Its bytes lie in the blob store under `blob`; `sha256` is checked whenever they are read."""

    id: str
    project_id: str
    filename: str
    purpose: str
    size_bytes: int
    sha256: str
    blob: str
    created_at: int
    expires_at: int | None = None
    status: FileStatus = "processed"
    status_details: str | None = None


@dataclass(frozen=True)
class Upload:
    """A file that arrives in parts. `file_id` is set once it is completed."""

    id: str
    project_id: str
    filename: str
    purpose: str
    size_bytes: int
    mime_type: str
    created_at: int
    expires_at: int
    status: UploadStatus = "pending"
    file_expires_after_s: int | None = None
    file_id: str | None = None


@dataclass(frozen=True)
class Part:
    """One part of an upload."""

    id: str
    project_id: str
    upload_id: str
    size_bytes: int
    sha256: str
    blob: str
    created_at: int
