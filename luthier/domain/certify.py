"""The parity check: before a model is called ready, the engine that will serve it must answer as the trainer's did.

The trainer leaves `probe.json`: for a few rows of its data the prompt's token ids, the first tokens of the answer,
and what it thought the
likeliest token at each of them. Here the same prompts go through the real serving path. Knows no torch and no
llama.cpp.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from anyio.from_thread import BlockingPortal

from luthier.core.errors import JobFailed
from luthier.core.jobs import Job, NewEvent
from luthier.core.json import JsonObject
from luthier.core.models import TunedModel
from luthier.core.run import RunFolder
from luthier.domain.platform import Platform
from luthier.engines.base import Adapter, Engine

# Trainer and engine multiply differently: the engine's quantised products against dequantised floats. Measured on the
# default base:
# differences of 0.02 to 0.3 where the adapter is applied rightly, above 2 where it is not applied or its rows are
# permuted.
TOLERANCE: Final = 1.0
TOP: Final = 10


@dataclass(frozen=True)
class Certificate:
    """How near the served model is to the trained one: log-probabilities compared, and the largest difference."""

    compared: int
    largest_difference: float


def certify(job: Job, run: RunFolder, model: TunedModel, platform: Platform, portal: BlockingPortal) -> list[NewEvent]:
    """Compare, and say what was found. Errors: `JobFailed` naming what differs."""
    if not run.probe.exists():
        return []
    engine = platform.engines.get(model.base)
    adapter = Adapter(model.id, platform.settings.runs / model.adapter)
    certificate = portal.call(compare, engine, adapter, json.loads(run.probe.read_text()))
    if certificate is None:
        return [NewEvent("certificate", "This engine gives no log-probabilities; the model was not compared.", "warn")]
    message = (
        f"The served model answers as it was trained to: {certificate.compared} log-probabilities differ by at most "
        f"{certificate.largest_difference:.3f}"
    )
    return [NewEvent("certificate", message)]


async def compare(engine: Engine, adapter: Adapter, probes: list[dict[str, Any]]) -> Certificate | None:
    """Ask the engine every probe. None when it cannot say how likely tokens are.

    Errors: `JobFailed` for other token ids, or for log-probabilities further apart than `TOLERANCE`.
    """
    compared, largest = 0, 0.0
    for probe in probes:
        ids = await engine.tokenize(probe["body"], adapter)
        if ids and ids != probe["prompt_ids"]:
            raise JobFailed(
                "The engine makes other tokens of a chat than the trainer did: its chat template or tokenizer differs. "
                f"First difference at token {_first_difference(ids, probe['prompt_ids'])}.",
                code="server_error",
            )
        for at, (token_id, text, logprob) in enumerate(probe["likeliest"]):
            prompt = probe["prompt_ids"] + probe["answer_ids"][:at]
            body: JsonObject = {"prompt": prompt, "max_tokens": 1, "temperature": 0, "logprobs": TOP}
            served = top_tokens(await engine.answer("completions", body, adapter))
            if served is None:
                return None
            found = served.get(token_id, served.get(text, min(served.values())))
            compared, largest = compared + 1, max(largest, abs(found - logprob))
    if largest > TOLERANCE:
        raise JobFailed(
            f"The served model does not answer as the trained one: log-probabilities differ by {largest:.2f}, "
            f"where at most {TOLERANCE} is allowed. The adapter is not applied as it was trained.",
            code="server_error",
        )
    return Certificate(compared, largest)


def top_tokens(answer: JsonObject) -> Mapping[int | str, float] | None:
    """The likeliest first tokens of a completion, by id where the engine gives ids, else by text."""
    found: Any = answer["choices"]
    logprobs = found[0].get("logprobs")
    if not logprobs:
        return None
    if "content" in logprobs:
        return {t.get("id", t["token"]): t["logprob"] for t in logprobs["content"][0]["top_logprobs"]}
    return dict(logprobs["top_logprobs"][0])


def _first_difference(ours: list[int], theirs: list[int]) -> int:
    return next((i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), min(len(ours), len(theirs)))
