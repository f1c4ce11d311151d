"""Lines of training files: OpenAI's formats, checked one line at a time. Knows no tokens, no templates, no model.

Three formats, one a file: chats (`messages`), prompt/completion pairs, and preferences (`input`, `preferred_output`,
`non_preferred_output` as OpenAI's guide has it, or `…_completion` as its API reference had). What is wrong is raised as
`JobFailed` with OpenAI's code, wording and `param`; an example's number is its line's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Required, cast

from pydantic import AliasChoices, ConfigDict, Field, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict

from luthier.core.errors import JobFailed
from luthier.core.json import JsonObject, fault_of, numbered
from luthier.core.run import Method

Which = Literal["training", "validation"]
MIN_EXAMPLES: Final = 10

_STRICT: Final = ConfigDict(extra="forbid")


@dataclass(frozen=True)
class Chat:
    """A chat and which of its messages are learnt; `messages` are OpenAI's, without `weight`."""

    messages: tuple[JsonObject, ...]
    trained: tuple[bool, ...]
    tools: tuple[JsonObject, ...] = ()
    parallel_tool_calls: bool = True


@dataclass(frozen=True)
class Completion:
    """A text and what is to follow it."""

    prompt: str
    completion: str


@dataclass(frozen=True)
class Preference:
    """One prompt, a better and a worse answer; both chats learn their last message alone."""

    preferred: Chat
    rejected: Chat


Example = Chat | Completion | Preference


@dataclass(frozen=True)
class DataFile:
    """A file of examples and what to call it in errors."""

    path: Path
    which: Which = "training"
    file_id: str = ""

    def invalid(self, detail: str) -> JobFailed:
        """The error for a file whose content will not do."""
        text = f"The job failed due to an invalid {self.which} file. {detail}"
        return JobFailed(text, code=f"invalid_{self.which}_file", param=f"{self.which}_file")

    def misformatted(self, detail: str) -> JobFailed:
        """The error for a file with something in it that the format does not have."""
        text = f"The job failed due to a file format error in the {self.which} file. Invalid file format. {detail}"
        return JobFailed(text, code="invalid_file_format", param=f"{self.which}_file")

    def too_few(self, examples: int) -> JobFailed:
        """The error for a file with fewer than `MIN_EXAMPLES` examples."""
        text = (
            f"{self.which.capitalize()} file has {examples} example(s), but must have at least {MIN_EXAMPLES} examples"
        )
        return JobFailed(text, code="invalid_n_examples", param=f"{self.which}_file")


def read_examples(file: DataFile, method: Method) -> Iterator[tuple[int, Example]]:
    """Each line's number and example; blank lines are passed over. Holds one line in memory.

    Errors: `JobFailed` for the first line that will not do, or for a file of another method.
    """
    reader: LineReader | None = None
    for number, line in numbered(file.path):
        reader = reader or LineReader(file, method, number, line)
        yield number, reader.read(number, line)


class LineReader:
    """Reads lines of the format that the file's first line has."""

    def __init__(self, file: DataFile, method: Method, number: int, line: bytes) -> None:
        self._file = file
        self._format = _format_of(file, method, number, line)

    def read(self, number: int, line: bytes) -> Example:
        """The example on a line. Errors: `JobFailed`."""
        try:
            match self._format:
                case "chat":
                    return self._chat(number, _CHAT.validate_json(line))
                case "completion":
                    pair = _COMPLETION.validate_json(line)
                    return Completion(pair["prompt"], pair["completion"])
                case "preference":
                    return self._preference(_PREFERENCE.validate_json(line))
        except ValidationError as error:
            raise _translate(self._file, number, error) from error

    def _chat(self, number: int, line: _ChatLine) -> Chat:
        messages = line["messages"]
        roles = [m["role"] for m in messages]
        problem = ""
        if "assistant" not in roles:
            problem = "At least one message must be from the assistant."
        elif roles[-1] != "assistant":
            problem = "The last message must be from the assistant."
        if problem:
            raise self._file.invalid(f'Invalid file format. Line {number}, key "messages": {problem}')
        trained = tuple(m["role"] == "assistant" and m.get("weight", 1) != 0 for m in messages)
        plain = tuple(_plain({k: v for k, v in m.items() if k != "weight"}) for m in messages)
        # The deprecated `functions` are served one call at a time.
        parallel = line.get("parallel_tool_calls", "functions" not in line)
        return Chat(plain, trained, _tools(line), parallel)

    def _preference(self, line: _PreferenceLine) -> Preference:
        given = line["input"]
        prompt = tuple(_plain({k: v for k, v in m.items() if k != "weight"}) for m in given["messages"])
        trained = (False,) * len(prompt) + (True,)
        tools, parallel = _tools(given), given.get("parallel_tool_calls", True)
        better, worse = (
            Chat((*prompt, _plain(dict(answer[0]))), trained, tools, parallel)
            for answer in (line["preferred"], line["rejected"])
        )
        return Preference(better, worse)


