import json

import pytest

from luthier.core.errors import InvalidRequest
from luthier.engines.json_schema import check_schema
from luthier.engines.tool_calls import HERMES, LLAMA, MISTRAL, CallReader, notation_of

CALL = '<tool_call>\n{"name": "f", "arguments": {"x": 1}}\n</tool_call>'


def read(text, notation=HERMES, size=1, many=True):
    """All text, and each call's name and arguments, of an answer that comes in pieces."""
    reader = CallReader(notation, many)
    said = "".join(reader.feed(text[at : at + size]) for at in range(0, len(text), size)) + reader.end()
    calls = [(c["function"]["name"], json.loads(c["function"]["arguments"])) for c in reader.calls]
    return said, calls


@pytest.mark.parametrize("size", [1, 3, 7, 1000])
@pytest.mark.parametrize(
    ("text", "said", "calls"),
    [
        ("plain text", "plain text", []),
        ("a < b <tool> c\n", "a < b <tool> c\n", []),
        (CALL, "", [("f", {"x": 1})]),
        (f"I look.\n{CALL}", "I look.", [("f", {"x": 1})]),
        (f"{CALL}\n{CALL}", "", [("f", {"x": 1})] * 2),
        (f"{CALL}\nDone.", "Done.", [("f", {"x": 1})]),
        ("<tool_call>\nnot json\n</tool_call>", "<tool_call>\nnot json\n</tool_call>", []),
        ('<tool_call>\n{"name": "f"', '<tool_call>\n{"name": "f"', []),
        ("ends with <tool_c", "ends with <tool_c", []),
        *((f"<tool_call>{no}</tool_call>", f"<tool_call>{no}</tool_call>", []) for no in ("[" * 5_000, "1" * 5_000)),
    ],
)
def test_hermes(text, said, calls, size):
    assert read(text, size=size) == (said, calls)


def test_one_call_at_a_time():
    assert read(f"{CALL}\n{CALL}", many=False) == ("", [("f", {"x": 1})])


def test_other_notations():
    assert read('[TOOL_CALLS][{"name": "f", "arguments": {}}, {"name": "g", "arguments": {}}]', MISTRAL) == (
        "",
        [("f", {}), ("g", {})],
    )
    assert read('{"name": "f", "parameters": {"x": 2}}', LLAMA) == ("", [("f", {"x": 2})])
    assert read("hello there", LLAMA) == ("hello there", [])
    assert read('{"no": "call"}', LLAMA) == ('{"no": "call"}', [])
    said = 'Here you are: {"name": "Bob", "age": 3}'
    assert [read(said, LLAMA, size) for size in (1, 1000)] == [(said, [])] * 2


def test_without_a_mark_an_object_with_a_name_is_a_call_of_what_there_is():
    reader = CallReader(LLAMA, names=frozenset({"f"}))
    said = '{"name": "Bob", "age": 3}'
    assert (reader.feed(said) + reader.end(), reader.calls) == (said, [])
    reader = CallReader(LLAMA, names=frozenset({"f"}))
    assert reader.feed('{"name": "f", "parameters": {}}') + reader.end() == ""
    assert reader.calls[0]["function"]["name"] == "f"


def test_text_goes_on_after_a_brace():
    reader = CallReader(LLAMA)
    assert [reader.feed(piece) for piece in ("if (x) ", "{", " y }", "\n")] == ["if (x) ", "{", " y }", "\n"]


def test_a_template_tells_its_notation():
    assert notation_of("… <tool_call> …") is HERMES
    assert notation_of("… [TOOL_CALLS] …") is MISTRAL
    assert notation_of("… <|python_tag|> …") is LLAMA
    assert notation_of("") is HERMES


@pytest.mark.parametrize(
    ("schema", "place"),
    [
        ({"type": "objekt"}, "/type"),
        ({"type": "object", "properties": {"a": {"type": ["string", "nil"]}}}, "/properties/a/type"),
        ({"$ref": "#/$defs/none"}, "/$ref"),
        ({"$ref": "http://elsewhere"}, "/$ref"),
        ({"anyOf": []}, "/anyOf"),
        ({"enum": []}, "/enum"),
        ({"items": 3}, "/items"),
        ({"not": {}}, "/not"),
    ],
)
def test_a_schema_that_cannot_constrain_is_refused_with_the_place(schema, place):
    with pytest.raises(InvalidRequest, match="Invalid schema") as refused:
        check_schema(schema, param="response_format")
    assert f"'{place}'" in refused.value.message


def test_schemas_with_references_pass():
    node = {"type": "object", "properties": {"next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}}}
    check_schema({"$defs": {"node": node}, "$ref": "#/$defs/node"}, param="x")
