"""Chat completions on the wire. What cannot be honoured is refused here, by its name."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from luthier.api.wire.base import Body, Metadata, Ordered, Unsupported
from luthier.api.wire.messages import Message, check_calls, check_contents
from luthier.core.chats import StoredChat
from luthier.core.errors import InvalidRequest
from luthier.core.json import Json, JsonObject

Name = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
Label = Annotated[str, Field(max_length=1024)]
Stop = Annotated[str, Field(min_length=1)] | Annotated[list[Annotated[str, Field(min_length=1)]], Field(max_length=4)]
LogitBias = dict[
    Annotated[str, StringConstraints(pattern=r"^\d{1,9}$")],  # engines count tokens in 32 bits
    Annotated[float, Field(ge=-100, le=100, allow_inf_nan=False)],
]
Limit = Annotated[int, Field(ge=1, lt=2**31)]  # in tokens
Temperature = Annotated[float, Field(ge=0, le=2)]
TopP = Annotated[float, Field(ge=0, le=1)]
Penalty = Annotated[float, Field(ge=-2, le=2)]
Seed = Annotated[int, Field(ge=-(2**63), lt=2**63)]
ServiceTier = Annotated[
    Literal["auto", "default", "flex", "scale", "priority", "fast", "ultrafast"], Unsupported(but=("auto", "default"))
]
CacheRetention = Annotated[Literal["in_memory", "in-memory", "24h"], Unsupported(but=("in_memory", "in-memory"))]
Verbosity = Annotated[Literal["low", "medium", "high"], Unsupported(but=("medium",))]


def unsupported(param: str, value: object) -> InvalidRequest:
    """The error for a field, or a value of it, that cannot be honoured."""
    shown = f"'{value}'" if isinstance(value, str) else "this value"
    return InvalidRequest(
        f"Unsupported value: '{param}' does not support {shown} on this server.", code="unsupported_value", param=param
    )


class Function(Body):
    """A function that the model may call; `parameters` is a JSON schema."""

    name: Name
    description: str | None = None
    parameters: JsonObject | None = None
    strict: bool | None = None


class Tool(Body):
    """A tool; functions are the only ones here."""

    type: Annotated[Literal["function", "custom"], Unsupported(but=("function",))]
    function: Function | None = None
    custom: Annotated[dict[str, Any] | None, Unsupported()] = None


class Named(Body):
    """A function's name."""

    name: str


class NamedTool(Body):
    """The function that must be called."""

    type: Literal["function"]
    function: Named


class AllowedTools(Body):
    """OpenAI's choice among some of the tools: refused by name."""

    type: Annotated[Literal["allowed_tools", "custom"], Unsupported()]
    allowed_tools: dict[str, Any] | None = None
    custom: dict[str, Any] | None = None


class JsonSchema(Body):
    """A schema that the answer follows."""

    name: Name
    description: str | None = None
    schema_: Annotated[JsonObject | None, Field(alias="schema")] = None
    strict: bool | None = None


class ResponseFormat(Body):
    """What the answer is."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None


class StreamOptions(Body):
    """How to stream."""

    include_usage: bool | None = None
    include_obfuscation: Annotated[bool | None, Unsupported(but=(False,))] = None


class Sampling(Body):
    """What chats and legacy completions share."""

    model: str
    temperature: Temperature | None = None
    top_p: TopP | None = None
    n: Annotated[int, Field(ge=1, le=128)] | None = None
    stop: Stop | None = None
    seed: Seed | None = None
    logit_bias: LogitBias | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: Label | None = None  # a label for the caller's own use; so are the others below

    @property
    def include_usage(self) -> bool:
        """Whether a stream ends with a chunk of usage."""
        return bool(self.stream_options and self.stream_options.include_usage)

    def check_stream(self) -> None:
        """Errors: `InvalidRequest` for options without a stream."""
        if self.stream_options is not None and not self.stream:
            raise InvalidRequest(
                "The 'stream_options' parameter is only allowed when 'stream' is enabled.",
                code="invalid_value",
                param="stream_options",
            )

    def to_engine(self, *others: str) -> JsonObject:
        """The fields that an engine acts on, by OpenAI's names; those not given are left away."""
        acted = {"temperature", "top_p", "n", "stop", "seed", "logit_bias", "presence_penalty", "frequency_penalty"}
        return self.model_dump(include={*acted, *others}, exclude_none=True, by_alias=True)


