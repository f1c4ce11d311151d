"""A base model of one's own, added: brought here, tried in the trainer and in the engine, and refused with the reason
where either cannot do with it. What passes answers in llama.cpp as the trainer's model does."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Final

from luthier.core.bases import BaseSource
from luthier.core.errors import InvalidRequest, LuthierError
from luthier.data.base_folder import BaseFacts, BaseFolder
from luthier.domain.bases import Bases, content_sha256, run_aside
from luthier.domain.certify import Certificate, compare
from luthier.domain.fetching import Progress, fetch
from luthier.engines.gguf_header import read_header
from luthier.engines.llamacpp import LlamaCpp

NOISE: Final = 0.3  # of quantised products against dequantised ones; of a wrong layer, whole numbers
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def bring(bases: Bases, source: BaseSource, progress: Progress) -> tuple[BaseFacts, Certificate]:
    """Add a base for good: its facts, and how near the engine is to the trainer.

    Its hash is taken of what is there now; so is the licence, where `source` names none.
    Errors: `InvalidRequest` or `Unavailable` with the reason why it cannot be trained or served; nothing is kept then.
    """
    if not _NAME.fullmatch(source.name):
        raise InvalidRequest(f"{source.name!r} is no name for a base model; use letters, digits and . _ -")
    if source.name in bases.names():
        raise InvalidRequest(f"there is a base model {source.name} already; choose another name")
    with tempfile.TemporaryDirectory(prefix="luthier-base-", dir=bases.scratch()) as incoming:
        place = fetch(source, Path(incoming), progress).absolute()
        progress(f"hashing {source.name}", 0, 0)
        source = replace(source, sha256=content_sha256(place), licence=source.licence or _licence(place) or "unknown")
        folder = bases.place(source)
        known = folder.ready
        try:
            bases.bring(replace(source, source=f"file:{place}"), progress)
            progress(f"trying {source.name} in the trainer", 0, 0)
            run_aside(["luthier.train.trial", str(folder.path)], lambda _: None, f"base model {source.name}")
            progress(f"trying {source.name} in llama.cpp", 0, 0)
            certificate = asyncio.run(_served(folder))
        except BaseException as error:
            if not known:
                shutil.rmtree(folder.path, ignore_errors=True)
            if isinstance(error, LuthierError):
                raise InvalidRequest(f"{source.name} was not added: {error.message}") from error
            raise
    bases.keep(source)
    return folder.read_facts(), certificate


def _licence(place: Path) -> str:
    """What the model says of its own licence."""
    if place.is_file():
        return read_header(place).licence
    card = place / "README.md"
    found = re.search(r"^license:\s*(\S+)", card.read_text(errors="replace"), re.MULTILINE) if card.exists() else None
    return found[1] if found else ""


async def _served(folder: BaseFolder) -> Certificate:
    engine = LlamaCpp(folder)
    try:
        probe, template = json.loads(folder.probe.read_text()), folder.template.read_text()
        certificate = await compare(engine, None, probe, template, noise=NOISE)
    finally:
        await engine.close()
    assert certificate is not None  # llama.cpp gives log-probabilities
    return certificate