@with_config(_STRICT)
class _TextPart(TypedDict):
    type: Literal["text"]
    text: str


@with_config(_STRICT)
class _RefusalPart(TypedDict):
    type: Literal["refusal"]
    refusal: str


@with_config(_STRICT)
class _Function(TypedDict):
    name: str
    arguments: str


@with_config(_STRICT)
class _ToolCall(TypedDict):
    id: str
    type: Literal["function"]
    function: _Function


@with_config(_STRICT)
class _Instruction(TypedDict, total=False):
    role: Required[Literal["system", "developer"]]
    content: Required[str | list[_TextPart]]
    name: str


@with_config(_STRICT)
class _User(TypedDict, total=False):
    role: Required[Literal["user"]]
    content: Required[str | list[_TextPart]]
    name: str


@with_config(_STRICT)
class _Answer(TypedDict, total=False):
    role: Required[Literal["assistant"]]
    content: str | list[Annotated[_TextPart | _RefusalPart, Field(discriminator="type")]] | None
    refusal: str | None
    name: str
    tool_calls: Annotated[list[_ToolCall], Field(min_length=1)]
    function_call: _Function | None


class _Assistant(_Answer, total=False):
    weight: Literal[0, 1]


@with_config(_STRICT)
class _Tool(TypedDict):
    role: Literal["tool"]
    content: str | list[_TextPart]
    tool_call_id: str


@with_config(_STRICT)
class _FunctionResult(TypedDict):
    role: Literal["function"]
    content: str | None
    name: str


_Message = Annotated[_Instruction | _User | _Assistant | _Tool | _FunctionResult, Field(discriminator="role")]


@with_config(_STRICT)
class _FunctionShape(TypedDict, total=False):
    name: Required[str]
    description: str
    parameters: dict[str, Any]  # a JSON schema, passed through to the template
    strict: bool | None


@with_config(_STRICT)
class _ToolShape(TypedDict):
    type: Literal["function"]
    function: _FunctionShape


@with_config(_STRICT)
class _ChatLine(TypedDict, total=False):
    messages: Required[Annotated[list[_Message], Field(min_length=1)]]
    tools: list[_ToolShape]
    parallel_tool_calls: bool
    functions: list[_FunctionShape]


@with_config(_STRICT)
class _CompletionLine(TypedDict):
    prompt: str
    completion: str


@with_config(_STRICT)
class _PreferenceInput(TypedDict, total=False):
    messages: Required[Annotated[list[_Message], Field(min_length=1)]]
    tools: list[_ToolShape]
    parallel_tool_calls: bool


@with_config(_STRICT)
class _PreferenceLine(TypedDict):
    input: _PreferenceInput
    preferred: Annotated[
        list[_Answer],
        Field(min_length=1, max_length=1, validation_alias=AliasChoices("preferred_output", "preferred_completion")),
    ]
    rejected: Annotated[
        list[_Answer],
        Field(
            min_length=1,
            max_length=1,
            validation_alias=AliasChoices("non_preferred_output", "non_preferred_completion"),
        ),
    ]


_CHAT: Final = TypeAdapter(_ChatLine)
_COMPLETION: Final = TypeAdapter(_CompletionLine)
_PREFERENCE: Final = TypeAdapter(_PreferenceLine)
_KEYS: Final = TypeAdapter(dict[str, Any])

