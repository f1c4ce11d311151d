"""How long what people said is kept: copies of training data until their job is judged, the rest as settings say."""

from __future__ import annotations

import shutil
from typing import Final

from luthier.core.run import RunFolder
from luthier.domain.platform import Platform
from luthier.store import consistency, responses, stored_chats

DAY_S: Final = 24 * 3600


def sweep(platform: Platform, swept: set[str]) -> None:
    """Remove the data of jobs that have no more to do from their run folders, and what is past its time.

    Folders that will never need another look are added to `swept`, and left out.
    """
    folders = list(platform.settings.runs.iterdir())  # before the jobs: a folder's job is there before the folder
    unfinished = set(consistency.unfinished_jobs(platform.database))
    days = platform.settings.retention_days
    before = None if days is None else int(platform.database.now()) - days * DAY_S
    for path in folders:
        if path.name in unfinished or path.name in swept:
            continue
        run = RunFolder(path)
        run.remove_leavings()
        run.training.unlink(missing_ok=True)
        run.validation.unlink(missing_ok=True)
        shutil.rmtree(run.verdict, ignore_errors=True)
        for state in run.path.glob("checkpoints/*/state.safetensors"):  # nothing goes on from it any more
            state.unlink(missing_ok=True)
        if before is not None and run.log.exists():
            if run.log.stat().st_mtime >= before:
                continue
            run.log.unlink(missing_ok=True)
        swept.add(path.name)
    if before is not None:
        stored_chats.remove_older(platform.database, before)
        responses.remove_older(platform.database, before)
