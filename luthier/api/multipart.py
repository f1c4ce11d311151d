"""Forms with a file in them, parsed as the bytes come: the file's go to a sink at once and lie nowhere in between."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from fastapi import Request
from pydantic import BaseModel
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.concurrency import run_in_threadpool

from luthier.core.errors import InvalidRequest, TooLarge

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

MAX_FIELD_BYTES: Final = 64 << 10
MAX_FIELDS: Final = 32
# A form is larger than the file in it by its other fields and its borders.
SLACK_BYTES: Final = 1 << 20
# So much is gathered before a thread parses it: fewer hops than one per packet.
BATCH_BYTES: Final = 1 << 18


def documented(file_field: str, fields: type[BaseModel]) -> dict[str, object]:
    """What the API document says of a form's body. Types within `fields` must be in the document from elsewhere."""
    schema = fields.model_json_schema(ref_template="#/components/schemas/{model}")
    schema.pop("$defs", None)
    schema["properties"] = {file_field: {"type": "string", "format": "binary"}, **schema["properties"]}
    schema["required"] = [file_field, *schema.get("required", [])]
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}


@dataclass(frozen=True)
class Form:
    """The text fields, nested where their names have brackets (`expires_after[seconds]`), and the file's name."""

    fields: dict[str, str | dict[str, str]]
    filename: str


async def receive_form(request: Request, file_field: str, sink: Callable[[bytes], None], *, limit_bytes: int) -> Form:
    """Read the request's form; the part called `file_field` is written to `sink`, in a thread.

    Errors: `InvalidRequest` for what is no form, `TooLarge`, and the sink's own.
    """
    kind, options = parse_options_header(request.headers.get("content-type"))
    if kind != b"multipart/form-data" or not options.get(b"boundary"):
        raise InvalidRequest("Invalid Content-Type header. Expected multipart/form-data with a boundary.")
    request.state.body_limit_bytes = limit_bytes + SLACK_BYTES
    reader = _Reader(file_field, sink)
    try:
        parser = MultipartParser(options[b"boundary"], reader.callbacks)
        batch = bytearray()
        async for chunk in request.stream():
            batch += chunk
            if len(batch) >= BATCH_BYTES:
                await run_in_threadpool(parser.write, bytes(batch))
                batch.clear()
        await run_in_threadpool(parser.write, bytes(batch))
        parser.finalize()
    except FormParserError as error:
        raise InvalidRequest(f"We could not parse the multipart form of your request: {error}.") from error
    if not reader.ended:
        raise InvalidRequest("We could not parse the multipart form of your request: it ends before its last border.")
    if reader.filename is None:
        raise InvalidRequest(
            f"Missing required parameter: '{file_field}'.", code="missing_required_parameter", param=file_field
        )
    return Form(reader.fields, reader.filename)


class _Reader:
    """The parser's callbacks: one part after the other."""

    def __init__(self, file_field: str, sink: Callable[[bytes], None]) -> None:
        self.fields: dict[str, str | dict[str, str]] = {}
        self.filename: str | None = None
        self.ended = False
        self._file_field = file_field
        self._sink = sink
        self._count = 0
        self._begin()
        self.callbacks: MultipartCallbacks = {
            "on_part_begin": self._begin,
            "on_header_field": self._header_name_data,
            "on_header_value": self._header_value_data,
            "on_header_end": self._header_end,
            "on_headers_finished": self._headers_finished,
            "on_part_data": self._data,
            "on_part_end": self._part_end,
            "on_end": self._end,
        }

    def _begin(self) -> None:
        self._header_name, self._header_value = b"", b""
        self._disposition = b""
        self._name = ""
        self._is_file = False
        self._value = bytearray()

    def _header_name_data(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _header_value_data(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _header_end(self) -> None:
        if self._header_name.lower() == b"content-disposition":
            self._disposition = self._header_value
        self._header_name, self._header_value = b"", b""

    def _headers_finished(self) -> None:
        _, options = parse_options_header(self._disposition)
        self._name = options.get(b"name", b"").decode(errors="replace")
        self._is_file = self._name == self._file_field
        if not self._is_file:
            self._count += 1
            return
        if self.filename is not None:
            raise InvalidRequest(f"The form has '{self._name}' twice.", code="invalid_value", param=self._name)
        # Options were read as latin-1; names come as UTF-8.
        self.filename = options.get(b"filename", b"").decode(errors="replace") or self._name

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._is_file:
            self._sink(data[start:end])
            return
        self._value += data[start:end]
        if len(self._value) > MAX_FIELD_BYTES or self._count > MAX_FIELDS:
            raise TooLarge(f"The form's fields beside '{self._file_field}' are too many or too long.")

    def _part_end(self) -> None:
        if self._is_file:
            return
        value = self._value.decode(errors="replace")
        outer, bracket, inner = self._name.partition("[")
        if not bracket:
            self.fields[self._name] = value
            return
        nested = self.fields.setdefault(outer, {})
        if isinstance(nested, dict):
            nested[inner.removesuffix("]")] = value

    def _end(self) -> None:
        self.ended = True
