"""The data sets of the training benchmark: what repeats in them differs, their words are as varied as support mail."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Final

Line = dict[str, object]
Message = dict[str, str]

BRIEF: Final = "You answer support questions in one friendly sentence."
ITEMS: Final = [
    "order",
    "invoice",
    "parcel",
    "password",
    "refund",
    "subscription",
    "account",
    "receipt",
    "voucher",
    "address",
    "keyboard",
    "charger",
]
TROUBLES: Final = (
    "never arrived",
    "was charged twice",
    "came back damaged",
    "shows the wrong name",
    "stopped working",
    "cannot be changed",
    "was sent to my old flat",
    "expired without a warning",
)
REMEDIES: Final = (
    "a new one leaves our house today",
    "the money is back on your card by Friday",
    "please send me a photo and I will sort it out",
    "I have corrected it, and you can try again now",
    "our courier will collect it from your door",
    "I have asked the warehouse to look for it at once",
)
TOPICS: Final = ("refunds", "deliveries", "complaints", "invoices", "returns", "vouchers", "repairs", "accounts")
MANNERS: Final = (
    "say first what you have done, then what the customer has to do",
    "never promise a day that the warehouse has not confirmed",
    "name the number of the case, and ask for it when it is missing",
    "offer a call when the same question comes for the third time",
    "keep to one sentence unless the customer asks for more",
)
RULES: Final = "You answer for the support desk. " + " ".join(
    f"About {topic} and all that belongs to them: {MANNERS[i % len(MANNERS)]}; {MANNERS[(i + 2) % len(MANNERS)]}."
    for i, topic in enumerate(TOPICS)
)


def write_set(name: str, path: Path) -> None:
    """Write a set as a training file. Errors: `KeyError` for a name that is not in `SETS`."""
    count, line = SETS[name]
    dice = random.Random(name)
    path.write_text("".join(json.dumps(line(dice)) + "\n" for _ in range(count)))


def _chat(system: str, turns: int, dice: random.Random) -> Line:
    messages = [_message("system", system)]
    for _ in range(turns):
        messages += [_message("user", _question(dice)), _message("assistant", _answer(dice))]
    return {"messages": messages}


def _preference(dice: random.Random) -> Line:
    prompt = [_message("system", RULES), _message("user", _question(dice))]
    return {
        "input": {"messages": prompt},
        "preferred_output": [_message("assistant", _answer(dice))],
        "non_preferred_output": [_message("assistant", _answer(dice))],
    }


def _message(role: str, content: str) -> Message:
    return {"role": role, "content": content}


def _question(dice: random.Random) -> str:
    return f"My {dice.choice(ITEMS)} of {dice.randint(1, 28)} May {dice.choice(TROUBLES)}. What can I do?"


def _answer(dice: random.Random) -> str:
    return f"I am sorry about your {dice.choice(ITEMS)}: {dice.choice(REMEDIES)}."


SETS: Final[dict[str, tuple[int, Callable[[random.Random], Line]]]] = {
    "short": (50, lambda dice: _chat(BRIEF, 1, dice)),  # one line of system prompt
    "long": (20, lambda dice: _chat(RULES, 1, dice)),  # a page of rules
    "unshared": (50, lambda dice: _chat(f"{dice.random()}: {dice.choice(MANNERS)}.", 1, dice)),
    "turns": (20, lambda dice: _chat(BRIEF, 4, dice)),
    "dpo": (20, _preference),
}
