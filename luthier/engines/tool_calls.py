"""Calls of functions in what a model says: told apart from its text as the tokens come. Knows no engine.

Three notations cover the families that are served: Hermes (Qwen, SmolLM, and whatever template has no tools of its
own: see `data/messages.py`), Mistral's, and the bare JSON of Llama 3.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from luthier.core.ids import new_id
from luthier.core.json import Json, JsonObject, parsed
from luthier.engines.json_schema import check_schema, json_rule, moved


@dataclass(frozen=True)
class Notation:
    """Between `opening` and `closing` stands a call, or a list of them, as JSON; without `closing`, to the end."""

    opening: str
    closing: str
    arguments: str = "arguments"


MOST_CALLS: Final = 16  # in an answer that must be calls: a small model would go on for ever
HERMES: Final = Notation("<tool_call>", "</tool_call>")
MISTRAL: Final = Notation("[TOOL_CALLS]", "")
LLAMA: Final = Notation("", "", arguments="parameters")


def notation_of(template: str) -> Notation:
    """The notation that a chat template teaches."""
    if HERMES.opening not in template:
        if MISTRAL.opening in template:
            return MISTRAL
        if "<|python_tag|>" in template:
            return LLAMA
    return HERMES


def calling_grammar(
    tools: Sequence[JsonObject], notation: Notation, *, many: bool, text_too: bool = False, answer: str | None = None
) -> str:
    """A grammar for calls of these functions: nothing else and at least one; or `text_too`; or an `answer` by a rule.

    Errors: `InvalidRequest` for a function's parameters that are no usable schema.
    """
    shapes: list[Json] = []
    for tool in tools:
        function = tool["function"]
        assert isinstance(function, dict)
        parameters = function.get("parameters") or {"type": "object"}
        check_schema(parameters, param="tools")
        below = moved(parameters, f"#/anyOf/{len(shapes)}/properties/{notation.arguments}")
        shapes.append(
            {
                "type": "object",
                "properties": {"name": {"const": function["name"]}, notation.arguments: below},
                "required": ["name", notation.arguments],
                "additionalProperties": False,
            }
        )
    if notation is HERMES:
        one = '"<tool_call>\\n" json "\\n</tool_call>"'
        more = f'("\\n" {one}){{0,{MOST_CALLS - 1}}}' if many else ""
    elif notation is MISTRAL:
        one = f'"[TOOL_CALLS]" "[" json {_more(many)} "]"'
        more = ""
    else:
        one, more = "json", ""
    rules = [f"start: {one} {more}", f"json: {json_rule({'anyOf': shapes})}"]
    if answer is not None:
        rules[0] = f"start: answer | {one} {more}"
        rules.append(f"answer: {answer}")
    elif text_too and not notation.opening:  # a call is all of an answer, or none of it
        rules[0] = f"start: TEXT | {one}"
        rules.append("TEXT: /(\\s*[^\\s{](.|\\n)*)?/")
    elif text_too:  # text is what has no call's beginning in it
        rules[0] = f"start: TEXT | TEXT {one} {more}"
        rules.append(f"TEXT: /(.|\\n)*/ & ~/(.|\\n)*{re.escape(notation.opening)}(.|\\n)*/")
    return "%llguidance {}\n" + "\n".join(rules)


def _more(many: bool) -> str:
    return f'(", " json){{0,{MOST_CALLS - 1}}}' if many else ""


@dataclass
class CallReader:
    """Takes a choice's text piece by piece; gives text that is no call, and calls once they are whole.

    `many` false: what follows the first call is dropped. What turns out to be no call is text after all.
    """

    notation: Notation
    many: bool = True
    names: frozenset[str] | None = None  # the functions that there are: without a mark an object may be anything
    calls: list[JsonObject] = field(default_factory=list)
    _held: str = ""
    _inside: bool = False
    _after_call: bool = False
    _spoken: bool = False  # where calls have no mark, one that follows text is text too

    def feed(self, piece: str) -> str:
        """The text that is certain by now. Calls found are appended to `calls`."""
        self._held += piece
        text = ""
        while True:
            if self._inside:
                end = self._held.find(self.notation.closing) if self.notation.closing else -1
                if end < 0:
                    return text
                text += self._close(self._held[:end], self.notation.closing)
                self._held = self._held[end + len(self.notation.closing) :]
                continue
            if not self.notation.opening:
                if self._spoken or not self._held.lstrip().startswith("{"):
                    self._spoken = self._spoken or bool(self._held.strip())
                    text, self._held = text + self._held, ""
                return text
            before, opening, after = self._held.partition(self.notation.opening)
            if not opening:
                keep = _possible_start(before, self.notation.opening)
                self._held = before[len(before) - keep :]
                return text + self._said(before[: len(before) - keep])
            text += self._said(before.removesuffix("\n"))
            self._held, self._inside = after, True

    def end(self) -> str:
        """The text left over when the model has stopped."""
        held, self._held = self._held, ""
        if self._inside or (held and not self.notation.opening):
            return self._close(held, "")
        return self._said(held)

    def _said(self, text: str) -> str:
        """Text, without the line breaks that part it from a call before."""
        if self._after_call:
            text = text.lstrip("\n")
            self._after_call = not text
        return text

    def _close(self, payload: str, closing: str) -> str:
        self._inside = False
        said = self.notation.opening + payload + closing
        try:
            found = parsed(payload)
        except ValueError:
            return said
        calls = [self._call(call) for call in (found if isinstance(found, list) else [found])]
        if None in calls:
            return said
        if self.many or not self.calls:
            self._after_call = True
            self.calls += [call for call in calls if call][: None if self.many else 1]
        return ""

    def _call(self, call: Json) -> JsonObject | None:
        if not isinstance(call, dict) or not isinstance(call.get("name"), str):
            return None
        if not self.notation.opening and self.names is not None and call["name"] not in self.names:
            return None
        arguments = call.get("arguments", call.get("parameters", {}))
        text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
        return {"id": new_id("call"), "type": "function", "function": {"name": call["name"], "arguments": text}}


def _possible_start(text: str, opening: str) -> int:
    """How many characters at the end of `text`, a line break before them included, could be the start of `opening`."""
    for length in range(min(len(text), len(opening)), 0, -1):
        if opening.startswith(text[-length:]):
            return length + (text[:-length].endswith("\n"))
    return 1 if text.endswith("\n") else 0
