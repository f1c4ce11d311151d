"""Files and uploads on the wire."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from luthier.api.wire.base import Answer, Body, Identified, Ordered
from luthier.core.files import FileObject, Part, Upload
from luthier.core.lists import Order

FilePurpose = Literal["assistants", "batch", "fine-tune", "vision", "user_data", "evals"]


class ExpiresAfter(BaseModel):
    """When a file goes by itself. Comes in forms too, so the number may be text."""

    model_config = ConfigDict(extra="forbid")

    anchor: Literal["created_at"]
    seconds: Annotated[int, Field(ge=3600, le=2_592_000)]


class CreateFile(BaseModel):
    """The fields beside `file` in the form."""

    model_config = ConfigDict(extra="forbid")

    purpose: FilePurpose
    expires_after: ExpiresAfter | None = None


class FileQuery(Ordered):
    """Which files to list."""

    purpose: str | None = None
    limit: Annotated[int, Field(ge=1, le=10_000)] = 10_000
    order: Order = "desc"


class FileAnswer(Identified):
    """A file."""

    object: Literal["file"] = "file"
    bytes: int
    created_at: int
    expires_at: int | None
    filename: str
    purpose: str
    status: str
    status_details: str | None

    @staticmethod
    def of(file: FileObject) -> FileAnswer:
        """The file on the wire."""
        return FileAnswer(
            id=file.id,
            bytes=file.size_bytes,
            created_at=file.created_at,
            expires_at=file.expires_at,
            filename=file.filename,
            purpose=file.purpose,
            status=file.status,
            status_details=file.status_details,
        )


class CreateUpload(Body):
    """A file that will come in parts."""

    filename: Annotated[str, Field(min_length=1, max_length=512)]
    purpose: FilePurpose
    bytes: Annotated[int, Field(ge=1)]
    mime_type: Annotated[str, Field(min_length=1, max_length=256)]
    expires_after: ExpiresAfter | None = None


class NoMore(Body):
    """A part's form has nothing beside `data`."""


class CompleteUpload(Body):
    """Which parts make the file, in order."""

    part_ids: Annotated[list[str], Field(min_length=1)]
    md5: str | None = None


class UploadAnswer(Answer):
    """An upload; with its file once it is completed."""

    id: str
    object: Literal["upload"] = "upload"
    bytes: int
    created_at: int
    expires_at: int
    filename: str
    purpose: str
    status: Literal["pending", "completed", "cancelled", "expired"]
    file: FileAnswer | None

    @staticmethod
    def of(upload: Upload, file: FileObject | None = None) -> UploadAnswer:
        """The upload on the wire."""
        return UploadAnswer(
            id=upload.id,
            bytes=upload.size_bytes,
            created_at=upload.created_at,
            expires_at=upload.expires_at,
            filename=upload.filename,
            purpose=upload.purpose,
            status=upload.status,
            file=FileAnswer.of(file) if file else None,
        )


class PartAnswer(Answer):
    """One part."""

    id: str
    object: Literal["upload.part"] = "upload.part"
    created_at: int
    upload_id: str

    @staticmethod
    def of(part: Part) -> PartAnswer:
        """The part on the wire."""
        return PartAnswer(id=part.id, created_at=part.created_at, upload_id=part.upload_id)
