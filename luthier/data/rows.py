"""Token rows: what a trainer sees of an example. Owns which tokens are learnt; knows no batches, no model.

A row is token ids and, for each, the weight of predicting it from those before it: 1 for what the assistant says and
for its end-of-turn token, 0 for the rest. Serving makes tokens of a prompt alone, so no token holds of both a prompt
and its answer: where one would (of the template's line break and the answer's), the text is cut there first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import pairwise
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
from tokenizers import Encoding, Tokenizer, processors

from luthier.core.errors import InvalidRequest
from luthier.data.base_folder import BaseFolder
from luthier.data.chats import Chat, Completion, Example, Preference
from luthier.data.groups import groups
from luthier.data.template import ChatTemplate, Rendered, Span

ANCHORS: Final = ("\n", ".", "")  # what may stand before a text that goes on, none of which joins with all texts


@dataclass(frozen=True, eq=False)
class Row:
    """Ids and weights of the same length; `cut` tokens were left off at the context's end.

    `answers`: where each trained answer begins and ends, in order, as far as before it stand the ids that serving would
    read there: up to the first that was cut off from its prompt, for serving does not cut there once it is read.
    """

    ids: npt.NDArray[np.int32]
    weights: npt.NDArray[np.float32]
    cut: int = 0
    answers: tuple[tuple[int, int], ...] = ()

    @property
    def trained(self) -> int:
        """How many tokens are learnt."""
        return int(np.count_nonzero(self.weights))


class _Tokens(NamedTuple):
    """Ids, and the characters of the text that each stands for; `starts` only rise."""

    ids: npt.NDArray[np.int32]
    starts: npt.NDArray[np.int64]
    ends: npt.NDArray[np.int64]


class Rows:
    """Makes rows with one base model's tokenizer and template: one row of a chat or completion, two of a preference.

    `today`: the date that templates tell; None: whichever it is when a chat is rendered.
    """

    def __init__(self, base: BaseFolder, context_tokens: int, today: date | None = None) -> None:
        facts = base.read_facts()
        self.today: Final = today
        self._template = ChatTemplate.of(base, today)
        self._tokenizer: Tokenizer = Tokenizer.from_file(str(base.tokenizer))
        # It adds no special tokens here, but some leave spaces out of what tokens stand for.
        self._tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
        self._anchors = ANCHORS if _begins_with_space(self._tokenizer) else ("",)
        self._context_tokens = context_tokens
        self._special = frozenset(i for i, t in self._tokenizer.get_added_tokens_decoder().items() if t.special)
        self._eos = _id_of(self._tokenizer, facts.eos_token)
        self._bos = _id_of(self._tokenizer, facts.bos_token) if facts.adds_bos and facts.bos_token else None

    def encode(self, examples: Sequence[tuple[int, Example]]) -> list[tuple[Row, ...]]:
        """The rows of each numbered example; many texts go to the tokenizer in one call.

        Errors: `InvalidRequest`, naming the example that the template refuses.
        """
        found: list[tuple[Row, ...]] = []
        for group in groups(self._rendered(examples), lambda rendered: sum(len(r.text) for r in rendered)):
            texts = [r.text for rendered in group for r in rendered]
            encodings = iter(self._tokenizer.encode_batch(texts, add_special_tokens=False))
            found += [tuple(self._row(r, next(encodings)) for r in rendered) for rendered in group]
        return found

    def text_of(self, token_id: int) -> str:
        """A token's text, as an answer would show it."""
        return self._tokenizer.decode([token_id], skip_special_tokens=False)

    def is_text(self, token_id: int) -> bool:
        """Whether a token is text by itself: no special one, no part of a character, no filling of the vocabulary."""
        text = "" if token_id in self._special else self.text_of(token_id)
        return bool(text) and "\ufffd" not in text

    def pieces(self, row: Row) -> tuple[tuple[str, bool], ...]:
        """A row's text, cut where learnt tokens begin and end."""
        learnt = row.weights > 0
        bounds = [0, *(np.flatnonzero(learnt[1:] != learnt[:-1]) + 1).tolist(), len(row.ids)]
        return tuple(
            (self._tokenizer.decode(row.ids[start:end].tolist(), skip_special_tokens=False), bool(learnt[start]))
            for start, end in pairwise(bounds)
            if end > start
        )

    def _rendered(self, examples: Sequence[tuple[int, Example]]) -> Iterator[list[Rendered]]:
        for number, example in examples:
            try:
                yield self._render(example)
            except InvalidRequest as error:
                raise InvalidRequest(f"Example {number}, {error.message}") from error

    def _render(self, example: Example) -> list[Rendered]:
        match example:
            case Completion(prompt, completion):
                return [Rendered(prompt + completion, (Span(len(prompt), len(prompt) + len(completion)),), True)]
            case Preference(preferred, rejected):
                return [self._render_chat(preferred), self._render_chat(rejected)]
            case Chat():
                return [self._render_chat(example)]

    def _render_chat(self, chat: Chat) -> Rendered:
        return self._template.render_answers(
            chat.messages, chat.trained, chat.tools, parallel_tool_calls=chat.parallel_tool_calls
        )

    def _row(self, rendered: Rendered, encoding: Encoding) -> Row:
        """A token is learnt when it lies within a span."""
        tokens, served = self._apart(rendered, _tokens(encoding))
        ids, weights = tokens.ids, np.zeros(len(tokens.ids), np.float32)
        answers: list[tuple[int, int]] = []
        for span in rendered.spans:
            first = int(np.searchsorted(tokens.starts, span.start))
            end = max(first, int(np.searchsorted(tokens.ends, span.end, side="right")))
            weights[first:end] = 1.0
            answers.append((first, end))
        learnt = np.flatnonzero(weights)
        if len(learnt) and rendered.ends_open and int(ids[learnt[-1]]) not in self._special:
            # Nothing in the text ends this answer, so the model must learn to: generation stops at EOS.
            upto = int(learnt[-1]) + 1
            ids, weights = np.append(ids[:upto], np.int32(self._eos)), np.append(weights[:upto], np.float32(1))
            answers[-1] = (answers[-1][0], upto + 1)
        moved = 0
        if self._bos is not None and (len(ids) == 0 or ids[0] != self._bos):
            ids, weights, moved = np.insert(ids, 0, self._bos), np.insert(weights, 0, 0.0), 1
        if len(weights):
            weights[0] = 0.0  # nothing comes before the first token
        limit = self._context_tokens
        found = tuple((min(max(1, first + moved), limit), min(end + moved, limit)) for first, end in answers[:served])
        if len(ids) <= limit:
            return Row(ids, weights, 0, found)
        return Row(ids[:limit].copy(), weights[:limit].copy(), len(ids) - limit, found)  # a view would hold the rest

    def _apart(self, rendered: Rendered, tokens: _Tokens) -> tuple[_Tokens, int]:
        """Tokens none of which holds of a prompt and its answer; and how many answers follow what serving would read.

        Only a text in which answers join with their prompts is cut, at all of them.
        """
        text, cuts = rendered.text, [span.start for span in rendered.spans]
        joined = next((place for place, at in enumerate(cuts) if _may_join(text, tokens, at)), None)
        if joined is None:
            return tokens, len(cuts)
        bounds = sorted({0, *cuts, len(text)})
        pieces = [self._continued(text[start:end], start) for start, end in pairwise(bounds)]
        apart = _Tokens(*(np.concatenate(axis) for axis in zip(*pieces, strict=True)))
        return (tokens, len(cuts)) if np.array_equal(apart.ids, tokens.ids) else (apart, joined + 1)

    def _continued(self, text: str, at: int) -> _Tokens:
        """The tokens of a text that goes on at a character: without the space that some put before a text's start."""
        for anchor in self._anchors if at else ("",):
            ids, starts, ends = _tokens(self._tokenizer.encode(anchor + text, add_special_tokens=False))
            first = int(np.searchsorted(starts, len(anchor)))
            if first == 0 or ends[first - 1] <= len(anchor):
                break
        return _Tokens(ids[first:], starts[first:] + (at - len(anchor)), ends[first:] + (at - len(anchor)))


