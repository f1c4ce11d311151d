"""What the trained model thinks of a few rows, for the server to hold the served model against. Knows no engine."""

from __future__ import annotations

import json
from typing import Final

import numpy as np
import torch

from luthier.core.json import JsonObject
from luthier.core.run import RunFolder, write_atomic
from luthier.data.chats import Chat, Preference
from luthier.data.rows import Rows
from luthier.train.dataset import Dataset
from luthier.train.policy import Policy

PROBES: Final = 3
TOKENS: Final = 4  # of each answer: enough to tell an adapter that is not applied from rounding


def write_probe(run: RunFolder, policy: Policy, data: Dataset, rows: Rows) -> None:
    """Write `probe.json`: for each of the first chats its request, the prompt's ids, and the likeliest next tokens."""
    probes: list[JsonObject] = []
    examples = data.examples(range(min(PROBES, len(data))))
    for (_, example), made in zip(examples, rows.encode(examples), strict=True):
        chat = example.preferred if isinstance(example, Preference) else example
        if not isinstance(chat, Chat):
            continue
        start = _last_answer(made[0].weights)
        ids = made[0].ids[: start + TOKENS]
        with torch.no_grad():
            logp_TV = policy.next_tokens(ids)[start - 1 :]
        best_logp, best_id = logp_TV.max(-1)
        body: JsonObject = {"messages": list(chat.messages[:-1])}
        if chat.tools:
            body |= {"tools": list(chat.tools), "parallel_tool_calls": chat.parallel_tool_calls}
        probes.append(
            {
                "body": body,
                "prompt_ids": ids[:start].tolist(),
                "answer_ids": ids[start:].tolist(),
                "likeliest": [
                    [int(i), rows.text_of(int(i)), float(p)] for i, p in zip(best_id, best_logp, strict=True)
                ],
            }
        )
    write_atomic(run.probe, json.dumps(probes).encode())


def _last_answer(weights: np.ndarray) -> int:
    """Where the last run of trained tokens begins."""
    learnt = np.flatnonzero(weights)
    gaps = np.flatnonzero(np.diff(learnt) > 1)
    return int(learnt[gaps[-1] + 1] if len(gaps) else learnt[0])
