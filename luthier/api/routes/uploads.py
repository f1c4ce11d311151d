"""`/v1/uploads`: files in parts."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool

from luthier.api.auth import ThePlatform, Tuner
from luthier.api.invalid import validate
from luthier.api.json_route import JsonRoute
from luthier.api.multipart import documented, receive_form
from luthier.api.wire.files import CompleteUpload, CreateUpload, NoMore, PartAnswer, UploadAnswer
from luthier.domain import uploads

router = APIRouter(prefix="/uploads", tags=["uploads"], route_class=JsonRoute)


@router.post("", operation_id="createUpload")
def create(platform: ThePlatform, caller: Tuner, body: CreateUpload) -> UploadAnswer:
    """Begin an upload."""
    upload = uploads.create(
        platform.database,
        caller.project_id,
        filename=body.filename,
        purpose=body.purpose,
        size_bytes=body.bytes,
        mime_type=body.mime_type,
        file_expires_after_s=body.expires_after.seconds if body.expires_after else None,
    )
    return UploadAnswer.of(upload)


@router.post("/{upload_id}/parts", operation_id="addUploadPart", openapi_extra=documented("data", NoMore))
async def add_part(request: Request, platform: ThePlatform, caller: Tuner, upload_id: str) -> PartAnswer:
    """Add a part; several may come at once."""
    upload = await run_in_threadpool(uploads.pending, platform.database, caller.project_id, upload_id)
    with uploads.receive_part(platform.blobs) as incoming:
        form = await receive_form(request, "data", incoming.write, limit_bytes=uploads.MAX_PART_BYTES)
        validate(NoMore, form.fields)
        part = await run_in_threadpool(uploads.add_part, platform.database, platform.blobs, upload, incoming)
    return PartAnswer.of(part)


@router.post("/{upload_id}/complete", operation_id="completeUpload")
def complete(platform: ThePlatform, caller: Tuner, upload_id: str, body: CompleteUpload) -> UploadAnswer:
    """Make the file out of its parts."""
    upload, file = uploads.complete(
        platform.database, platform.blobs, caller.project_id, upload_id, body.part_ids, body.md5
    )
    return UploadAnswer.of(upload, file)


@router.post("/{upload_id}/cancel", operation_id="cancelUpload")
def cancel(platform: ThePlatform, caller: Tuner, upload_id: str) -> UploadAnswer:
    """Give an upload up."""
    return UploadAnswer.of(uploads.cancel(platform.database, platform.blobs, caller.project_id, upload_id))