class CreateChat(Sampling):
    """A chat to be continued."""

    messages: Annotated[list[Message], Field(min_length=1)]
    metadata: Metadata | None = None
    store: bool | None = None
    max_completion_tokens: Limit | None = None
    max_tokens: Limit | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    response_format: ResponseFormat | None = None
    tools: Annotated[list[Tool], Field(max_length=128)] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedTool | AllowedTools | None = None
    parallel_tool_calls: bool | None = None
    functions: Annotated[list[Function], Field(min_length=1, max_length=128)] | None = None
    function_call: Literal["none", "auto"] | Named | None = None
    service_tier: ServiceTier | None = None
    safety_identifier: Annotated[str, Field(max_length=64)] | None = None
    prompt_cache_key: Label | None = None
    prompt_cache_retention: CacheRetention | None = None
    prompt_cache_options: Annotated[dict[str, Any] | None, Unsupported()] = None
    modalities: list[Annotated[Literal["text", "audio"], Unsupported(but=("text",))]] | None = None
    audio: Annotated[dict[str, Any] | None, Unsupported()] = None
    verbosity: Verbosity | None = None
    reasoning_effort: Annotated[
        Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None, Unsupported(but=("none",))
    ] = None
    prediction: Annotated[dict[str, Any] | None, Unsupported()] = None
    web_search_options: Annotated[dict[str, Any] | None, Unsupported()] = None
    moderation: Annotated[dict[str, Any] | None, Unsupported()] = None

    def to_body(self) -> JsonObject:
        """The body for an engine. Errors: `InvalidRequest` for what cannot be honoured, by its name."""
        self.check_stream()
        check_contents(self.messages)
        check_calls(self.messages)
        self._check_tools()
        if self.metadata and not self.store:
            raise InvalidRequest(
                "The 'metadata' parameter is only allowed when 'store' is enabled.",
                code="invalid_value",
                param="metadata",
            )
        if self.top_logprobs is not None and not self.logprobs:
            raise InvalidRequest(
                "The 'top_logprobs' parameter is only allowed when 'logprobs' is enabled.",
                code="invalid_value",
                param="top_logprobs",
            )
        if self.max_tokens is not None and self.max_completion_tokens is not None:
            raise InvalidRequest(
                "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported.",
                code="invalid_parameter_combination",
                param="max_tokens",
            )
        body = self.to_engine(
            "messages",
            "max_completion_tokens",
            "max_tokens",
            "logprobs",
            "top_logprobs",
            "response_format",
            "tools",
            "tool_choice",
            "parallel_tool_calls",
            "functions",
            "function_call",
        )
        self._check_format(body)
        return body

    def _check_tools(self) -> None:
        for number, tool in enumerate(self.tools or ()):
            if tool.function is None:
                raise InvalidRequest(
                    f"Missing required parameter: 'tools[{number}].function'.",
                    code="missing_required_parameter",
                    param=f"tools[{number}].function",
                )
        for name, needed in (
            ("tool_choice", "tools"),
            ("parallel_tool_calls", "tools"),
            ("function_call", "functions"),
        ):
            given = self.model_dump(include={name, needed})
            if given[name] not in (None, "none") and not given[needed]:
                raise InvalidRequest(
                    f"Invalid value for '{name}': '{name}' is only allowed when '{needed}' are specified.",
                    code="invalid_value",
                    param=name,
                )
        if self.tools and self.functions:
            raise InvalidRequest(
                "'functions' is the deprecated form of 'tools'; give one of them.",
                code="invalid_value",
                param="functions",
            )

    def _check_format(self, body: JsonObject) -> None:
        wanted = self.response_format
        if wanted is None:
            return
        if wanted.type == "json_schema" and wanted.json_schema is None:
            raise InvalidRequest(
                "Missing required parameter: 'response_format.json_schema'.",
                code="missing_required_parameter",
                param="response_format.json_schema",
            )
        if wanted.type == "json_object" and "json" not in str(body["messages"]).lower():
            raise InvalidRequest(
                "'messages' must contain the word 'json' in some form, to use 'response_format' of type 'json_object'.",
                code="invalid_value",
                param="messages",
            )


class ChatQuery(Ordered):
    """A page of stored chats; the metadata filter is read beside it."""

    model: str | None = None


class UpdateChat(Body):
    """What of a stored chat can change."""

    metadata: Metadata | None


def stored_answer(chat: StoredChat) -> JsonObject:
    """A stored chat on the wire: the answer as it was sent, with its metadata of now."""
    metadata: Json = dict(chat.metadata)
    return {**chat.answer, "metadata": metadata}
