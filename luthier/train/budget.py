"""How many tokens a run holds at once: half as many where memory runs out, and from the same place on when it goes on.

Knows neither method nor data.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

from luthier.core.errors import JobFailed
from luthier.train.device import give_back, is_out_of_memory
from luthier.train.journal import Halving, Journal
from luthier.train.policy import MIN_BUDGET, Policy

T = TypeVar("T")
_MEMORY: Final = "Memory ran out"
_KILLED: Final = "The system ended the trainer for its memory"


class Budget:
    """The policy's `token_budget`. Sums depend on it, so the journal holds, durably, where it was halved."""

    def __init__(self, policy: Policy, journal: Journal) -> None:
        self._policy = policy
        self._journal = journal

    def fit(self, call: Callable[[], T], step: int, *, measuring: bool = False) -> T:
        """What `call` gives, which may be called again: where memory runs out, with half as many tokens at once.

        `measuring`: at a step's end, when it has been learnt from.
        Errors: `JobFailed` when there is no memory for the fewest.
        """
        self._policy.token_budget = self._at(step, measuring)
        multiplied = self._policy.flops
        while True:
            self._policy.most_tokens = 0
            try:
                return call()
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
            self._policy.adapter.gradient.zero_()
            self._policy.flops = multiplied  # what was in vain is no share of the machine's use
            give_back()
            if self._policy.token_budget <= MIN_BUDGET:
                raise JobFailed(
                    f"A step does not fit into memory, with {MIN_BUDGET} tokens at once or one example. "
                    "Shorter examples or a smaller base model would.",
                    code="server_error",
                )
            self._policy.token_budget = self._halve(step, measuring, self._policy.most_tokens, _MEMORY)

    def halve_ahead(self, step: int, most_tokens: int) -> None:
        """Halve it from the first step on that this trainer does, for the system killed the one before it.

        `most_tokens`: of the largest batch.
        """
        if self._at(step, measuring=False) > MIN_BUDGET:
            self._halve(step, False, most_tokens, _KILLED)

    def _at(self, step: int, measuring: bool) -> int:
        halved = [h.token_budget for h in self._journal.halvings if (h.step, h.measuring) <= (step, measuring)]
        return min([self._policy.token_budget, *halved])

    def _halve(self, step: int, measuring: bool, most_tokens: int, why: str) -> int:
        """Half of what was held at once, which may be far less than the budget; of the budget where that is unknown."""
        budget = self._at(step, measuring)
        tokens = max(MIN_BUDGET, min(budget, most_tokens or budget) // 2)
        self._journal.halve(
            Halving(step, measuring, tokens), f"{why}; training goes on with {tokens:,} tokens at once."
        )
        return tokens
