"""Messages of chats on the wire, and what must go together among them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from luthier.api.wire.base import Body, Unsupported
from luthier.core.errors import InvalidRequest
from luthier.core.json import JsonObject

# What clients read out of an answer themselves, and send back with it.
Parsed = Annotated[Any, Field(exclude=True)]


class TextPart(Body):
    """Text among the parts of a content."""

    type: Literal["text"]
    text: str


class RefusalPart(Body):
    """What an assistant would not do."""

    type: Literal["refusal"]
    refusal: str


class OtherPart(Body):
    """Pictures, sound and files: refused by name."""

    type: Annotated[Literal["image_url", "input_audio", "file"], Unsupported()]
    image_url: dict[str, Any] | None = None
    input_audio: dict[str, Any] | None = None
    file: dict[str, Any] | None = None


Part = Annotated[TextPart | RefusalPart | OtherPart, Field(discriminator="type")]
Content = str | Annotated[list[Part], Field(min_length=1)]


class FunctionCall(Body):
    """A call that an assistant made; arguments are JSON text."""

    name: str
    arguments: str
    parsed_arguments: Parsed = None


class ToolCall(Body):
    """A call with the id that its result will name."""

    id: str
    type: Literal["function"]
    function: FunctionCall
    index: Annotated[int | None, Field(exclude=True)] = None  # of calls put together from a stream's pieces


class Instruction(Body):
    """What is said before the talk."""

    role: Literal["system", "developer"]
    content: Content
    name: str | None = None


class UserMessage(Body):
    """What the user says."""

    role: Literal["user"]
    content: Content
    name: str | None = None


class AssistantMessage(Body):
    """What the model said."""

    role: Literal["assistant"]
    content: Content | None = None
    refusal: str | None = None
    name: str | None = None
    audio: Annotated[dict[str, Any] | None, Unsupported()] = None
    tool_calls: Annotated[list[ToolCall], Field(min_length=1)] | None = None
    function_call: FunctionCall | None = None
    annotations: list[JsonObject] | None = None  # clients send answers back as they came
    parsed: Parsed = None


class ToolMessage(Body):
    """What a call gave."""

    role: Literal["tool"]
    content: Content
    tool_call_id: str
    name: str | None = None  # in no document of OpenAI's, and in the loops of its cookbook


class FunctionMessage(Body):
    """What a call gave, in the deprecated form."""

    role: Literal["function"]
    content: str | None
    name: str


Message = Annotated[
    Instruction | UserMessage | AssistantMessage | ToolMessage | FunctionMessage, Field(discriminator="role")
]


def check_contents(messages: Sequence[Message]) -> None:
    """Errors: `InvalidRequest` for an assistant that says nothing."""
    for number, message in enumerate(messages):
        if not isinstance(message, AssistantMessage) or message.content is not None:
            continue
        if not (message.tool_calls or message.function_call or message.refusal):
            raise InvalidRequest(
                f"Invalid value for 'content': expected a string, got null. (messages[{number}])",
                code="invalid_type",
                param=f"messages[{number}].content",
            )


def check_calls(messages: Sequence[Message]) -> None:
    """Errors: `InvalidRequest`, in OpenAI's words, for a call that is not answered right after it, and for an answer
    to nothing.
    """
    called: list[str] = []
    unanswered: list[str] = []
    for number, message in enumerate(messages):
        if not isinstance(message, ToolMessage):
            _check_answered(unanswered, f"messages.[{number}].role")
            calls = message.tool_calls if isinstance(message, AssistantMessage) else None
            called = [call.id for call in calls or ()]
            unanswered = called
            continue
        if not called:
            raise InvalidRequest(
                "Invalid parameter: messages with role 'tool' must be a response to a preceeding message with "
                "'tool_calls'.",
                param=f"messages.[{number}].role",
            )
        if message.tool_call_id not in called:
            raise InvalidRequest(
                f"Invalid parameter: 'tool_call_id' of '{message.tool_call_id}' not found in 'tool_calls' of "
                "previous message.",
                param=f"messages.[{number}].tool_call_id",
            )
        unanswered = [call_id for call_id in unanswered if call_id != message.tool_call_id]
    _check_answered(unanswered, "messages")


def _check_answered(unanswered: list[str], param: str) -> None:
    if unanswered:
        raise InvalidRequest(
            "An assistant message with 'tool_calls' must be followed by tool messages responding to each "
            "'tool_call_id'. The following tool_call_ids did not have response messages: " + ", ".join(unanswered),
            param=param,
        )
