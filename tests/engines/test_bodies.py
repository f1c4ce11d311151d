"""Which functions a grammar holds to their schemas, and what the model is told of them."""

import pytest

from luthier.core.errors import InvalidRequest
from luthier.data.template import ChatTemplate
from luthier.engines.bodies import chat
from luthier.engines.json_schema import check_schema
from luthier.engines.tool_calls import HERMES

TEMPLATE = ChatTemplate("{{ tools | tojson }}", bos_token=None, eos_token=None, adds_bos=False)
USABLE = {"type": "object", "properties": {"at": {"type": "string"}}}
UNUSABLE = {"type": "object", "properties": {"by": {"not": {}}}}


def tool(name, parameters, **more):
    return {"type": "function", "function": {"name": name, "parameters": parameters, **more}}


def asked(*tools, **more):
    return chat({"messages": [{"role": "user", "content": "hi"}], "tools": list(tools), **more}, TEMPLATE, HERMES).body


def test_a_function_that_may_be_strict_is_where_it_can():
    assert '"at"' in asked(tool("a", USABLE, strict=None))["grammar"]
    assert "grammar" not in asked(tool("a", UNUSABLE, strict=None))
    assert "grammar" not in asked(tool("a", USABLE))
    assert "grammar" not in asked(tool("a", USABLE, strict=False))


def test_beside_a_strict_function_the_others_are_free():
    grammar = asked(tool("a", USABLE, strict=True), tool("b", UNUSABLE), tool("c", UNUSABLE, strict=None))["grammar"]
    assert '"at"' in grammar
    assert '"by"' not in grammar
    assert '{"const": "b"}' in grammar


def test_a_call_that_must_be_follows_its_schema_if_it_can():
    assert '"at"' in asked(tool("a", USABLE), tool_choice="required")["grammar"]
    assert '"by"' not in asked(tool("a", UNUSABLE), tool_choice="required")["grammar"]


@pytest.mark.parametrize("more", [{}, {"tool_choice": "required"}])
def test_a_strict_function_without_a_usable_schema_is_refused(more):
    with pytest.raises(InvalidRequest, match="Invalid schema for 'tools'"):
        asked(tool("a", UNUSABLE, strict=True), **more)


def test_models_are_told_of_tools_as_training_data_has_them():
    assert asked(tool("a", USABLE, strict=None))["prompt"] == asked(tool("a", USABLE))["prompt"]
    assert '"strict": true' in asked(tool("a", USABLE, strict=True))["prompt"]


def test_a_schema_without_an_end_is_refused():
    schema = {}
    for _ in range(2000):
        schema = {"items": schema}
    with pytest.raises(InvalidRequest, match="too deeply"):
        check_schema(schema, param="tools")