_Format = Literal["chat", "completion", "preference"]
_FORMATS: Final[dict[str, _Format]] = {
    "messages": "chat",
    "prompt": "completion",
    "completion": "completion",
    "input": "preference",
    **dict.fromkeys(
        ("preferred_output", "non_preferred_output", "preferred_completion", "non_preferred_completion"), "preference"
    ),
}
_NAMES: Final = {"chat": "fine-tune-chat", "completion": "fine-tune-completion", "preference": "fine-tune-preference"}


def _plain(message: dict[str, Any]) -> JsonObject:
    return cast(JsonObject, message)


def _tools(line: _ChatLine | _PreferenceInput) -> tuple[JsonObject, ...]:
    tools: list[_ToolShape] = list(line.get("tools", []))
    tools += [{"type": "function", "function": f} for f in cast(_ChatLine, line).get("functions", [])]
    return tuple(_plain(dict(t)) for t in tools)


def _format_of(file: DataFile, method: Method, number: int, line: bytes) -> _Format:
    try:
        keys = _KEYS.validate_json(line)
    except ValidationError as error:
        raise _translate(file, number, error) from error
    found = next((_FORMATS[key] for key in keys if key in _FORMATS), None)
    if found is None and method == "dpo":
        raise file.invalid(f"Invalid file format. Example {number} is missing key 'input'.")
    if found is None:
        raise file.invalid("Unexpected file format, expected either prompt/completion pairs or chat messages.")
    wanted: Method = "dpo" if found == "preference" else "supervised"
    if method != wanted:
        raise file.invalid(
            f"Invalid file format. Input file {file.file_id or file.path.name} is in the {_NAMES[found]} format, but "
            f"the specified fine-tuning job is not using '{wanted}' as the training method (provided method={method})."
        )
    return found


def _translate(file: DataFile, number: int, error: ValidationError) -> JobFailed:
    """The first of pydantic's errors, the most telling where a union failed, in OpenAI's words."""
    first = max(error.errors(include_url=False), key=lambda e: _TELLING.get(e["type"], 1))
    location, kind, message = first["loc"], first["type"], first["msg"]
    if kind == "json_invalid":
        fault = fault_of(first["input"], message.removeprefix("Invalid JSON: "))
        detail = f"Error: line contains invalid json: {fault} (line {number})"
        return file.invalid(f"Invalid file format. Example {number} cannot be parsed. {detail}")
    if not location:
        return file.invalid(f"Invalid file format. Example {number} is not a JSON object.")
    where = f"Example {number}"
    path = [str(p) for p in location]
    if "messages" in path and (at := path.index("messages")) + 1 < len(path) and path[at + 1].isdigit():
        where += f", message {int(path[at + 1]) + 1}"
        path = path[at + 3 :]  # the item after the number is the role that pydantic chose
    key = next((p for p in reversed(path) if not p.isdigit() and p.isidentifier() and p not in _UNION_TAGS), "")
    if kind == "extra_forbidden":
        return file.misformatted(f'{where} contains an extra "{location[-1]}".')
    if kind == "missing" and len(location) == 1:
        return file.invalid(f"Invalid file format. {where} is missing key '{key}'.")
    if kind == "union_tag_not_found":
        return file.invalid(f"Invalid file format. {where} Discriminator 'role' is missing in value")
    if kind == "union_tag_invalid":
        tags = first["ctx"]
        return file.invalid(
            f"Invalid file format. {where} has {tags['discriminator'].strip(chr(39))} '{tags['tag']}'; "
            f"it must be one of {tags['expected_tags']}"
        )
    if kind == "list_type" and key == "content":
        message = "Input should be a valid string, or a list of parts"
    return file.invalid(f"Invalid file format. {where}" + (f", key '{key}'" if key else "") + f": {message}")


# Pydantic adds a union's member to the path; it is no key of the user's.
_UNION_TAGS: Final = frozenset({"str", "text", "refusal"})
_TELLING: Final = {"union_tag_not_found": 3, "union_tag_invalid": 3, "string_type": 0} | dict.fromkeys(
    ("literal_error", "extra_forbidden", "missing"), 2
)
