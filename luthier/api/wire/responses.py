"""Responses on the wire. What cannot be honoured is refused here, by its name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal, cast

from pydantic import AliasChoices, BaseModel, ConfigDict, Discriminator, Field, Tag

from luthier.api.wire.base import Body, Metadata, Ordered, Query, Unsupported
from luthier.api.wire.chat import CacheRetention, Label, ServiceTier, Temperature, TopP, Verbosity, unsupported
from luthier.api.wire.messages import Parsed
from luthier.core.errors import InvalidRequest
from luthier.core.json import Json, JsonObject
from luthier.core.lists import Order
from luthier.domain.responses import ResponseRequest, is_strict

# What an answer can show besides. Of these, text models have log-probabilities alone; the others have nothing to show.
Include = Literal[
    "file_search_call.results",
    "web_search_call.results",
    "web_search_call.action.sources",
    "message.input_image.image_url",
    "computer_call_output.output.image_url",
    "code_interpreter_call.outputs",
    "reasoning.encrypted_content",
    "message.output_text.logprobs",
]
LOGPROBS: Final = "message.output_text.logprobs"
# What a text model that keeps no thoughts has nothing for.
Absent = Annotated[Any, Unsupported()]


class InputText(Body):
    """Text that is put in."""

    type: Literal["input_text"]
    text: str


class OutputText(Body):
    """Text that the model said; clients send answers back as they came."""

    type: Literal["output_text"]
    text: str
    annotations: list[JsonObject] = Field(default_factory=list)
    logprobs: list[JsonObject] | None = None
    parsed: Parsed = None


class Refusal(Body):
    """What the model would not do."""

    type: Literal["refusal"]
    refusal: str


class OtherContent(Body):
    """Pictures and files: refused by name."""

    type: Annotated[Literal["input_image", "input_file", "input_audio"], Unsupported()]
    detail: Any = None
    image_url: Any = None
    file_id: Any = None
    file_data: Any = None
    file_url: Any = None
    filename: Any = None
    input_audio: Any = None


ContentPart = Annotated[InputText | OutputText | Refusal | OtherContent, Field(discriminator="type")]


class MessageItem(Body):
    """Something said."""

    type: Literal["message"] = "message"
    role: Literal["user", "assistant", "system", "developer"]
    content: str | list[ContentPart]
    id: str | None = None
    status: Literal["in_progress", "completed", "incomplete"] | None = None
    phase: Literal["commentary", "final_answer"] | None = None


class FunctionCallItem(Body):
    """A call that the model made."""

    type: Literal["function_call"]
    call_id: str
    name: str
    arguments: str
    parsed_arguments: Parsed = None
    id: str | None = None
    status: Literal["in_progress", "completed", "incomplete"] | None = None


class FunctionOutputItem(Body):
    """What a call gave."""

    type: Literal["function_call_output"]
    call_id: Annotated[str, Field(min_length=1, max_length=64)]
    output: str | list[ContentPart]
    id: str | None = None
    status: Literal["in_progress", "completed", "incomplete"] | None = None


class ItemReference(Body):
    """An item that an earlier response has."""

    type: Literal["item_reference"] | None = None
    id: str


class Other(BaseModel):
    """An item or tool of a kind that is not served: refused by its type."""

    model_config = ConfigDict(extra="allow")

    type: Annotated[str, Unsupported()]


def _kind(value: object) -> str:
    """Which of the kinds an item or tool is; one without a type is a message, or just another's id."""
    if isinstance(value, MessageItem | FunctionCallItem | FunctionOutputItem | FunctionTool | NamedFunction):
        return value.type
    if isinstance(value, ItemReference):
        return "item_reference"
    given = value if isinstance(value, dict) else {"type": "other"}
    kind = given.get("type")
    if kind is None:
        kind = "message" if "role" in given or "id" not in given else "item_reference"
    known = ("message", "function_call", "function_call_output", "item_reference", "function")  # no set: it may be {}
    return kind if kind in known else "other"


Item = Annotated[
    Annotated[MessageItem, Tag("message")]
    | Annotated[FunctionCallItem, Tag("function_call")]
    | Annotated[FunctionOutputItem, Tag("function_call_output")]
    | Annotated[ItemReference, Tag("item_reference")]
    | Annotated[Other, Tag("other")],
    Discriminator(_kind),
]


class FunctionTool(Body):
    """A function that the model may call."""

    type: Literal["function"]
    name: Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
    parameters: JsonObject | None = None
    strict: bool | None = None
    description: str | None = None


