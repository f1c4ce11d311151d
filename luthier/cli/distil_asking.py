"""A teacher is asked what has no answer yet, within a budget. Knows no files and no graders."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any, Final, cast

from openai import BadRequestError, OpenAI

from luthier.cli.compare import is_too_long
from luthier.cli.display import counting_bar
from luthier.cli.distil_answers import Answers, Said
from luthier.cli.distil_prompts import Prompt, digest
from luthier.core.errors import InvalidRequest
from luthier.core.json import JsonObject
from luthier.core.prices import Price, request_cost
from luthier.core.verdict.contenders import text_of

AT_ONCE: Final = 4
TEMPLATE_TOKENS: Final = 64  # what a server may add to a prompt; text itself has no more tokens than bytes


@dataclass(frozen=True)
class Budget:
    """What may be spent, in dollars where there is a price, else in tokens."""

    most: float
    price: Price | None

    def cost(self, said: Said) -> float:
        """Of one answer."""
        if self.price is None:
            return said.prompt_tokens + said.completion_tokens
        return request_cost(
            self.price,
            prompt_tokens=said.prompt_tokens,
            completion_tokens=said.completion_tokens,
            cached_tokens=said.cached_tokens,
        )

    def shown(self, amount: float) -> str:
        return f"${amount:.4f}" if self.price else f"{amount:,.0f} tokens"


@dataclass(frozen=True)
class Teacher:
    """Who answers, where, and in how many tokens."""

    client: OpenAI
    model: str
    max_tokens: int

    def key(self, prompt: Prompt) -> str:
        """The same for the same question to the same teacher."""
        return digest([str(self.client.base_url), self.model, self.max_tokens, prompt.question])

    def most(self, prompt: Prompt, longest: int = 0) -> Said:
        """An answer as dear as it can be, where one had `longest` tokens."""
        heard = len(json.dumps(prompt.question, ensure_ascii=False).encode()) + TEMPLATE_TOKENS
        return Said(self.key(prompt), {}, "", heard, max(self.max_tokens, longest), 0, int(time.time()))

    def ask(self, prompt: Prompt) -> Said:
        """The answer. Errors: the client's own, but for a prompt that is too long, which costs nothing."""
        most = self.most(prompt)
        try:
            given = self.client.chat.completions.create(
                model=self.model, max_completion_tokens=self.max_tokens, **cast(Any, prompt.question)
            )
        except BadRequestError as error:
            if is_too_long(error):
                return Said(most.key, {}, "longer than the teacher's context", 0, 0, 0, most.asked_at)
            raise
        choice, usage = given.choices[0], given.usage
        said = {"role": "assistant", **choice.message.model_dump(include={"content", "tool_calls"}, exclude_none=True)}
        details = usage.prompt_tokens_details if usage else None
        return Said(
            key=most.key,
            message=said,
            fault=self._fault(said, choice.finish_reason, choice.message.refusal),
            prompt_tokens=usage.prompt_tokens if usage else most.prompt_tokens,
            completion_tokens=usage.completion_tokens if usage else most.completion_tokens,
            cached_tokens=(details.cached_tokens or 0) if details else 0,
            asked_at=most.asked_at,
        )

    def _fault(self, said: JsonObject, finish_reason: str, refusal: str | None) -> str:
        if refusal or finish_reason == "content_filter":
            return "refused"
        if finish_reason == "length":
            return f"cut at {self.max_tokens} tokens"
        return "" if text_of(said).strip() or said.get("tool_calls") else "empty"


def parse_budget(text: str | None, teacher: str, prices: Mapping[str, Price]) -> Budget | None:
    """A budget as it is typed. Errors: `InvalidRequest`, also for money where the teacher's price is not known."""
    if text is None:
        return None
    number, price = text.lower().replace(",", ""), None
    if number.endswith("usd"):
        number, price = number.removesuffix("usd"), prices.get(teacher)
        if price is None:
            raise InvalidRequest(
                f'--budget {text}: no price is known for {teacher}; add [prices."{teacher}"] to luthier.toml, or give '
                "the budget in tokens"
            )
    try:
        most = float(number) if price else int(number)
    except ValueError:
        raise InvalidRequest(f"--budget {text}: give tokens, as in 200000, or money, as in 2.50usd") from None
    return Budget(most, price)


def ask_all(teacher: Teacher, prompts: Sequence[Prompt], answers: Answers, budget: Budget | None) -> int:
    """Ask what has no answer yet, some at once; how many the budget left unasked.

    A question is asked when the budget holds even if its answer, and those under way, are as long as they may be.
    """
    waiting = {key: prompt for prompt in prompts if (key := teacher.key(prompt)) not in answers.said}
    asked: dict[Future[Said], Said] = {}
    spent = spent_on(answers, budget)
    longest = max((said.completion_tokens for said in answers.said.values()), default=0)  # not all servers cut

    def affordable(prompt: Prompt) -> bool:
        planned = [*asked.values(), teacher.most(prompt, longest)]
        return budget is None or spent + sum(map(budget.cost, planned)) <= budget.most

    with counting_bar(f"Asking {teacher.model}", len(waiting)) as advance, ThreadPoolExecutor(AT_ONCE) as pool:
        try:
            while True:
                while waiting and len(asked) < AT_ONCE and affordable(prompt := next(iter(waiting.values()))):
                    waiting.pop(teacher.key(prompt))
                    asked[pool.submit(teacher.ask, prompt)] = teacher.most(prompt, longest)
                if not asked:
                    return len(waiting)
                for future in wait(asked, return_when=FIRST_COMPLETED).done:
                    del asked[future]
                    said = future.result()
                    answers.keep(said)
                    spent += budget.cost(said) if budget else 0
                    longest = max(longest, said.completion_tokens)
                    advance()
        finally:  # what is under way is paid for
            for future in wait(asked).done:
                if future.exception() is None:
                    answers.keep(future.result())


def spent_on(answers: Answers, budget: Budget | None) -> float:
    """What they took of the budget."""
    return sum(map(budget.cost, answers.said.values())) if budget else 0.0
