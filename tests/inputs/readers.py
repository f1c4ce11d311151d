"""What is fed: the product's own readers, each with good inputs to start from and the refusals that are its words.

A reader is given bytes and says `accepted` or `refused`; whatever else it raises is a crash. What it says and what it
lets through must be fit to be stored and sent.
"""

import io
import json
import random
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from gguf import GGUFWriter

from luthier.core.errors import InvalidRequest, JobFailed, LuthierError, Unavailable
from luthier.data import template
from luthier.data.chats import DataFile
from luthier.data.receipt import read_lines
from luthier.data.repeats import Seen
from luthier.data.rows import Rows
from luthier.data.survey import format_errors, method_of
from luthier.domain import batch_input, eval_rows
from luthier.domain.jsonl import JsonlCheck
from luthier.engines.gguf_header import read_header
from tests.inputs.mutate import WORDS, mutated
from tests.tiny import CHATML, add_weights, chat_line, make_base, preference_line

Read = Callable[[bytes], str]


@dataclass(frozen=True)
class Target:
    """`share`: how many of a million inputs are its. `make` draws them where they are no mutated `seeds`."""

    name: str
    share: int
    seeds: list[bytes]
    read: Read
    words: list[bytes]
    make: Callable[[random.Random], bytes] | None = None


def fit(*values: object) -> None:
    """Errors: `ValueError` for what no answer of ours can carry."""
    json.dumps(values, ensure_ascii=False, allow_nan=False).encode()


def training(folder: Path) -> Target:
    rows, path = Rows(make_base(folder), 512), folder / "lines.jsonl"

    def read(data: bytes) -> str:
        path.write_bytes(data)
        file = DataFile(path)
        try:
            for line in read_lines(file, rows, method_of(file), Seen()):
                fit(asdict(line))
        except JobFailed as error:
            fit(error.message, error.param, format_errors(file, "supervised"))
            return "refused"
        return "accepted"

    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a": [1, 2]}'}}
    talk = [
        {"role": "developer", "content": [{"type": "text", "text": "be brief"}]},
        {"role": "user", "content": "how?", "name": "u"},
        {"role": "assistant", "content": None, "tool_calls": [call], "weight": 0},
        {"role": "tool", "content": "42", "tool_call_id": "c"},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]},
    ]
    seeds = [
        chat_line("how are you?", "fyne"),
        json.dumps({"messages": talk, "tools": [tool], "parallel_tool_calls": False}),
        json.dumps({"prompt": "a b", "completion": " c"}),
        preference_line("which?", "this", "that"),
    ]
    lines = [seed.encode() for seed in seeds]
    return Target("training lines", 460_000, [*lines, b"\n".join([lines[0]] * 3)], read, WORDS)


def uploads(_: Path) -> Target:
    def read(data: bytes) -> str:
        check, size = JsonlCheck(), 1 + zlib.crc32(data) % 200
        for start in range(0, len(data), size):
            check.feed(data[start : start + size])
        wrong = check.verdict()
        fit(wrong)
        return "accepted" if wrong is None else "refused"

    seeds = [b'{"a": [1, "x", null]}\n{"b": {}}\n\n{"c": 1.5}', b'\xef\xbb\xbf{"a": true}\r\n{"\xc3\xa9": "\\u00e9"}']
    return Target("JSONL uploads", 150_000, seeds, read, WORDS)


def batches(_: Path) -> Target:
    def read(data: bytes) -> str:
        found = batch_input.check(
            io.BytesIO(data), "/v1/chat/completions", knows_model=lambda name: name == "m", beat=lambda: None
        )
        fit([asdict(error) for error in found.errors])
        if found.errors:
            return "refused"
        for request in batch_input.read(io.BytesIO(data), "/v1/chat/completions"):
            json.dumps(asdict(request)).encode()  # as it goes to our own door, which sees to its words
        return "accepted"

    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "temperature": 0.5}
    line = {"custom_id": "1", "method": "POST", "url": "/v1/chat/completions", "body": body}
    one = json.dumps(line).encode()
    two = one + b"\n" + json.dumps({**line, "custom_id": "2"}).encode()
    return Target("batch lines", 200_000, [one, two], read, WORDS)


def evals(_: Path) -> Target:
    schema = {"type": "object", "properties": {"a": {"type": "string", "maxLength": 5}}, "required": ["a"]}

    def read(data: bytes) -> str:
        try:
            lines = (parsed for n, line in enumerate(data.split(b"\n"), 1) for parsed in eval_rows._parsed(n, line))
            for row in eval_rows._given(lines):
                eval_rows._check(row, schema)
                fit(row.item, row.sample.names, row.sample.shown)
        except InvalidRequest as error:
            fit(error.message)
            return "refused"
        return "accepted"

    lines = [{"item": {"a": "x"}, "sample": {"output_text": '{"b": 1}', "model": "m"}}, {"item": {"a": "y", "b": [1]}}]
    seeds = [json.dumps(line).encode() for line in lines]
    return Target("eval rows", 100_000, [*seeds, b"\n".join(seeds)], read, WORDS)


