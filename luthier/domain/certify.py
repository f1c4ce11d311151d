"""The parity certificate: before a model is called ready, the engine that will serve it must answer as the trainer did.

The trainer leaves `probe.json` (`train/probe.py`): rows that it did not train on where there is a validation file, and
what the model and its base think of them. Here the same rows go through the real serving path: the same token ids, the
same log-probabilities, an end that stops the engine, another reply than the base's. Knows no torch and no llama.cpp.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any, Final

from anyio.from_thread import BlockingPortal

from luthier.core.errors import JobFailed
from luthier.core.jobs import Job, NewEvent
from luthier.core.json import Json, JsonObject
from luthier.core.models import TunedModel
from luthier.core.run import RunFolder
from luthier.domain.platform import Platform
from luthier.engines.base import Adapter, Engine
from luthier.engines.merging import all_of

# Trainer and engine multiply differently, and by how much depends on base and machine: so the base's own difference,
# met on the same rows, says what is rounding. Within these bounds, as a multiple of it.
NOISE: Final = 3.0
FINEST: Final = 0.1
COARSEST: Final = 1.0
CERTAIN: Final = 1e4  # added to a logit: no other token is ever so likely

Probe = dict[str, Any]
"""`probe.json`; its rows are of the same type."""


@dataclass(frozen=True)
class Certificate:
    """How near the served model is to the trained one. Differences are of log-probabilities, the largest of all.

    `base_difference`: the base model's own, under the same engine; the tolerance follows from it. Of `replies`, how
    many `differed` from the base's, and `stopped` by themselves in twice the length of what was to be learnt.
    """

    compared: int
    largest_difference: float
    base_difference: float
    tolerance: float
    replies: int
    differed: int
    stopped: int

    def __str__(self) -> str:
        text = f"{self.compared} log-probabilities differ by at most {self.largest_difference:.3f}"
        if not self.replies:
            return f"{text} (allowed: {self.tolerance:.2f})"
        base = f"the base model's own: {self.base_difference:.3f}"
        return (
            f"{text} (allowed: {self.tolerance:.2f}; {base}), {self.differed} of {self.replies} replies differ from "
            f"the base model's, {self.stopped} stop by themselves"
        )


def certify(job: Job, run: RunFolder, model: TunedModel, platform: Platform, portal: BlockingPortal) -> list[NewEvent]:
    """Compare, and say what was found. Errors: `JobFailed` naming what differs."""
    if not run.probe.exists():
        return []
    engine = portal.call(platform.engines.get, model.base)  # the pool is the event loop's
    adapter = Adapter(model.id, platform.settings.runs / model.adapter)
    template = Path(run.read_spec().base_dir) / "template.jinja"
    certificate = portal.call(compare, engine, adapter, json.loads(run.probe.read_text()), template.read_text())
    if certificate is None:
        return [NewEvent("certificate", "This engine gives no log-probabilities; the model was not compared.", "warn")]
    if not certificate.compared:
        words = "None of the rows to compare had anything to learn; the model was not compared with what was trained."
        return [NewEvent("certificate", words, "warn", data=asdict(certificate))]
    weak = certificate.replies and not (certificate.differed and certificate.stopped)
    message = f"The served model answers as it was trained to: {certificate}"
    return [NewEvent("certificate", message, "warn" if weak else "info", data=asdict(certificate))]


async def compare(
    engine: Engine, adapter: Adapter | None, probe: Probe, template: str, *, noise: float = 0.0
) -> Certificate | None:
    """Hold an engine against a probe. None when it cannot say how likely tokens are.

    Without an adapter the base itself is compared, or whatever the engine serves in its place; `noise` is then what may
    be rounding.
    Errors: `JobFailed` naming the cause: template, tokenizer, module, or an end that is none.
    """
    rows: list[Probe] = probe["rows"]
    today = date.fromisoformat(probe["today"]) if probe.get("today") else None  # older probes have none
    for row in rows:
        await _require_same_tokens(engine, adapter, row, today, probe["template"] == template)
    # A model's rows at once, and all that is asked of it before the other's: an engine computes together what is of one
    # model, and reads a prompt that it has just read no second time.
    found = await differences(engine, adapter, rows, "trained")
    if found is None:
        return None
    await all_of([_require_end(engine, adapter, row) for row in rows])
    asked = [row for row in rows if adapter and row["body"]]
    tuned = await all_of([_reply(engine, adapter, row, 2 * row["answer_tokens"] + 16) for row in asked])
    if adapter is not None:
        noise = max(await differences(engine, None, rows, "base") or [noise])
    tolerance = min(COARSEST, max(FINEST, NOISE * noise))
    largest = max(found, default=0.0)
    if largest > tolerance:
        raise JobFailed(
            f"The served model does not answer as the trained one: log-probabilities differ by {largest:.2f}, where at "
            f"most {tolerance:.2f} is allowed. {await _cause(engine, adapter, probe, tolerance)}",
            code="server_error",
        )
    lengths = [max(1, reply["usage"]["completion_tokens"]) for reply in tuned]
    base = await all_of([_reply(engine, None, *each) for each in zip(asked, lengths, strict=True)])
    differed = sum(_said(reply) != _said(plain) for reply, plain in zip(tuned, base, strict=True))
    stopped = sum(reply["choices"][0]["finish_reason"] != "length" for reply in tuned)
    return Certificate(len(found), largest, noise, tolerance, len(tuned), differed, stopped)


async def differences(engine: Engine, adapter: Adapter | None, rows: Sequence[Probe], told: str) -> list[float] | None:
    """How far the engine's log-probabilities are from those `told`; None when it gives none."""
    found = await all_of([_row_differences(engine, adapter, row, told) for row in rows])
    return None if None in found else [difference for row in found for difference in row or ()]


