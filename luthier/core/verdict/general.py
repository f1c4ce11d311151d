"""Twenty things that a general model may know, to see what tuning made it forget. Short, undisputed, in no data set."""

from __future__ import annotations

from typing import Final

from luthier.core.verdict.contenders import Row
from luthier.core.verdict.measures import Measure

_QUESTIONS: Final = """
What is the capital of France? | Paris
What is the capital of Japan? | Tokyo
What is the capital of Egypt? | Cairo
What is 2 + 2? | 4, four
What is 10 - 3? | 7, seven
How many days are in a week? | 7, seven
How many legs does a spider have? | 8, eight
What color do you get by mixing blue and yellow? | green
What planet do we live on? | Earth
What is the largest ocean on Earth? | Pacific
Who wrote Romeo and Juliet? | Shakespeare
What gas do plants take in from the air? | carbon dioxide, CO2
What is frozen water called? | ice
What is the opposite of hot? | cold
What is the past tense of "go"? | went
What animal says "meow"? | cat
Which star gives light to the Earth? | sun
What language is mostly spoken in Brazil? | Portuguese
What do bees make? | honey
Which month comes after April? | May
"""


def _mentions(reply: str, reference: str | None) -> float:
    return float(any(answer.strip().casefold() in reply.casefold() for answer in (reference or "").split(",")))


MENTIONS: Final = Measure("mentions the answer", "{who} knows {share}", _mentions)
GENERAL: Final = tuple(
    Row(({"role": "user", "content": question.strip()},), answers.strip())
    for question, answers in (line.split("|") for line in _QUESTIONS.strip().splitlines())
)
