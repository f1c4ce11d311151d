"""A tuned model taken away: as adapter, merged weights, GGUF, for Ollama, to a hub; and adapters from elsewhere, in.

Every form is held against the model's certificate before it is called done: llama.cpp must answer from what was
written as the trainer did. Knows no HTTP.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from luthier.core.errors import InvalidRequest, NotFound
from luthier.core.ids import new_id
from luthier.core.models import TunedModel
from luthier.core.names import TunedName, clean_suffix
from luthier.core.run import RunFolder, write_atomic
from luthier.data.base_folder import BaseFolder
from luthier.data.merging import merged
from luthier.data.modelfile import modelfile
from luthier.data.template import ChatTemplate
from luthier.data.tensors import write_tensors
from luthier.domain import models
from luthier.domain.bases import MODEL_SUFFIXES, run_aside
from luthier.domain.certify import COARSEST, NOISE, Certificate, Probe, compare
from luthier.domain.fetching import Progress
from luthier.domain.platform import Platform
from luthier.engines.base import Adapter
from luthier.engines.base_gguf import write_base_gguf
from luthier.engines.gguf_header import read_header
from luthier.engines.llamacpp import LlamaCpp
from luthier.engines.lora_gguf import adapter_gguf
from luthier.engines.merged_gguf import write_merged_gguf
from luthier.store import models as rows
from luthier.store import projects

ADAPTER_FILES: Final = ("adapter_config.json", "adapter_model.safetensors")


@dataclass(frozen=True)
class Taken:
    """A tuned model and where its parts lie."""

    model: TunedModel
    base: BaseFolder
    adapter: Path
    probe: Probe
    run: RunFolder | None  # of the job that made it


def export(
    platform: Platform, name: str, form: str, target: Path, progress: Progress, *, project: str | None = None
) -> Certificate:
    """Write a tuned model to an empty folder, and hold what was written against the trainer.

    `project`: the id of the project that may call it; the first one without.

    Errors: `NotFound`; `InvalidRequest` for a base model, an unknown form or a folder with something in it; `JobFailed`
    when what was written does not answer as the model was trained to: it is left there to be looked at.
    """
    if form not in FORMS:
        raise InvalidRequest(f"--to is one of {', '.join(FORMS)}, not {form!r}")
    if target.exists() and any(target.iterdir()):
        raise InvalidRequest(f"{target} has something in it; name an empty folder or a new one")
    taken = _take(platform, _project_of(platform, project), name, progress)
    target.mkdir(parents=True, exist_ok=True)
    progress(f"writing {form}", 0, 0)
    served = FORMS[form](taken, target)
    progress("asking llama.cpp what it answers from it", 0, 0)
    certificate = asyncio.run(_held(taken, served, target))
    shutil.rmtree(target / ".served", ignore_errors=True)
    (target / "adapter.gguf").unlink(missing_ok=True)
    write_atomic(target / "README.md", _card(platform, taken, certificate).encode())
    return certificate


def import_adapter(
    platform: Platform,
    adapter: Path,
    base: str,
    name: str | None,
    suffix: str,
    progress: Progress,
    *,
    project: str | None = None,
) -> tuple[str, Certificate]:
    """Make a PEFT adapter of a base a tuned model: its name, and how near the engine is to the trainer.

    Errors: `InvalidRequest` for a name that is taken, or an adapter that does not fit; `JobFailed` when the engine does
    not answer as base and adapter do in the trainer.
    """
    project_id = _project_of(platform, project)
    folder, source = platform.bases.pull(base, progress), platform.bases.source(base)
    model_id = new_id("model")
    given = TunedName(base, clean_suffix(platform.settings.organization), clean_suffix(suffix), model_id[-8:])
    name = name or str(given)
    if not name.startswith("ft:") or " " in name:
        raise InvalidRequest(f"{name!r} is no name of a tuned model; give one that begins with ft:, without spaces")
    models.require_free(name, platform.settings, platform.bases, platform.database)
    place = RunFolder(platform.settings.runs / model_id)
    place.adapter.mkdir(parents=True)
    try:
        for file in ADAPTER_FILES:
            shutil.copyfile(adapter / file, place.adapter / file)
        _probe(folder, place.adapter, place.probe, progress)
        now = int(time.time())
        model = TunedModel(model_id, name, project_id, None, base, source.sha256, f"{model_id}/adapter", now)
        taken = Taken(model, folder, place.adapter, json.loads(place.probe.read_text()), None)
        progress("asking llama.cpp what it answers with it", 0, 0)
        certificate = asyncio.run(_held(taken, None, place.adapter))
    except FileNotFoundError as error:
        shutil.rmtree(place.path)
        raise InvalidRequest(f"{adapter}: no PEFT adapter: {Path(str(error.filename)).name} is missing") from error
    except BaseException:
        shutil.rmtree(place.path)
        raise
    write_atomic(place.path / "certificate.json", json.dumps(asdict(certificate)).encode())
    with platform.database.transaction() as connection:
        rows.add(connection, model)
    return name, certificate


def _project_of(platform: Platform, project_id: str | None) -> str:
    """A project's id, the first one's where none is given. Errors: `NotFound`."""
    first = platform.project
    if project_id is not None and projects.get(platform.database, first.organization_id, project_id) is None:
        raise NotFound(f"no project {project_id}; luthier projects list shows them")
    return project_id or first.id


def _take(platform: Platform, project_id: str, name: str, progress: Progress) -> Taken:
    resolved = models.resolve(platform, project_id, name)
    model = resolved.tuned
    if model is None:
        raise InvalidRequest(f"{name} is a base model; only tuned models are exported")
    models.require_base(platform, resolved)
    base = platform.bases.pull(model.base, progress)
    adapter = platform.settings.runs / model.adapter
    run = RunFolder(platform.settings.runs / model.adapter.partition("/")[0])
    if model.step is None and run.probe.exists():
        probe: Probe = json.loads(run.probe.read_text())
    else:  # a checkpoint: the trainer probed the last state alone
        with tempfile.TemporaryDirectory() as scratch:
            _probe(base, adapter, Path(scratch) / "probe.json", progress)
            probe = json.loads((Path(scratch) / "probe.json").read_text())
    return Taken(model, base, adapter, probe, run if model.job_id else None)


def _probe(base: BaseFolder, adapter: Path, probe: Path, progress: Progress) -> None:
    progress("asking the trainer what base and adapter think", 0, 0)
    run_aside(
        ["luthier.train.imported", str(base.path), str(adapter), str(probe)], lambda _: None, f"adapter {adapter}"
    )


async def _held(taken: Taken, served: BaseFolder | None, written: Path) -> Certificate:
    """`served` in the base's place or, when None, the adapter that was `written`, on the base."""
    engine = LlamaCpp(served or taken.base)
    adapter = Adapter(taken.model.id, written) if served is None else None
    try:
        template = taken.base.template.read_text()
        certificate = await compare(engine, adapter, taken.probe, template, noise=COARSEST / NOISE)
    finally:
        await engine.close()
    assert certificate is not None  # llama.cpp gives log-probabilities
    return certificate


