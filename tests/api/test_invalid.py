"""Which part of a body is blamed, where types are unions."""

import pytest

MODEL = "smollm2-135m-instruct"


@pytest.mark.parametrize(
    ("given", "code", "param"),
    [
        (["a", ""], "empty_string", "input[1]"),
        (["a", None], "invalid_type", "input[1]"),
        (["a", 1], "invalid_type", "input[1]"),
        ([1, "a"], "invalid_type", "input[1]"),
        ([1, -2], "integer_below_min_value", "input[1]"),
        ([[1, 2], []], "empty_array", "input[1]"),
        ([[1, 2], [3, "x"]], "invalid_type", "input[1][1]"),
        (["a"] * 2049, "array_above_max_length", "input"),
        ([], "empty_array", "input"),
        ("", "empty_string", "input"),
    ],
)
def test_texts_and_tokens(http, given, code, param):
    answer = http.post("/embeddings", json={"model": MODEL, "input": given})
    assert (answer.json()["error"]["code"], answer.json()["error"]["param"]) == (code, param)


def test_what_was_expected_is_of_the_branch_that_was_meant(http):
    for given, expected in ((["a", None], "a string"), (5, "one of a string or an array")):
        answer = http.post("/completions", json={"model": MODEL, "prompt": given})
        assert f"expected {expected}, but got" in answer.json()["error"]["message"]


MISSING = "missing_required_parameter"
CHAT_SHAPED = {"type": "function", "function": {"name": "f"}}
TEXT = {"type": "text", "text": "x"}
HEARD = {"responses": {"input": "x"}, "chat/completions": {"messages": [{"role": "user", "content": "x"}]}}


@pytest.mark.parametrize(
    ("path", "fields", "code", "param"),
    [
        ("responses", {"tools": [CHAT_SHAPED]}, MISSING, "tools[0].name"),
        ("responses", {"tool_choice": CHAT_SHAPED}, MISSING, "tool_choice.name"),
        ("responses", {"input": [{"role": "user", "content": [TEXT]}]}, "invalid_value", "input[0].content[0].type"),
        ("chat/completions", {"tools": [{"type": "function", "function": {}}]}, MISSING, "tools[0].function.name"),
        ("chat/completions", {"tool_choice": {"type": "function"}}, MISSING, "tool_choice.function"),
    ],
)
def test_objects_that_are_told_apart_by_their_type(http, path, fields, code, param):
    error = http.post(path, json={"model": MODEL, **HEARD[path], **fields}).json()["error"]
    assert (error["code"], error["param"]) == (code, param)
