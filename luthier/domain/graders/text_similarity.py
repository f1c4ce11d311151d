"""`text_similarity`: how near a text is to another, by OpenAI's metrics. All but cosine are computed here."""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, ClassVar, Final

from luthier.core.evals import ModelUsage
from luthier.domain.graders import templates
from luthier.domain.graders.base import Case, Described, Errors, Grade, register

LONGEST: Final = 200_000  # characters of a text that is compared: it takes time by their square
LONGEST_METEOR: Final = 20_000  # whose words are compared each with each, in Python


@register
@dataclass(frozen=True)
class TextSimilarity(Described):
    """0 to 1, but cosine, which may be -1."""

    kind: ClassVar[str] = "text_similarity"
    name: str
    input: str
    reference: str
    evaluation_metric: str
    pass_threshold: float = 0.5

    @property
    def threshold(self) -> float:
        return self.pass_threshold

    async def check(self) -> None:
        templates.check([self.input, self.reference])

    async def grade(self, case: Case) -> Grade:
        text, reference = (templates.fill(t, vars(case)) for t in (self.input, self.reference))
        if self.evaluation_metric == "cosine":
            return await _cosine(text, reference, case)
        longest = LONGEST_METEOR if self.evaluation_metric == "meteor" else LONGEST
        if max(len(text), len(reference)) > longest:
            return Grade(errors=Errors(other_error=True))
        return Grade(await asyncio.to_thread(measure, self.evaluation_metric, text, reference))


def measure(metric: str, text: str, reference: str) -> float:
    """A metric by OpenAI's name. Words are lower case, and whatever stands between spaces or signs."""
    if metric.startswith("rouge"):
        return _rouge(metric, text, reference)
    if metric == "fuzzy_match":
        from rapidfuzz import fuzz

        return float(fuzz.ratio(text, reference)) / 100
    said, wanted = (re.findall(r"\w+|[^\w\s]", t.lower()) for t in (text, reference))
    if not said or not wanted:
        return float(said == wanted)
    return WORD_METRICS[metric](said, wanted)


def _rouge(metric: str, text: str, reference: str) -> float:
    """The F-measure of rouge-score, without stemming. ROUGE-L without its table of each word with each."""
    from rapidfuzz.distance import LCSseq
    from rouge_score.rouge_scorer import RougeScorer
    from rouge_score.tokenizers import DefaultTokenizer

    if metric == "rouge_l":
        said, wanted = (DefaultTokenizer(use_stemmer=False).tokenize(t) for t in (text, reference))
        common = LCSseq.similarity(said, wanted)
        return 2 * common / (len(said) + len(wanted)) if common else 0.0
    name = metric.replace("_", "")
    return float(RougeScorer([name]).score(reference, text)[name].fmeasure)


def _bleu(said: list[str], wanted: list[str]) -> float:
    """Up to 4 words in a row, fewer in a shorter text; where none agree, 0.1 is counted (method 1 of NLTK)."""
    from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu

    return float(sentence_bleu([wanted], said, smoothing_function=SmoothingFunction().method1, auto_reweigh=True))


def _gleu(said: list[str], wanted: list[str]) -> float:
    from nltk.translate.gleu_score import sentence_gleu

    return float(sentence_gleu([wanted], said))


class _NoWordNet:
    """WordNet's dictionary is a download of its own: without it METEOR matches words and stems, no synonyms."""

    def synsets(self, _word: str) -> list[object]:
        return []


def _meteor(said: list[str], wanted: list[str]) -> float:
    from nltk.translate.meteor_score import single_meteor_score

    return float(single_meteor_score(wanted, said, wordnet=_NoWordNet()))


WORD_METRICS: Final[dict[str, Callable[[list[str], list[str]], float]]] = {
    "bleu": _bleu,
    "gleu": _gleu,
    "meteor": _meteor,
}


async def _cosine(text: str, reference: str, case: Case) -> Grade:
    answer = await case.ask("/v1/embeddings", {"model": case.embedding_model, "input": [text or " ", reference or " "]})
    if answer.status_code != HTTPStatus.OK:
        return Grade(errors=Errors(model_grader_server_error=True, model_grader_server_error_details=str(answer.body)))
    body: dict[str, Any] = answer.body
    one, other = (entry["embedding"] for entry in body["data"])
    length = math.hypot(*one) * math.hypot(*other)
    product = sum(a * b for a, b in zip(one, other, strict=True))
    return Grade(product / length if length else 0.0, usage=(ModelUsage.of(body),))