def _as_adapter(taken: Taken, target: Path) -> BaseFolder | None:
    for file in ADAPTER_FILES:
        shutil.copyfile(taken.adapter / file, target / file)
    return None


def _as_merged(taken: Taken, target: Path) -> BaseFolder:
    for file in sorted(taken.base.hf.iterdir()):
        if file.suffix in MODEL_SUFFIXES - {".safetensors"} and not file.name.endswith(".index.json"):
            shutil.copyfile(file, target / file.name)
    (target / "chat_template.jinja").write_text(taken.base.template.read_text())
    write_tensors(target / "model.safetensors", merged(taken.base.hf, taken.adapter))
    served = _served(taken, target)
    write_base_gguf(target, served.gguf, name=taken.model.name)
    return served


def _as_gguf(taken: Taken, target: Path) -> BaseFolder:
    lora = adapter_gguf(taken.adapter, read_header(taken.base.gguf))
    write_merged_gguf(taken.base.gguf, lora, target / "model.gguf", template=taken.base.template.read_text())
    served = _served(taken, target)
    served.gguf.symlink_to(target.absolute() / "model.gguf")
    return served


def _as_ollama(taken: Taken, target: Path) -> BaseFolder:
    facts = taken.base.read_facts()
    text = modelfile(ChatTemplate.of(taken.base), facts.stop_tokens or (facts.eos_token,), "model.gguf")
    (target / "Modelfile").write_text(text)
    return _as_gguf(taken, target)


FORMS: Final[dict[str, Callable[[Taken, Path], BaseFolder | None]]] = {
    "adapter": _as_adapter,
    "merged": _as_merged,
    "gguf": _as_gguf,
    "ollama": _as_ollama,
    "hub": _as_adapter,
}


def _served(taken: Taken, target: Path) -> BaseFolder:
    """A base folder around what was written, for the engine."""
    served = BaseFolder(target.absolute() / ".served")
    served.path.mkdir()
    served.template.write_text(taken.base.template.read_text())
    served.write_facts(taken.base.read_facts())
    return served


def _card(platform: Platform, taken: Taken, certificate: Certificate) -> str:
    """What the model is, for people: from its job, its base and its certificate."""
    model, facts = taken.model, taken.base.read_facts()
    lines = ["---", f"base_model: {model.base}", f"license: {facts.licence.lower()}", "library_name: peft", "---", ""]
    lines += [f"# {model.name}", "", f"A tuned {model.base} ({facts.architecture}, {facts.parameters:,} parameters)."]
    lines += ["", f"- base: {platform.bases.source(model.base).source}, SHA-256 {model.base_sha256}"]
    if taken.run is not None:
        spec: Any = asdict(taken.run.read_spec())
        lines += [
            f"- trained by: {spec['method']}, job {model.job_id}, seed {spec['seed']}",
            f"- hyperparameters: {', '.join(f'{k} {v}' for k, v in spec['hyperparameters'].items() if v is not None)}",
            f"- LoRA: rank {spec['adapter']['rank']}, alpha {spec['adapter']['alpha']}",
            f"- training file: SHA-256 {spec['training_sha256']}",
        ]
    lines += [f"- answers end at: {', '.join(facts.stop_tokens or (facts.eos_token,))}"]
    return "\n".join([*lines, f"- certificate: {certificate}", ""])
