"""A few of the inputs of `make fuzz-inputs`, and each kind of input that it once found a crash or a hang with."""

import json

import pytest

from luthier.data import template
from tests.inputs import readers

EACH = {"GGUF files": 20, "chat templates": 60}
DEEP, HUGE = "[" * 5_000, "1" * 5_000
CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": ""}}
FOUND = [  # what was found with it is said behind
    (readers.training, '{"messages": ' + DEEP, "refused"),  # RecursionError
    (readers.uploads, '{"a": NaN}', "refused"),  # it came out again in answers, which are JSON
    (readers.evals, '{"item": {"a": "x", "b": NaN}}', "refused"),  # the same
    (readers.evals, '{"item": {"a": "x", "b": 1e999}}', "refused"),  # the same
    (readers.evals, '{"item": {"a": "x"}, "sample": {"output_text": "1e999"}}', "accepted"),  # as a text
    (readers.evals, r'{"item": {"a": "\ud800"}}', "refused"),  # UnicodeEncodeError in answers
    (  # UnicodeEncodeError: its error's `param` is the key
        readers.batches,
        r'{"custom_id": "1", "method": "POST", "url": "/v1/chat/completions", "body": {}, "\ud800": 1}',
        "refused",
    ),
    (readers.schemas, '{"allOf": [{"$ref": "#"}]}', "refused"),  # RecursionError
    (readers.schemas, '{"properties": {"a": {"pattern": "(a+)+$"}}}', "refused"),  # took for ever
    (readers.schemas, '{"properties": {"a": {"pattern": "(?=a)"}}}', "refused"),
    (readers.schemas, '{"patternProperties": {"(a+)+$": {}}}', "refused"),  # would take for ever
    (readers.schemas, '{"properties": {"pattern": {"type": "string"}, "a": {"pattern": "^a+!$"}}}', "accepted"),
    (readers.templates, "{{" + "(" * 5_000, "refused"),  # RecursionError
    (readers.templates, "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", "refused"),
    (readers.templates, "{% macro f(n) %}{{ f(n) }}{{ f(n) }}{% endmacro %}{{ f(1) }}", "refused"),  # both: for ever
]


@pytest.mark.parametrize("make", readers.READERS)
def test_whatever_is_read_is_accepted_or_refused(tmp_path, monkeypatch, make):
    monkeypatch.setattr(template, "MAX_SECONDS", template.MAX_SECONDS)
    target = make(tmp_path / "target")
    for number in range(EACH.get(target.name, 200)):
        assert target.read(readers.drawn(target, 1, number)) in {"accepted", "refused"}


@pytest.mark.parametrize(("make", "found", "outcome"), FOUND)
def test_what_was_found(tmp_path, monkeypatch, make, found, outcome):
    monkeypatch.setattr(template, "MAX_SECONDS", template.MAX_SECONDS)
    assert make(tmp_path / "target").read(found.encode()) == outcome


@pytest.mark.parametrize("arguments", [DEEP, HUGE])
def test_arguments_that_are_no_json_are_text(tmp_path, arguments):
    call = {**CALL, "function": {"name": "f", "arguments": arguments}}
    chat = [{"role": "user", "content": "hi"}, {"role": "assistant", "tool_calls": [call]}]
    assert readers.training(tmp_path / "target").read(json.dumps({"messages": chat}).encode()) == "accepted"


def test_a_gguf_without_heads(tmp_path):
    target = readers.headers(tmp_path / "target")
    (whole,) = target.seeds
    at = whole.index(b"attention.head_count") + len(b"attention.head_count") + 4
    assert target.read(whole[:at] + bytes(4) + whole[at + 4 :]) == "refused"  # ZeroDivisionError


@pytest.mark.parametrize("length", [1 << 62, (1 << 64) - 1])  # MemoryError, OverflowError
def test_a_gguf_that_says_it_has_texts_without_end(tmp_path, length):
    target = readers.headers(tmp_path / "target")
    (whole,) = target.seeds
    at = whole.index(b"general.architecture") - 8
    assert target.read(whole[:at] + length.to_bytes(8, "little") + whole[at + 8 :]) == "refused"
