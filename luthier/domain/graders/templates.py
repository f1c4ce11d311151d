"""Templates: `{{ item.x.y }}` and `{{ sample.output_tools[0].function.name }}` in texts and messages."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Final

from luthier.core.json import Json, JsonObject
from luthier.domain.graders.base import InvalidVariable

PATH: Final = re.compile(r"(?:item|sample)(?:\.[\w-]+|\[\d+\]|\['[^']+'\])*")
STEP: Final = re.compile(r"\.([\w-]+)|\[(\d+)\]|\['([^']+)'\]")

Namespaces = Mapping[str, Json]  # `item`, `sample`


def check(texts: Iterable[str]) -> None:
    """Errors: `InvalidVariable` for one that no case can have."""
    for text in texts:
        for variable in _parts(text)[1::2]:
            if not PATH.fullmatch(variable):
                raise InvalidVariable(
                    f"Invalid template: '{{{{ {variable} }}}}' is no path into item or sample, such as item.answer or "
                    "sample.output_text.",
                    code="invalid_value",
                )


def fill(text: str, names: Namespaces) -> str:
    """The text with values for variables: texts as they are, null as nothing, all else as JSON.

    Errors: `InvalidVariable` for what is not there.
    """
    parts = _parts(text)
    parts[1::2] = [_shown(find(variable, names)) for variable in parts[1::2]]
    return "".join(parts)


def find(path: str, names: Namespaces) -> Json:
    """The value at a path. Errors: `InvalidVariable`."""
    check([f"{{{{{path}}}}}"])
    root = re.match(r"item|sample", path)
    assert root is not None
    value = names[root[0]]
    for key, index, quoted in STEP.findall(path[root.end() :]):
        name = key or quoted
        if isinstance(value, dict) and name in value:
            value = value[name]
        elif isinstance(value, list) and index and int(index) < len(value):
            value = value[int(index)]
        else:
            raise InvalidVariable(f"'{path}' is not there: nothing at '{name or index}'.", code="invalid_value")
    return value


def _parts(text: str) -> list[str]:
    """Plain text and variables in turns, plain text first and last. In time linear in the text: it may be anybody's."""
    parts, at = [], 0
    while (opened := text.find("{{", at)) >= 0 and (closed := text.find("}}", opened + 2)) >= 0:
        parts += [text[at:opened], text[opened + 2 : closed].strip()]
        at = closed + 2
    return [*parts, text[at:]]


def fill_messages(messages: Iterable[JsonObject], names: Namespaces) -> list[JsonObject]:
    """Messages as a chat takes them: a role, and a text."""
    return [{"role": message["role"], "content": fill(said(message["content"]), names)} for message in messages]


def said(content: Json) -> str:
    """The text of a message's content: a text, a part, or several."""
    if isinstance(content, dict):
        return str(content.get("text", ""))
    return "".join(said(part) for part in content) if isinstance(content, list) else str(content or "")


def _shown(value: Json) -> str:
    if isinstance(value, str):
        return value
    return "" if value is None else json.dumps(value, ensure_ascii=False)
