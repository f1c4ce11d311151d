"""What becomes of each answer: kept for training, or dropped and why. Repeats are found as in a receipt."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from luthier.cli.display import say
from luthier.cli.distil_answers import Answers, Said
from luthier.cli.distil_asking import Budget, Teacher, spent_on
from luthier.cli.distil_grading import Reward
from luthier.cli.distil_prompts import Prompt
from luthier.core.json import JsonObject
from luthier.core.run import write_atomic
from luthier.data.chats import Chat
from luthier.data.repeats import Seen, words_of


@dataclass(frozen=True)
class Fate:
    """What became of a prompt's answer. `line` is its line in the output; `why` it is dropped, where it is."""

    prompt: Prompt
    said: Said
    reward: float | None
    why: str
    line: int | None


def sift(
    teacher: Teacher, prompts: Sequence[Prompt], answers: Answers, rewards: Sequence[Reward], threshold: float | None
) -> list[Fate]:
    """What becomes of each answer, in the prompts' order; `rewards` are by prompt."""
    seen, fates, lines = Seen(), list[Fate](), 0
    for prompt, reward in zip(prompts, rewards, strict=True):
        if (said := answers.said.get(teacher.key(prompt))) is None:
            continue
        why = said.fault or (reward if isinstance(reward, str) else "")
        if isinstance(reward, float) and threshold is not None and reward < threshold:
            why = f"rewards below {threshold:g}"
        if not why:
            repeat = seen.add(lines + 1, words_of(Chat((*prompt.messages, said.message), ())))
            why = "" if repeat is None else "a duplicate" if repeat.same else "a near duplicate"
        lines += not why
        fates.append(Fate(prompt, said, reward if isinstance(reward, float) else None, why, None if why else lines))
    return fates


def write(output: Path, teacher: Teacher, fates: Sequence[Fate]) -> None:
    """Write the chats that are kept, and where each answer came from."""
    kept = [fate for fate in fates if not fate.why]
    chats: list[JsonObject] = [{"messages": [*f.prompt.messages, f.said.message], **f.prompt.beside} for f in kept]
    write_atomic(
        output.with_name(f"{output.stem}.provenance.jsonl"), _jsonl([_origin(teacher, fate) for fate in fates])
    )
    write_atomic(output, _jsonl(chats))


def report(output: Path, fates: Sequence[Fate], answers: Answers, budget: Budget | None, left: int) -> None:
    """Print what came out, and what the budget kept from being asked."""
    said = answers.said.values()
    heard, spoken = sum(one.prompt_tokens for one in said), sum(one.completion_tokens for one in said)
    dropped = Counter(fate.why for fate in fates if fate.why)
    say(f"{len(said)} answers took {heard:,} tokens of prompts and {spoken:,} of replies.")
    say(f"{len(fates) - dropped.total()} chats kept in {output}")
    for why, count in dropped.most_common():
        say(f"{count} dropped: {why}")
    if left and budget is not None:
        say(
            f"{left} prompts were not asked: {budget.shown(spent_on(answers, budget))} are spent, and the next answer "
            f"might exceed the budget of {budget.shown(budget.most)}. The same command with a larger --budget goes on."
        )


def _origin(teacher: Teacher, fate: Fate) -> JsonObject:
    said = fate.said
    return {
        "line": fate.line,
        "dropped": fate.why or None,
        "prompt_sha256": fate.prompt.sha256,
        "teacher": teacher.model,
        "base_url": str(teacher.client.base_url),
        "asked_at": said.asked_at,
        "usage": {
            "prompt_tokens": said.prompt_tokens,
            "completion_tokens": said.completion_tokens,
            "cached_tokens": said.cached_tokens,
        },
        "reward": fate.reward,
    }


def _jsonl(lines: Sequence[JsonObject]) -> bytes:
    return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode()
