"""A job's last leg: the adapter is checked in the engine that will serve it, metrics and receipt become files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

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
from luthier.store.blobs import CHUNK_BYTES


@dataclass(frozen=True)
class Published:
    """What a finished job leaves: a model that answers, files (the metrics first), and what to say."""

    model: TunedModel
    result_files: list[str]
    said: list[NewEvent]


def publish(job: Job, run: RunFolder, platform: Platform, portal: BlockingPortal) -> Published:
    """Make the trained model ready to answer. Errors: `JobFailed` when it does not answer as it was trained to."""
    spec = run.read_spec()
    model = progress.model_of(
        job,
        spec,
        name=str(progress.model_name(job)),
        adapter=f"{job.id}/adapter",
        created_at=int(platform.database.now()),
    )
    said = certify(job, run, model, platform, portal)
    kept = [
        keep_result(job, platform, "step_metrics.csv", _bytes_of(run.metrics)),
        keep_result(job, platform, "receipt.jsonl", _bytes_of(run.receipt, run.validation_receipt)),
    ]
    return Published(model, kept, said)


def keep_result(job: Job, platform: Platform, filename: str, content: Iterable[bytes]) -> str:
    """A file of the job's project. A crash before the job names it leaves an orphan, never a gap."""
    file_id = new_id("file")
    with platform.blobs.writer(file_id) as blob:
        for part in content:
            blob.write(part)
        stored = blob.close()
    files.create(
        platform.database,
        FileObject(
            id=file_id,
            project_id=job.project_id,
            filename=filename,
            purpose="fine-tune-results",
            size_bytes=stored.size_bytes,
            sha256=stored.sha256,
            blob=file_id,
            created_at=int(platform.database.now()),
        ),
    )
    return file_id


def _bytes_of(*paths: Path) -> Iterator[bytes]:
    for path in filter(Path.exists, paths):
        with path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                yield chunk
