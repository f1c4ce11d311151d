"""Token rows: what a trainer sees of an example. Owns which tokens are learnt; knows no batches, no model.

A row is token ids and, for each, the weight of predicting it from those before it: 1 for what the assistant says and
for its end-of-turn token, 0 for the rest.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt
from tokenizers import Encoding, Tokenizer

from luthier.core.errors import InvalidRequest
from luthier.data.base_folder import BaseFolder
from luthier.data.chats import Chat, Completion, Example, Preference
from luthier.data.groups import groups
from luthier.data.template import ChatTemplate, Rendered, Span


@dataclass(frozen=True, eq=False)
class Row:
    """Ids and weights of the same length; `cut` tokens were left off at the context's end."""

    ids: npt.NDArray[np.int32]
    weights: npt.NDArray[np.float32]
    cut: int = 0

    @property
    def trained(self) -> int:
        """How many tokens are learnt."""
        return int(np.count_nonzero(self.weights))


class Rows:
    """Makes rows with one base model's tokenizer and template: one row of a chat or completion, two of a preference.

    `today`: the date that templates tell; None: whichever it is when a chat is rendered.
    """

    def __init__(self, base: BaseFolder, context_tokens: int, today: date | None = None) -> None:
        facts = base.read_facts()
        self.today: Final = today
        self._template = ChatTemplate.of(base, today)
        self._tokenizer: Tokenizer = Tokenizer.from_file(str(base.tokenizer))
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
        """A token is learnt when it lies within a span; one that begins before it is the prompt's."""
        ids = np.asarray(encoding.ids, np.int32)
        weights = np.zeros(len(ids), np.float32)
        bounds = np.asarray(encoding.offsets, np.int64).reshape(-1, 2)
        starts, ends = bounds[:, 0], bounds[:, 1]
        for span in rendered.spans:
            weights[(starts >= span.start) & (ends <= span.end)] = 1.0
        learnt = np.flatnonzero(weights)
        if len(learnt) and rendered.ends_open and int(ids[learnt[-1]]) not in self._special:
            # Nothing in the text ends this answer, so the model must learn to: generation stops at EOS.
            upto = learnt[-1] + 1
            ids, weights = np.append(ids[:upto], np.int32(self._eos)), np.append(weights[:upto], np.float32(1))
        if self._bos is not None and (len(ids) == 0 or ids[0] != self._bos):
            ids, weights = np.insert(ids, 0, self._bos), np.insert(weights, 0, 0.0)
        if len(weights):
            weights[0] = 0.0  # nothing comes before the first token
        limit = self._context_tokens
        if len(ids) <= limit:
            return Row(ids, weights)
        return Row(ids[:limit].copy(), weights[:limit].copy(), len(ids) - limit)  # a view would hold the rest too


def _id_of(tokenizer: Tokenizer, token: str) -> int:
    found = tokenizer.token_to_id(token)
    if found is None:
        raise InvalidRequest(f'the base model\'s tokenizer has no token "{token}"; its facts.json names it')
    return found
