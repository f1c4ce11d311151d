"""Answers that follow a schema, and calls that follow their function's, through llama.cpp."""

import json

import pytest

from luthier.core.errors import InvalidRequest
from tests.engines.asked import COLOUR, HELLO, SCHEMA, TOOL


def test_answers_follow_a_schema(engine, run):
    answer = run(engine.answer("chat/completions", {**HELLO, "max_tokens": 400, "response_format": COLOUR}, None))
    assert json.loads(answer["choices"][0]["message"]["content"])["colour"] in ("red", "green")
    broken = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "objekt"}}}
    with pytest.raises(InvalidRequest, match="objekt"):
        run(engine.answer("chat/completions", {**HELLO, "response_format": broken}, None))


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "paint"}}])
def test_calls_that_must_be_made_are_made(engine, run, choice):
    body = {**HELLO, "max_tokens": 400, "tools": [TOOL], "tool_choice": choice, "parallel_tool_calls": False}
    answer = run(engine.answer("chat/completions", body, None))
    [call] = answer["choices"][0]["message"]["tool_calls"]
    assert call["function"]["name"] == "paint"
    assert json.loads(call["function"]["arguments"])["colour"] in ("red", "green")
    assert answer["choices"][0]["finish_reason"] == "tool_calls"


def test_calls_follow_what_their_schema_refers_to(engine, run):
    """As Pydantic writes nested models: the schema becomes part of a larger one, and its references go with it."""
    colour = {"type": "object", "properties": {"is": {"$ref": "#/$defs/Colour"}}, "required": ["is"]}
    parameters = {**colour, "additionalProperties": False, "$defs": {"Colour": SCHEMA}}
    tools = [{"type": "function", "function": {"name": "mix", "parameters": parameters, "strict": True}}]
    body = {**HELLO, "max_tokens": 200, "tools": tools, "tool_choice": "required", "parallel_tool_calls": False}
    [call] = run(engine.answer("chat/completions", body, None))["choices"][0]["message"]["tool_calls"]
    assert json.loads(call["function"]["arguments"])["is"]["colour"] in ("red", "green")


def test_strict_tools_leave_room_for_text(engine, run):
    tool = {"type": "function", "function": {**TOOL["function"], "strict": True}}
    answer = run(engine.answer("chat/completions", {**HELLO, "tools": [tool]}, None))
    assert answer["choices"][0]["message"]["content"]


@pytest.mark.parametrize("strict", [True, False])
def test_beside_a_format_an_answer_follows_it_or_is_a_call(engine, run, strict):
    tool = {"type": "function", "function": {**TOOL["function"], "strict": strict}}
    for seed in range(4):
        body = {**HELLO, "max_tokens": 400, "tools": [tool], "response_format": COLOUR, "seed": seed}
        message = run(engine.answer("chat/completions", body, None))["choices"][0]["message"]
        if message.get("tool_calls"):
            assert message["tool_calls"][0]["function"]["name"] == "paint"
        else:
            assert json.loads(message["content"])["colour"] in ("red", "green")
