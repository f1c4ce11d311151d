"""A grader's rewards for a teacher's answers, by the server's graders API. None is asked for twice."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from openai import BadRequestError, OpenAI

from luthier.cli.display import counting_bar
from luthier.cli.distil_answers import Answers, Said
from luthier.cli.distil_asking import AT_ONCE, Teacher
from luthier.cli.distil_prompts import Prompt, digest
from luthier.cli.errors import explain
from luthier.core.errors import InvalidRequest
from luthier.core.json import JsonObject
from luthier.core.verdict.contenders import text_of

Reward = float | str | None
"""What a grader gave, or in words why it gave nothing; None where nobody asked it."""


@dataclass(frozen=True)
class Grading:
    """A grader, and the server that runs it."""

    client: OpenAI
    grader: JsonObject

    def grade(self, prompt: Prompt, said: Said) -> Reward:
        """The reward of one answer."""
        given = self.client.fine_tuning.alpha.graders.run(
            grader=cast(Any, self.grader), model_sample=text_of(said.message), item=prompt.item
        )
        errors = given.metadata.errors.model_dump(by_alias=True)
        failed = [name for name, value in errors.items() if value is True]
        return f"not graded: {', '.join(failed)}" if failed else given.reward


def read_grading(client: OpenAI, path: Path) -> Grading:
    """A grader of a JSON file, seen to be able to grade before a teacher is paid. Errors: `InvalidRequest`."""
    try:
        grader = json.loads(path.read_bytes())
    except ValueError as error:
        raise InvalidRequest(f"{path}: not valid JSON: {error}") from error
    if not isinstance(grader, dict):
        raise InvalidRequest(f'{path}: a grader is an object, such as {{"type": "string_check", ...}}')
    try:
        client.fine_tuning.alpha.graders.validate(grader=cast(Any, grader))
    except BadRequestError as error:
        raise InvalidRequest(f"{path}, {error.param or 'grader'}: {explain(error)}") from error
    return Grading(client, grader)


def grade_all(grading: Grading, teacher: Teacher, prompts: Sequence[Prompt], answers: Answers) -> list[Reward]:
    """The reward of each prompt's answer, those of before included; a grader that failed is asked again."""
    with counting_bar("Grading", len(prompts)) as advance, ThreadPoolExecutor(AT_ONCE) as pool:

        def graded(prompt: Prompt) -> tuple[str, Reward]:
            name, said = digest([grading.grader, prompt.item]), answers.said.get(teacher.key(prompt))
            if said is None or said.fault:
                return name, None
            known = answers.rewards.get((said.key, name))
            return name, grading.grade(prompt, said) if known is None else known

        rewards = list[Reward]()
        for prompt, (name, reward) in zip(prompts, pool.map(graded, prompts), strict=True):
            key = teacher.key(prompt)
            if isinstance(reward, float) and (key, name) not in answers.rewards:
                answers.keep_reward(key, name, reward)
            rewards.append(reward)
            advance()
    return rewards
