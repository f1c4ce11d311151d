"""What a model in training thinks of a few rows, for the server to hold the served model against. Knows no engine.

template        the chat template that the rows were rendered with, and `today`, the date that it was to tell
rows            of each: `body` (the request; null for a plain text), `prompt_ids` and their `prompt_texts`, the
                first `answer_ids` and how many there are in all, the `end` token of the answer, and for each
                position from the answer's first on the likeliest token that is text by itself, as
                [id, log-probability]: of the model (`trained`) and of its base (`base`)
modules         the same of the first row, with the adapter on one kind of layer alone: which one is served wrongly
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from luthier.core.json import Json, JsonObject
from luthier.core.run import write_atomic
from luthier.data.chats import Chat, Completion, Example, Preference
from luthier.data.rows import Row, Rows
from luthier.train.policy import Ids, Policy

PROBES: Final = 3
MANY: Final = 1000  # of the likeliest tokens, among which one that is text is looked for
TOKENS: Final = 4  # of each answer: enough to tell an adapter that is not applied from rounding


def passes(policy: Policy) -> int:
    """How often a row goes through the model for a probe, at most: rows are in one trie where they can be."""
    return 2 * PROBES + len(_kinds(policy))


def write_probe(path: Path, policy: Policy, examples: Sequence[tuple[int, Example]], rows: Rows, template: str) -> None:
    """Write what the policy thinks of the examples."""
    taken = [
        (example, row, place)
        for (_, example), (row, *_) in zip(examples, rows.encode(examples), strict=True)
        if (place := _last_learnt(row)) is not None
    ]
    asked = [(row.ids[: start + TOKENS], start) for _, row, place in taken for start, _ in [row.answers[place]]]
    trained = _likeliest(policy, asked, rows)
    with policy.as_base():
        base = _likeliest(policy, asked, rows)
    probes: list[Json] = []
    for number, (example, row, place) in enumerate(taken):
        start, end = row.answers[place]
        probes.append(
            {
                "body": _body(example, place),
                "prompt_ids": row.ids[:start].tolist(),
                "prompt_texts": [rows.text_of(int(i)) for i in row.ids[:start]],
                "answer_ids": row.ids[start : min(end, start + TOKENS)].tolist(),
                "answer_tokens": end - start,
                "end": _end(row, end, rows),
                "trained": trained[number],
                "base": base[number],
            }
        )
    today = rows.today.isoformat() if rows.today else None
    modules = _by_module(policy, asked[:1], rows)
    probe: JsonObject = {"template": template, "today": today, "rows": probes, "modules": modules}
    write_atomic(path, json.dumps(probe).encode())


def _end(row: Row, end: int, rows: Rows) -> list[Json] | None:
    """The token that ends the answer; None where it is cut off, or none: some templates end only a chat's last one."""
    last = int(row.ids[end - 1])
    if row.cut or (end < len(row.ids) and rows.is_text(last)):
        return None
    return [last, rows.text_of(last)]


def _body(example: Example, place: int) -> JsonObject | None:
    chat = example.preferred if isinstance(example, Preference) else example
    if isinstance(chat, Completion):
        return None
    body: JsonObject = {"messages": list(_prompt(chat, place))}
    if chat.tools:
        body |= {"tools": list(chat.tools), "parallel_tool_calls": chat.parallel_tool_calls}
    return body


def _prompt(chat: Chat, place: int) -> tuple[JsonObject, ...]:
    """The messages before the one that is learnt at a place among those."""
    learnt = [number for number, learnt in enumerate(chat.trained) if learnt]
    return chat.messages[: learnt[place]]


def _likeliest(policy: Policy, asked: Sequence[tuple[Ids, int]], rows: Rows) -> list[Json]:
    """Of each row asked, `[id, log-probability]` of the likeliest text at every position from its start on."""
    if not asked:
        return []
    with torch.no_grad():
        return [[_spoken(logp_V, rows) for logp_V in logp_TV] for logp_TV in policy.next_tokens(asked)]


def _spoken(logp_V: Tensor, rows: Rows) -> Json:
    spoken = next(i for i in logp_V.topk(min(MANY, len(logp_V))).indices.tolist() if rows.is_text(i))
    return [spoken, float(logp_V[spoken])]


def _by_module(policy: Policy, asked: Sequence[tuple[Ids, int]], rows: Rows) -> JsonObject:
    """What the model thinks of one row with the adapter on one kind of layer alone, by kind."""
    found: JsonObject = {}
    try:
        for kind in _kinds(policy) if asked else ():
            for name, layer in policy.adapter.layers.items():
                layer.on = name.endswith("." + kind)
            (found[kind],) = _likeliest(policy, asked, rows)
    finally:
        policy.adapter.enable(True)
    return found


def _kinds(policy: Policy) -> list[str]:
    return sorted({name.rpartition(".")[2] for name in policy.adapter.layers})


def _last_learnt(row: Row) -> int | None:
    """The last of the answers that has a token to learn: a row that is cut may not have them all."""
    return max((place for place, (start, end) in enumerate(row.answers) if row.weights[start:end].any()), default=None)