async def _row_differences(engine: Engine, adapter: Adapter | None, row: Probe, told: str) -> list[float] | None:
    found: list[float] = []
    for at, (token_id, logprob) in enumerate(row[told]):
        # Made to say the token: engines tell how likely they thought it before any bias.
        choice = await _say(engine, adapter, row["prompt_ids"] + row["answer_ids"][:at], token_id, max_tokens=1)
        if not choice.get("logprobs"):
            return None
        found.append(abs(choice["logprobs"]["token_logprobs"][0] - logprob))
    return found


async def _say(engine: Engine, adapter: Adapter | None, prompt: list[int], token_id: int, *, max_tokens: int) -> Probe:
    """The engine's choice when it is made to say a token, again and again."""
    body: JsonObject = {"prompt": list[Json](prompt), "max_tokens": max_tokens, "temperature": 0, "logprobs": 0}
    answer: Any = await engine.answer("completions", {**body, "logit_bias": {str(token_id): CERTAIN}}, adapter)
    choice: Probe = answer["choices"][0]
    return choice


async def _require_same_tokens(
    engine: Engine, adapter: Adapter | None, row: Probe, today: date | None, same_template: bool
) -> None:
    ids = await engine.tokenize(row["body"], adapter, today) if row["body"] else []
    expected = row["prompt_ids"]
    if not ids or ids == expected:
        return
    at = next((i for i, (a, b) in enumerate(zip(ids, expected, strict=False)) if a != b), min(len(ids), len(expected)))
    read = row["prompt_texts"][at : at + 1]
    what = "tokenizer" if same_template else "chat template"
    raise JobFailed(
        f"The engine makes other tokens of a chat than the trainer did: its {what} differs. First difference at token "
        f"{at}" + (f", where the trainer read {read[0]!r}." if read else ", where the trainer's chat ended."),
        code="server_error",
    )


async def _require_end(engine: Engine, adapter: Adapter | None, row: Probe) -> None:
    """Make the engine say the token that ends an answer: it must end there."""
    if row["end"] is None:
        return
    token_id, text = row["end"]
    said = await _say(engine, adapter, row["prompt_ids"] + row["answer_ids"], token_id, max_tokens=2)
    if said["finish_reason"] != "stop":
        raise JobFailed(
            f"The answers that were trained on end with {text!r}, but the engine does not stop at it: every reply "
            "would go on to the end of the context. The base model lacks this stop token; add it again with a chat "
            "template that ends its answers with one that it has.",
            code="server_error",
        )


async def _reply(engine: Engine, adapter: Adapter | None, row: Probe, max_tokens: int) -> Probe:
    body: JsonObject = {**row["body"], "max_tokens": max_tokens, "temperature": 0}
    answer: Probe = await engine.answer("chat/completions", body, adapter)
    return answer


def _said(reply: Probe) -> Probe:
    message: Probe = reply["choices"][0]["message"]
    for call in message.get("tool_calls") or ():
        del call["id"]  # drawn anew each time
    return message


async def _cause(engine: Engine, adapter: Adapter | None, probe: Probe, tolerance: float) -> str:
    """Which modules are served otherwise than trained: each is served alone, and held against the trainer's."""
    if adapter is None:
        return "Its weights are not those that were trained, or are not computed with alike."
    as_base = await differences(engine, adapter, probe["rows"], "base")
    if as_base and max(as_base) <= tolerance:
        return "It answers as the base model: the adapter is not applied at all."
    with tempfile.TemporaryDirectory(prefix=".modules-", dir=adapter.path.parent) as folder:  # where engines look
        # All at once: an engine that starts anew for an adapter then starts once for all.
        asked = [_part_is_wrong(engine, adapter, Path(folder), kind, probe, tolerance) for kind in probe["modules"]]
        wrong = [said for said in await all_of(asked) if said]
    if not wrong:
        return "The adapter is not applied as it was trained; each of its modules alone is."
    return f"Not applied as trained: {', '.join(wrong)}."


async def _part_is_wrong(
    engine: Engine, adapter: Adapter, folder: Path, kind: str, probe: Probe, tolerance: float
) -> str | None:
    """What to say of a kind of module that is served otherwise than trained; None of one that is served rightly."""
    if not _write_part(adapter.path, folder / kind, kind):
        return f"{kind} (missing in the adapter)"
    row = {**probe["rows"][0], "trained": probe["modules"][kind]}
    found = await differences(engine, Adapter(f"{adapter.id}-{kind}", folder / kind), [row], "trained")
    return kind if found and max(found) > tolerance else None


def _write_part(adapter: Path, folder: Path, kind: str) -> bool:
    """An adapter of one kind of module alone; False where there is none."""
    from luthier.data.tensors import read_tensors, write_tensors

    folder.mkdir()
    tensors = {name: tensor for name, tensor in read_tensors(adapter).items() if f".{kind}.lora_" in name}
    write_tensors(folder / "adapter_model.safetensors", tensors)
    (folder / "adapter_config.json").write_bytes((adapter / "adapter_config.json").read_bytes())
    return bool(tensors)