def _tokens(encoding: Encoding) -> _Tokens:
    bounds = np.asarray(encoding.offsets, np.int64).reshape(-1, 2)
    return _Tokens(np.asarray(encoding.ids, np.int32), bounds[:, 0], bounds[:, 1])


def _may_join(text: str, tokens: _Tokens, at: int) -> bool:
    """Whether what stands before a character may give other tokens by itself: one of them holds of both sides, or
    white space is split there, as many tokenizers do with its last character where a word follows."""
    place = int(np.searchsorted(tokens.starts, at)) - 1
    if place < 0:
        return False
    start = int(tokens.starts[place])
    return int(tokens.ends[place]) > at or (text[start:at].isspace() and text[max(0, start - 1) : start].isspace())


def _begins_with_space(tokenizer: Tokenizer) -> bool:
    """Whether it puts a space before a text's first word, as SentencePiece's do."""
    text = tokenizer.normalizer.normalize_str("a") if tokenizer.normalizer else "a"
    return bool((tokenizer.pre_tokenizer.pre_tokenize_str(text)[0][0] if tokenizer.pre_tokenizer else text) != "a")


def _id_of(tokenizer: Tokenizer, token: str) -> int:
    found = tokenizer.token_to_id(token)
    if found is None:
        raise InvalidRequest(f'the base model\'s tokenizer has no token "{token}"; its facts.json names it')
    return found