Tool = Annotated[Annotated[FunctionTool, Tag("function")] | Annotated[Other, Tag("other")], Discriminator(_kind)]


class NamedFunction(Body):
    """The function that must be called."""

    type: Literal["function"]
    name: str


ToolChoice = Annotated[Annotated[NamedFunction, Tag("function")] | Annotated[Other, Tag("other")], Discriminator(_kind)]


class TextFormat(Body):
    """What the text is."""

    type: Literal["text", "json_object", "json_schema"]
    name: Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")] | None = None
    description: str | None = None
    schema_: Annotated[JsonObject | None, Field(alias="schema")] = None
    strict: bool | None = None


class TextSettings(Body):
    """How the text is."""

    format: TextFormat | None = None
    verbosity: Verbosity | None = None


class Reasoning(Body):
    """How to think: models here just answer."""

    effort: Annotated[str | None, Unsupported(but=("none",))] = None
    summary: Annotated[str | None, Unsupported()] = None
    generate_summary: Annotated[str | None, Unsupported()] = None
    mode: Annotated[str | None, Unsupported()] = None
    context: Annotated[str | None, Unsupported()] = None


class ResponseStreamOptions(Body):
    """How to stream."""

    include_obfuscation: Annotated[bool | None, Unsupported(but=(False,))] = None


class CountTokens(Body):
    """What a model would read."""

    model: str | None = None
    input: str | list[Item] | None = None
    instructions: str | None = None
    previous_response_id: str | None = None
    tools: Annotated[list[Tool], Field(max_length=128)] | None = None
    tool_choice: Literal["none", "auto", "required"] | ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    text: TextSettings | None = None
    reasoning: Reasoning | None = None
    truncation: Annotated[Literal["auto", "disabled"] | None, Unsupported(but=("disabled",))] = None
    conversation: Absent = None
    personality: Absent = None

    def to_request(self) -> ResponseRequest:
        """What to count. Errors: `InvalidRequest` for what cannot be honoured, by its name."""
        if self.model is None:
            raise InvalidRequest(
                "Missing required parameter: 'model'.", code="missing_required_parameter", param="model"
            )
        self.check()
        return ResponseRequest(
            model=self.model,
            input=self.items(),
            body=self.chat_body(),
            shown={},
            instructions=self.instructions,
            previous_response_id=self.previous_response_id,
        )

    def items(self) -> Json:
        """The input for the domain."""
        dumped: Json = self.model_dump(include={"input"}, exclude_none=True).get("input")
        return dumped

    def check(self) -> None:
        """Errors: `InvalidRequest` for what does not go together."""
        if not self.tools and (self.tool_choice == "required" or isinstance(self.tool_choice, NamedFunction)):
            raise InvalidRequest(
                "Invalid value for 'tool_choice': there are no 'tools' to choose from.",
                code="invalid_value",
                param="tool_choice",
            )
        wanted = self.text.format if self.text else None
        if wanted is not None and wanted.type == "json_schema":
            for name, value in (("name", wanted.name), ("schema", wanted.schema_)):
                if value is None:
                    raise InvalidRequest(
                        f"Missing required parameter: 'text.format.{name}'.",
                        code="missing_required_parameter",
                        param=f"text.format.{name}",
                    )

    def chat_body(self) -> JsonObject:
        """The chat's body, but for its messages."""
        body: JsonObject = {}
        if self.tools:
            body["tools"] = [_chat_tool(tool) for tool in self.tools if isinstance(tool, FunctionTool)]
            if isinstance(self.tool_choice, NamedFunction):
                body["tool_choice"] = {"type": "function", "function": {"name": self.tool_choice.name}}
            elif isinstance(self.tool_choice, str):
                body["tool_choice"] = self.tool_choice
            if self.parallel_tool_calls is not None:
                body["parallel_tool_calls"] = self.parallel_tool_calls
        wanted = self.text.format if self.text else None
        if wanted is not None and wanted.type != "text":
            described = wanted.model_dump(exclude={"type"}, exclude_none=True, by_alias=True)
            body["response_format"] = {"type": wanted.type, **({"json_schema": described} if described else {})}
        return body


