"""`/v1/files`."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Query, Request
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from luthier.api.auth import Reader, ThePlatform, Tuner
from luthier.api.invalid import validate
from luthier.api.multipart import documented, receive_form
from luthier.api.wire.base import Deleted, ListedText
from luthier.api.wire.files import CreateFile, FileAnswer, FileQuery
from luthier.domain import files

router = APIRouter(prefix="/files", tags=["files"])


@router.post("", operation_id="createFile", openapi_extra=documented("file", CreateFile))
async def create(request: Request, platform: ThePlatform, caller: Tuner) -> FileAnswer:
    """Upload a file."""
    with files.receive(platform.blobs) as incoming:
        form = await receive_form(request, "file", incoming.write, limit_bytes=files.MAX_FILE_BYTES)
        body = validate(CreateFile, form.fields)
        file = await run_in_threadpool(
            files.create,
            platform.database,
            caller.project_id,
            incoming,
            filename=form.filename,
            purpose=body.purpose,
            expires_after_s=body.expires_after.seconds if body.expires_after else None,
        )
    return FileAnswer.of(file)


@router.get("", operation_id="listFiles")
def list_files(platform: ThePlatform, caller: Reader, query: Annotated[FileQuery, Query()]) -> ListedText[FileAnswer]:
    """List the project's files."""
    page = files.list_page(platform.database, caller.project_id, query.wanted, purpose=query.purpose)
    return ListedText.of([FileAnswer.of(file) for file in page.items], page.has_more)


@router.get("/{file_id}", operation_id="retrieveFile")
def retrieve(platform: ThePlatform, caller: Reader, file_id: str) -> FileAnswer:
    """One file."""
    return FileAnswer.of(files.get(platform.database, caller.project_id, file_id))


@router.delete("/{file_id}", operation_id="deleteFile")
def delete(platform: ThePlatform, caller: Tuner, file_id: str) -> Deleted:
    """Delete a file and its bytes."""
    files.delete(platform.database, platform.blobs, caller.project_id, file_id)
    return Deleted(id=file_id, object="file")


@router.get("/{file_id}/content", operation_id="downloadFile", response_class=StreamingResponse)
def content(platform: ThePlatform, caller: Reader, file_id: str) -> StreamingResponse:
    """A file's bytes; a result file's are base64-encoded, as OpenAI sends them."""
    file = files.get(platform.database, caller.project_id, file_id)
    chunks, size_bytes = files.content(platform.blobs, file)
    headers = {
        "content-length": str(size_bytes),
        "content-disposition": f"attachment; filename*=UTF-8''{quote(file.filename, safe='')}",
    }
    return StreamingResponse(chunks, headers=headers, media_type="application/octet-stream")