def schemas(_: Path) -> Target:
    row = eval_rows.Row(1, {"a": "a" * 40 + "!", "b": [1, {"c": None}]}, None)

    def read(data: bytes) -> str:
        try:
            schema = json.loads(data)
        except (ValueError, RecursionError):
            return "refused"
        if not isinstance(schema, dict):
            return "refused"
        try:
            eval_rows.check_schema(schema)
            eval_rows._check(row, schema)
        except InvalidRequest as error:
            error.message.encode(errors="backslashreplace")
            return "refused"
        finally:
            eval_rows._validator.cache_clear()
        return "accepted"

    text = {"type": "string", "pattern": "^a+!$", "minLength": 1}
    inner = {"type": "object", "properties": {"c": {"type": ["null", "integer"]}}, "additionalProperties": False}
    parts = {"type": "array", "items": {"anyOf": [{"type": "integer"}, {"$ref": "#/$defs/part"}]}, "uniqueItems": True}
    schema = {"type": "object", "properties": {"a": text, "b": parts}, "required": ["a"], "$defs": {"part": inner}}
    seeds = [json.dumps(schema).encode(), b'{"allOf": [{"$ref": "#/$defs/x"}], "$defs": {"x": {"not": {"const": 1}}}}']
    return Target("eval schemas", 20_000, seeds, read, [*WORDS, b"(a+)+$", b"(?=a)", b'"$ref": "#",'])


def templates(_: Path) -> Target:
    template.MAX_SECONDS = 0.2  # here, where many have no end
    chat = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}, {"role": "assistant", "content": "a"}]

    def read(data: bytes) -> str:
        try:
            template.ChatTemplate(data.decode(errors="replace")).render_answers(chat, [False, False, True])
        except InvalidRequest:
            return "refused"
        return "accepted"

    hostile = (b"{% for i in range(99999) %}", b"{% endfor %}", b"'a' * 99999999", b"().__class__", b"|join", b"{% if ")
    filters = (
        b"{% set ns = namespace(x=0) %}{% for m in messages[1:] %}{{ m|tojson(indent=2) }}{{ m.content.split('a')[0]"
    )
    seeds = [CHATML.encode(), filters + b"|trim }}{% endfor %}{{ strftime_now('%d') }}"]
    return Target("chat templates", 20_000, seeds, read, [*hostile, *WORDS[:11], b"{{" * 500, b"(" * 5_000])


def headers(folder: Path) -> Target:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "mutated.gguf"
    writer = GGUFWriter(path, "llama")
    for add in (writer.add_block_count, writer.add_context_length, writer.add_embedding_length, writer.add_head_count):
        add(64)
    writer.add_array("general.tags", ["a", "b"])
    writer.add_tokenizer_model("gpt2")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()

    def read(data: bytes) -> str:
        path.write_bytes(data)
        try:
            fit(asdict(read_header(path)))
        except Unavailable as error:
            fit(error.message)
            return "refused"
        return "accepted"

    return Target("GGUF headers", 60_000, [path.read_bytes()], read, WORDS)


def ggufs(folder: Path) -> Target:
    """Whole files, as a base's preparation reads them, but for its weights."""
    from transformers.utils import logging

    from luthier.train.from_gguf import read_keys, write_hf
    from tests.engines.gguf_files import write_gguf

    logging.disable_progress_bar()
    path = folder / "mutated.gguf"
    whole = write_gguf(add_weights(make_base(folder))).gguf.read_bytes()
    end = whole.index(b"blk.")  # tensors' names follow the keys

    def read(data: bytes) -> str:
        path.write_bytes(data + whole[len(data) :])
        try:
            write_hf(path, folder)
        except LuthierError as error:
            fit(error.message)
            return "refused"
        finally:
            read_keys.cache_clear()
        return "accepted"

    return Target("GGUF files", 4_000, [whole[: end + 600]], read, WORDS[:24])


def drawn(target: Target, seed: int, number: int) -> bytes:
    """A target's input of this number: the same wherever and whenever it is made."""
    draw = random.Random(f"{seed}/{target.name}/{number}")
    return target.make(draw) if target.make else mutated(draw, target.seeds, target.words)


READERS = (training, uploads, batches, evals, schemas, templates, headers, ggufs)
