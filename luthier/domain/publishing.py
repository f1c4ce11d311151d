"""A job's last leg: the adapter is checked in the engine that will serve it, the metrics become a result file."""

from __future__ import annotations

from dataclasses import dataclass

from anyio.from_thread import BlockingPortal

from luthier.core.files import FileObject
from luthier.core.ids import new_id
from luthier.core.jobs import Job, NewEvent
from luthier.core.models import TunedModel
from luthier.core.run import RunFolder
from luthier.domain import progress
from luthier.domain.certify import certify
from luthier.domain.platform import Platform
from luthier.store import files


@dataclass(frozen=True)
class Published:
    """What a finished job leaves: a model that answers, a file of metrics, and what to say."""

    model: TunedModel
    result_file: str
    said: list[NewEvent]


def publish(job: Job, run: RunFolder, platform: Platform, portal: BlockingPortal) -> Published:
    """Make the trained model ready to answer. Errors: `JobFailed` when it does not answer as it was trained to."""
    spec = run.read_spec()
    now = int(platform.database.now())
    model = progress.model_of(
        job, spec, name=str(progress.model_name(job)), adapter=f"{job.id}/adapter", created_at=now
    )
    said = certify(job, run, model, platform, portal)
    return Published(model, _keep_metrics(job, run, platform, now), said)


def _keep_metrics(job: Job, run: RunFolder, platform: Platform, now: int) -> str:
    """The metrics as a file of the job's project. A crash before the job ends leaves an orphan, never a gap."""
    file_id = new_id("file")
    with platform.blobs.writer(file_id) as blob:
        blob.write(run.metrics.read_bytes())
        stored = blob.close()
    files.create(
        platform.database,
        FileObject(
            id=file_id,
            project_id=job.project_id,
            filename="step_metrics.csv",
            purpose="fine-tune-results",
            size_bytes=stored.size_bytes,
            sha256=stored.sha256,
            blob=file_id,
            created_at=now,
        ),
    )
    return file_id
