"""`/v1/fine_tuning`: jobs, and permissions of checkpoints."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request

from luthier.api.auth import Admin, Reader, ThePlatform, Tuner
from luthier.api.invalid import validate
from luthier.api.json_route import JsonRoute
from luthier.api.wire.base import Deleted, Listed, ListedEnds, filtered_by_metadata
from luthier.api.wire.fine_tuning import (
    CheckpointAnswer,
    CheckpointQuery,
    CreateJob,
    CreatePermissions,
    EventAnswer,
    JobAnswer,
    ListQuery,
    PermissionAnswer,
    PermissionQuery,
)
from luthier.core.errors import InvalidRequest
from luthier.domain import jobs, permissions

router = APIRouter(prefix="/fine_tuning", tags=["fine_tuning"], route_class=JsonRoute)


@router.post("/jobs", operation_id="createFineTuningJob")
def create(platform: ThePlatform, caller: Tuner, body: CreateJob) -> JobAnswer:
    """Start a job."""
    return JobAnswer.of(jobs.create(platform, caller, body.to_job()))


@router.get("/jobs", operation_id="listPaginatedFineTuningJobs", openapi_extra=filtered_by_metadata(ListQuery))
def list_jobs(request: Request, platform: ThePlatform, caller: Reader) -> Listed[JobAnswer]:
    """List jobs, newest first; `metadata[k]=v` or `metadata=null` filters."""
    metadata: dict[str, str] = {}
    plain = False
    rest: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        if name.startswith("metadata[") and name.endswith("]"):
            metadata[name[9:-1]] = value
        elif name == "metadata":
            if value not in ("null", ""):  # the second is how Node's client sends null
                raise InvalidRequest(
                    "Invalid 'metadata': filter by metadata[KEY]=VALUE, or metadata=null for jobs without any.",
                    code="invalid_value",
                    param="metadata",
                )
            plain = True
        else:
            rest[name] = value
    query = validate(ListQuery, rest)
    page = jobs.list_page(platform.database, caller.project_id, query.wanted, metadata=metadata, plain=plain)
    return Listed(data=[JobAnswer.of(job) for job in page.items], has_more=page.has_more)


@router.get("/jobs/{fine_tuning_job_id}", operation_id="retrieveFineTuningJob")
def retrieve(platform: ThePlatform, caller: Reader, fine_tuning_job_id: str) -> JobAnswer:
    """One job."""
    return JobAnswer.of(jobs.get(platform.database, caller.project_id, fine_tuning_job_id))


@router.post("/jobs/{fine_tuning_job_id}/cancel", operation_id="cancelFineTuningJob")
def cancel(platform: ThePlatform, caller: Tuner, fine_tuning_job_id: str) -> JobAnswer:
    """End a job now."""
    return JobAnswer.of(jobs.cancel(platform, caller.project_id, fine_tuning_job_id))


@router.post("/jobs/{fine_tuning_job_id}/pause", operation_id="pauseFineTuningJob")
def pause(platform: ThePlatform, caller: Tuner, fine_tuning_job_id: str) -> JobAnswer:
    """Let a job rest."""
    return JobAnswer.of(jobs.pause(platform, caller.project_id, fine_tuning_job_id))


@router.post("/jobs/{fine_tuning_job_id}/resume", operation_id="resumeFineTuningJob")
def resume(platform: ThePlatform, caller: Tuner, fine_tuning_job_id: str) -> JobAnswer:
    """Let a paused job go on."""
    return JobAnswer.of(jobs.resume(platform, caller.project_id, fine_tuning_job_id))


@router.get("/jobs/{fine_tuning_job_id}/events", operation_id="listFineTuningEvents")
def list_events(
    platform: ThePlatform, caller: Reader, fine_tuning_job_id: str, query: Annotated[ListQuery, Query()]
) -> Listed[EventAnswer]:
    """What happened to a job, newest first."""
    page = jobs.list_events(platform.database, caller.project_id, fine_tuning_job_id, query.wanted)
    return Listed(data=[EventAnswer.of(event) for event in page.items], has_more=page.has_more)


@router.get("/jobs/{fine_tuning_job_id}/checkpoints", operation_id="listFineTuningJobCheckpoints")
def list_checkpoints(
    platform: ThePlatform, caller: Reader, fine_tuning_job_id: str, query: Annotated[CheckpointQuery, Query()]
) -> ListedEnds[CheckpointAnswer]:
    """A job's checkpoints, newest first."""
    page = jobs.list_checkpoints(platform.database, caller.project_id, fine_tuning_job_id, query.wanted)
    return ListedEnds.of([CheckpointAnswer.of(checkpoint) for checkpoint in page.items], page.has_more)


@router.post("/checkpoints/{checkpoint:path}/permissions", operation_id="createFineTuningCheckpointPermission")
def permit(
    platform: ThePlatform, caller: Admin, checkpoint: str, body: CreatePermissions
) -> ListedEnds[PermissionAnswer]:
    """Let projects call a checkpoint."""
    made = permissions.create(platform.database, caller, checkpoint, body.project_ids)
    return ListedEnds.of([PermissionAnswer.of(permission) for permission in made], False)


@router.get("/checkpoints/{checkpoint:path}/permissions", operation_id="listFineTuningCheckpointPermissions")
def list_permissions(
    platform: ThePlatform, caller: Admin, checkpoint: str, query: Annotated[PermissionQuery, Query()]
) -> ListedEnds[PermissionAnswer]:
    """Who may call a checkpoint."""
    page = permissions.list_page(platform.database, caller, checkpoint, query.wanted, project_id=query.project_id)
    return ListedEnds.of([PermissionAnswer.of(permission) for permission in page.items], page.has_more)


@router.delete(
    "/checkpoints/{checkpoint:path}/permissions/{permission_id}", operation_id="deleteFineTuningCheckpointPermission"
)
def forbid(platform: ThePlatform, caller: Admin, checkpoint: str, permission_id: str) -> Deleted:
    """Take a permission back."""
    permissions.delete(platform.database, caller, checkpoint, permission_id)
    return Deleted(id=permission_id, object="checkpoint.permission")