class CreateResponse(CountTokens):
    """Something to answer."""

    background: bool | None = None
    context_management: Absent = None
    include: list[Include] | None = None
    max_output_tokens: Annotated[int, Field(ge=16, lt=2**31)] | None = None
    max_tool_calls: int | None = None  # counts built-in tools, of which there are none
    metadata: Metadata | None = None
    moderation: Absent = None
    prompt: Absent = None
    prompt_cache_key: Label | None = None
    prompt_cache_options: Absent = None
    prompt_cache_retention: CacheRetention | None = None
    safety_identifier: Annotated[str, Field(max_length=64)] | None = None
    service_tier: ServiceTier | None = None
    store: bool | None = None
    stream: bool | None = None
    stream_options: ResponseStreamOptions | None = None
    temperature: Temperature | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    top_p: TopP | None = None
    user: Label | None = None

    def to_request(self) -> ResponseRequest:
        """What to answer. Errors: `InvalidRequest` for what cannot be honoured, by its name."""
        request = super().to_request()
        if self.background and self.stream:
            raise unsupported("stream", "true together with 'background'")
        if self.background and self.store is False:
            raise InvalidRequest(
                "Background responses are looked up later: 'store' cannot be false.",
                code="invalid_value",
                param="store",
            )
        with_logprobs = LOGPROBS in (self.include or ())
        body = {
            **request.body,
            **self.model_dump(include={"temperature", "top_p"}, exclude_none=True),
            **({"max_completion_tokens": self.max_output_tokens} if self.max_output_tokens else {}),
            **({"logprobs": True, "top_logprobs": self.top_logprobs or 0} if with_logprobs else {}),
        }
        return ResponseRequest(
            model=request.model,
            input=request.input,
            body=body,
            shown=self._shown(),
            instructions=self.instructions,
            previous_response_id=self.previous_response_id,
            store=self.store is not False,
            with_logprobs=with_logprobs,
        )

    def _shown(self) -> JsonObject:
        """The fields that a response repeats, with OpenAI's defaults."""
        wanted = self.text.format if self.text else None
        form = wanted.model_dump(exclude_none=True, by_alias=True) if wanted else {"type": "text"}
        choice = self.tool_choice.model_dump() if isinstance(self.tool_choice, NamedFunction) else self.tool_choice
        tools = [tool for tool in self.tools or () if isinstance(tool, FunctionTool)]
        shown: dict[str, Any] = {
            "background": bool(self.background),
            "max_output_tokens": self.max_output_tokens,
            "max_tool_calls": self.max_tool_calls,
            "metadata": self.metadata or {},
            "parallel_tool_calls": self.parallel_tool_calls is not False,
            "prompt_cache_key": self.prompt_cache_key,
            "safety_identifier": self.safety_identifier,
            "temperature": 1.0 if self.temperature is None else self.temperature,
            "text": {"format": form, "verbosity": "medium"},
            "tool_choice": choice or "auto",
            "tools": [{**tool.model_dump(), "strict": is_strict(tool.strict, tool.parameters)} for tool in tools],
            "top_logprobs": self.top_logprobs or 0,
            "top_p": 1.0 if self.top_p is None else self.top_p,
        }
        return {**shown, "user": self.user} if self.user is not None else shown


def _chat_tool(tool: FunctionTool) -> JsonObject:
    # `strict` is null, not absent, where nothing is said of it: a chat's engine takes that for "if the schema allows".
    described = tool.model_dump(exclude={"type"}, exclude_none=True)
    return {"type": "function", "function": {**described, "strict": tool.strict}}


Included = Annotated[list[Include] | None, Field(validation_alias=AliasChoices("include", "include[]"))]


def included(items: Sequence[JsonObject], include: Sequence[Include] | None) -> list[Json]:
    """Items as a request wants to see them: log-probabilities only where it says so."""
    return list(items) if LOGPROBS in (include or ()) else [_without_logprobs(item) for item in items]


def _without_logprobs(item: JsonObject) -> JsonObject:
    if item["type"] != "message":
        return item
    parts = cast("list[JsonObject]", item["content"])
    return {**item, "content": [{**part, "logprobs": []} if part.get("logprobs") else part for part in parts]}


class RetrieveQuery(Query):
    """How to show a response. Only what is finished is kept, so there is nothing to stream."""

    include: Included = None
    stream: Annotated[bool | None, Unsupported(but=(False,))] = None
    starting_after: Annotated[int | None, Unsupported()] = None
    include_obfuscation: Annotated[bool | None, Unsupported(but=(False,))] = None


class ItemQuery(Ordered):
    """A page of input items."""

    order: Order = "desc"
    include: Included = None
