"""A base model's chat template: messages to the text that the model reads, and where in it each answer stands.

Rendered in a sandbox like that of transformers and with the same text; templates come with models from anywhere, so
what one can spend is bounded. Knows no tokens. Serving and training both render here.
"""

from __future__ import annotations

import copy
import json
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Final, NoReturn

import jinja2
from jinja2 import meta, nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Context, LoopContext
from jinja2.sandbox import ImmutableSandboxedEnvironment

from luthier.core.errors import InvalidRequest
from luthier.core.json import JsonObject
from luthier.data.base_folder import BaseFolder
from luthier.data.messages import for_template, tools_as_text

MAX_TEXT: Final = 64 << 20  # characters; a context of a million tokens is some 4 million
MAX_SECONDS: Final = 10.0
LOOP: Final = frozenset({"first", "last", "index", "index0", "length", "previtem", "nextitem"})
_rendering: Final = threading.local()  # `until` when
_EXHAUSTED: Final = (RecursionError, MemoryError)


@dataclass(frozen=True)
class Span:
    """Characters `start` to `end` of a rendered chat: what the model says, its end-of-turn token included."""

    start: int
    end: int


@dataclass(frozen=True)
class Rendered:
    """A text and the spans of it that are learnt; `ends_open`: the last span is the text's last turn."""

    text: str
    spans: tuple[Span, ...]
    ends_open: bool


class ChatTemplate:
    """A compiled template. Errors: `InvalidRequest` for a chat that it refuses or that breaks its bounds.

    Templates may tell the date. It is `today`, and its midnight; None: the moment at which a chat is rendered.
    """

    def __init__(
        self,
        source: str,
        *,
        bos_token: str | None = None,
        eos_token: str | None = None,
        adds_bos: bool = False,
        today: date | None = None,
    ) -> None:
        environment = _Sandbox(trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols])
        environment.filters |= {"tojson": _tojson, "tick": _tick}
        environment.globals.update(raise_exception=_raise)
        try:
            self._names = meta.find_undeclared_variables(environment.parse(source))
            self._template = environment.from_string(source)
        except (jinja2.TemplateError, *_EXHAUSTED) as error:
            raise InvalidRequest(f"the base model's chat template will not compile: {error}") from error
        self.knows_tools: Final = "tools" in self._names
        self.tells_date: Final = "strftime_now" in self._names
        self._knows_developer = "developer" in source
        self.added_bos: Final = bos_token or "" if adds_bos else ""  # what an engine puts before every text
        self._tokens = {"bos_token": bos_token or "", "eos_token": eos_token or ""}
        self._today = today

    @staticmethod
    def of(base: BaseFolder, today: date | None = None) -> ChatTemplate:
        """The template of a complete base folder."""
        facts = base.read_facts()
        tokens = {"bos_token": facts.bos_token, "eos_token": facts.eos_token}
        return ChatTemplate(base.template.read_text(), **tokens, adds_bos=facts.adds_bos, today=today)

    def on(self, today: date | None) -> ChatTemplate:
        """The same template on another day."""
        other = copy.copy(self)
        other._today = today
        return other

    def render(
        self,
        messages: Sequence[JsonObject],
        tools: Sequence[JsonObject] = (),
        *,
        add_generation_prompt: bool = False,
        parallel_tool_calls: bool = True,
    ) -> str:
        """The text of a chat in OpenAI's form; with `add_generation_prompt`, up to where the answer begins."""
        given = for_template(messages, knows_developer=self._knows_developer)
        if not self.knows_tools:
            given = tools_as_text(given, tools, parallel_tool_calls=parallel_tool_calls)
        values: dict[str, object] = {
            "messages": given,
            "tools": list(tools) or None,
            "documents": None,
            "add_generation_prompt": add_generation_prompt,
            "parallel_tool_calls": parallel_tool_calls,
            "strftime_now": self._strftime_now,
            **self._tokens,
        }
        return self._bounded(values)

    def render_answers(
        self,
        messages: Sequence[JsonObject],
        trained: Sequence[bool],
        tools: Sequence[JsonObject] = (),
        *,
        parallel_tool_calls: bool = True,
    ) -> Rendered:
        """The whole chat and where its trained answers stand in it.

        An answer's prompt is what serving would render before it, and must stand at the start of the whole; an answer
        ends with its end-of-turn token, and the line break that a template puts after it is nobody's.
        Errors: `InvalidRequest` where the template renders the same turns differently once others follow.
        """
        whole = self.render(messages, tools, parallel_tool_calls=parallel_tool_calls)
        spans: list[Span] = []
        for index in (i for i, wanted in enumerate(trained) if wanted):
            prompt = self.render(
                messages[:index], tools, add_generation_prompt=True, parallel_tool_calls=parallel_tool_calls
            )
            last = index + 1 == len(messages)
            upto = whole if last else self.render(messages[: index + 1], tools, parallel_tool_calls=parallel_tool_calls)
            upto = upto.rstrip("\n ")
            if not (upto.startswith(prompt) and whole.startswith(upto)):
                raise InvalidRequest(
                    f"message {index + 1}: the base model's chat template does not render a chat's beginning alike "
                    "with and without what follows, so what the model says cannot be told from what it reads. "
                    "Give each answer a line of its own, as the last message."
                )
            spans.append(Span(len(prompt), len(upto)))
        return Rendered(whole, tuple(spans), bool(trained) and trained[-1])

    def _bounded(self, values: Mapping[str, object]) -> str:
        pieces: list[str] = []
        size, _rendering.until = 0, time.monotonic() + MAX_SECONDS
        try:
            for piece in self._template.generate(values):
                pieces.append(piece)
                size += len(piece)
                if size > MAX_TEXT:
                    raise SecurityError(f"more than {MAX_TEXT} characters")
        except (jinja2.TemplateError, TypeError, ValueError, LookupError, ArithmeticError, *_EXHAUSTED) as error:
            raise InvalidRequest(f"the base model's chat template refuses this chat: {error}") from error
        return "".join(pieces)

    def _strftime_now(self, pattern: str) -> str:
        if self._today is not None:
            return datetime.combine(self._today, datetime.min.time()).strftime(pattern)
        return datetime.now().strftime(pattern)  # the local date, as transformers renders it


