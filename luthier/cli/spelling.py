"""The misspelling measure: the words of a text and how many of them no English dictionary has. Knows no model."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Final

from spellchecker import SpellChecker

# Correct words that pyspellchecker's dictionary lacks, found by reading what it flagged in plain English.
_CORRECT: Final = """
adios aires app apps approx bmi bok bonjour buenos cardio chatbot chatbots choy countertop covid crème dataset datasets
dna emoji etc façade gif gracias hashtag hola icu janeiro manchego matcha metadata mri nasa naïve paulo pdf playlist
podcasts probiotic purée quinoa revoir rna résumé selfie smartphone smartphones stovetop são tv url usa usb wifi yay
"""
ALLOWED: Final = frozenset(_CORRECT.split())
_WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)*")


@dataclass(frozen=True)
class Spelling:
    """How many of a text's words are misspelled."""

    words: int
    misspelled: int

    @property
    def share(self) -> float:
        """Misspelled words of all words; 0 for no words."""
        return self.misspelled / self.words if self.words else 0.0


def words(text: str) -> list[str]:
    """The words of a text: runs of letters, apostrophes inside kept. Numbers are no words."""
    return _WORD.findall(text.replace("\u2019", "'"))


def misspelled(text: str) -> list[str]:
    """The words that are in no dictionary, in their order."""
    return [word for word in words(text) if not _known(word.lower())]


def measure(texts: Iterable[str]) -> Spelling:
    """All texts as one: a long reply weighs more than a short one."""
    all_words = wrong = 0
    for text in texts:
        all_words += len(words(text))
        wrong += len(misspelled(text))
    return Spelling(all_words, wrong)


def _known(word: str) -> bool:
    base = word.removesuffix("'s").removesuffix("'")
    return word in ALLOWED or base in ALLOWED or not _dictionary().unknown([word]) or not _dictionary().unknown([base])


@cache
def _dictionary() -> SpellChecker:
    return SpellChecker(language="en")
