"""A model's chat template as Ollama's, which is Go's: found by rendering chats, and checked by rendering others."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import date
from typing import Final

from luthier.core.errors import InvalidRequest
from luthier.core.json import JsonObject
from luthier.data.template import ChatTemplate

_MARKS: Final = ("\u2460", "\u2461", "\u2462", "\u2463")  # circled digits: no template has them


@dataclass(frozen=True)
class Turns:
    """What stands before each kind of message: a first system or user message, and those that follow another."""

    system: str
    first_user: str
    user_after_system: str
    assistant: str
    user: str

    def render(self, messages: list[JsonObject]) -> str:
        """As Ollama would, up to where the answer begins."""
        text, before = "", ""
        for message in messages:
            text += self._before(str(message["role"]), before) + str(message["content"])
            before = str(message["role"])
        return text + self.assistant

    def _before(self, role: str, before: str) -> str:
        if role == "user":
            return {"": self.first_user, "system": self.user_after_system}.get(before, self.user)
        return self.system if role == "system" else self.assistant

    def go(self) -> str:
        """The template in Go's language."""
        system, first, after, assistant, user = (
            json.dumps(text, ensure_ascii=False)
            for text in (self.system, self.first_user, self.user_after_system, self.assistant, self.user)
        )
        return (
            '{{- $before := "" }}{{- range .Messages }}'
            f'{{{{- if eq .Role "system" }}}}{{{{ {system} }}}}'
            f'{{{{- else if eq .Role "user" }}}}{{{{- if eq $before "" }}}}{{{{ {first} }}}}'
            f'{{{{- else if eq $before "system" }}}}{{{{ {after} }}}}{{{{- else }}}}{{{{ {user} }}}}{{{{- end }}}}'
            f"{{{{- else }}}}{{{{ {assistant} }}}}{{{{- end }}}}"
            f"{{{{- .Content }}}}{{{{- $before = .Role }}}}{{{{- end }}}}{{{{ {assistant} }}}}"
        )


def modelfile(template: ChatTemplate, stops: tuple[str, ...], weights: str) -> str:
    """The Modelfile of a GGUF named `weights`. Errors: `InvalidRequest` for a template that Go's cannot do alike."""
    today = date.today()
    turns = turns_of(template.on(today))
    told = f"# The chat template tells the date, which Ollama's cannot: here it is {today}, when this was exported."
    lines = [
        *([told] if template.tells_date else []),
        f"FROM ./{weights}",
        f'TEMPLATE """{turns.go()}"""',
        *(f"PARAMETER stop {json.dumps(stop)}" for stop in stops),
    ]
    return "\n".join(lines) + "\n"


def turns_of(template: ChatTemplate) -> Turns:
    """The turns of a template. Errors: `InvalidRequest` where a chat has other parts than its messages tell."""
    a, b, c, d = _MARKS
    whole = _rendered(template, _chat("system", a, "user", b, "assistant", c, "user", d))
    system, after, assistant, user, opening = _split(whole, (a, b, c, d))
    first, _ = _split(_rendered(template, _chat("user", a)), (a,))
    turns = Turns(system, first, after, opening, user)
    checked = [_chat("user", "x"), _chat("system", "s", "user", "x"), _chat("user", "x", "assistant", "y", "user", "z")]
    if opening != assistant or any(turns.render(chat) != _rendered(template, chat) for chat in checked):
        raise InvalidRequest(
            "this model's chat template does more than put texts before messages, which Ollama's cannot be made to do "
            "alike; export it as gguf, and write the TEMPLATE by hand"
        )
    return turns


def _rendered(template: ChatTemplate, chat: list[JsonObject]) -> str:
    return template.render(chat, add_generation_prompt=True).removeprefix(template.added_bos)


def _chat(*parts: str) -> list[JsonObject]:
    return [{"role": role, "content": content} for role, content in zip(parts[::2], parts[1::2], strict=True)]


def _split(text: str, marks: tuple[str, ...]) -> list[str]:
    parts: list[str] = []
    for mark in marks:
        before, found, text = text.partition(mark)
        if not found:
            raise InvalidRequest("this model's chat template leaves messages out; export it as gguf instead")
        parts.append(before)
    return [*parts, text]