class _Sandbox(ImmutableSandboxedEnvironment):
    """Refuses products and powers that would fill the memory in one step, and loops and macros without an end."""

    intercepted_binops = frozenset({"*", "**"})

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree = super()._parse(source, name, filename)
        bodies: list[nodes.For | nodes.Macro] = [*tree.find_all(nodes.For), *tree.find_all(nodes.Macro)]
        for node in bodies:
            # A filter: the sandbox looks at every call anew, which took a fifth of all rendering.
            tick = nodes.Filter(nodes.Const(None), "tick", [], [], None, None)
            node.body.insert(0, nodes.ExprStmt(tick, lineno=node.lineno))
        return tree

    def getattr(self, obj: object, attribute: str) -> object:
        """What a loop tells of itself is asked for at every turn; the sandbox's look took a sixth of all rendering."""
        if type(obj) is LoopContext and attribute in LOOP:
            return getattr(obj, attribute)
        return super().getattr(obj, attribute)

    def call_binop(self, context: Context, operator: str, left: object, right: object) -> object:
        if operator == "**" or (isinstance(left, int) and isinstance(right, int) and max(left, right) > 1 << 32):
            raise SecurityError(f"a chat template may not compute {operator} of such values")
        for text, times in ((left, right), (right, left)):
            if isinstance(text, (str, list, tuple)) and isinstance(times, int) and len(text) * times > MAX_TEXT:
                raise SecurityError("a chat template may not repeat a text so often")
        return super().call_binop(context, operator, left, right)


class _Generation(Extension):
    """`{% generation %}…{% endgeneration %}`, which marks answers for trainers that trust marks: here plain text."""

    tags = {"generation"}  # noqa: RUF012  # jinja2 declares it as an instance's

    def parse(self, parser: Parser) -> nodes.Node | list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


@jinja2.pass_context  # so that it is not called once for all when a template is compiled
def _tick(_context: Context, _value: None) -> None:
    """Called at each turn of a loop, and by each macro."""
    if time.monotonic() > _rendering.until:
        raise SecurityError(f"more than {MAX_SECONDS:.0f} seconds")


def _tojson(
    value: object,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)
