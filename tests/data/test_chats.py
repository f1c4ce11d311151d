"""Each format's lines, and each thing wrong with one in OpenAI's code, words and param."""

import json

import pytest

from luthier.core.errors import JobFailed
from luthier.data.chats import Chat, Completion, DataFile, Preference, read_examples
from luthier.data.template import ChatTemplate
from luthier.domain.legacy_functions import as_tools
from tests.tiny import CHATML, chat_line, preference_line

USER = {"role": "user", "content": "hi"}
ANSWER = {"role": "assistant", "content": "hello"}
JOB_FAILED = "The job failed due to an invalid training file. "


def read(tmp_path, *lines, method="supervised", which="training"):
    path = tmp_path / "data.jsonl"
    path.write_bytes(b"\n".join(x if isinstance(x, bytes) else x.encode() for x in lines))
    return list(read_examples(DataFile(path, which, "file-abc"), method))


def messages(*given, **more):
    return json.dumps({"messages": list(given), **more})


def test_a_chat_learns_its_answers_but_those_of_weight_0(tmp_path):
    line = messages(USER, {**ANSWER, "weight": 0}, USER, {**ANSWER, "weight": 1}, USER, ANSWER)
    [(number, chat)] = read(tmp_path, line)
    assert number == 1
    assert isinstance(chat, Chat)
    assert chat.trained == (False, False, False, True, False, True)
    assert all("weight" not in m for m in chat.messages)


def test_tools_and_functions_are_one(tmp_path):
    shape = {"name": "now", "parameters": {"type": "object", "properties": {}}}
    as_tool = messages(USER, ANSWER, tools=[{"type": "function", "function": shape}], parallel_tool_calls=False)
    as_function = messages(USER, ANSWER, functions=[shape])
    (_, new), (_, old) = read(tmp_path, as_tool, as_function)
    assert new.tools == old.tools == ({"type": "function", "function": shape},)
    assert (new.parallel_tool_calls, old.parallel_tool_calls) == (False, False)


def test_functions_are_read_in_training_as_they_are_served(tmp_path):
    shape = {"name": "now", "parameters": {"type": "object", "properties": {}}}
    [(_, chat)] = read(tmp_path, messages(USER, ANSWER, functions=[shape]))
    served = as_tools({"messages": [USER], "functions": [shape]})
    template = ChatTemplate(CHATML)
    prompt = template.render(served["messages"], served["tools"], parallel_tool_calls=served["parallel_tool_calls"])
    trained = template.render(chat.messages[:1], chat.tools, parallel_tool_calls=chat.parallel_tool_calls)
    assert trained == prompt


def test_every_kind_of_message_is_read(tmp_path):
    call = {"id": "c1", "type": "function", "function": {"name": "now", "arguments": "{}"}}
    line = messages(
        {"role": "developer", "content": [{"type": "text", "text": "be brief"}], "name": "ops"},
        USER,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "noon"},
        {"role": "assistant", "function_call": {"name": "now", "arguments": "{}"}},
        {"role": "function", "name": "now", "content": None},
        {"role": "assistant", "content": None, "refusal": "no"},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}, {"type": "text", "text": "never"}]},
    )
    [(_, chat)] = read(tmp_path, line)
    assert len(chat.messages) == 8


def test_pairs_and_preferences(tmp_path):
    [(_, pair)] = read(tmp_path, '{"prompt": "2+2=", "completion": " 4"}')
    assert pair == Completion("2+2=", " 4")
    [(_, preference)] = read(tmp_path, preference_line("hi", "good", "bad"), method="dpo")
    assert isinstance(preference, Preference)
    assert preference.preferred.messages[-1]["content"] == "good"
    assert preference.rejected.messages[-1]["content"] == "bad"
    assert preference.rejected.trained == (False, True)
    named_as_in_the_reference = preference_line("hi", "good", "bad").replace("preferred_output", "preferred_completion")
    assert read(tmp_path, named_as_in_the_reference, method="dpo") == [(1, preference)]


def test_a_byte_order_mark_and_blank_lines_are_passed_over_and_lines_keep_their_numbers(tmp_path):
    found = read(tmp_path, b"\xef\xbb\xbf" + chat_line("a", "b").encode(), "", "  ", chat_line("c", "d"))
    assert [number for number, _ in found] == [1, 4]


GOOD = chat_line("hi", "hello")
BAD_LINES = {
    "no role": (messages({"content": "x"}, ANSWER), "Example 2, message 1 Discriminator 'role' is missing in value"),
    "unknown role": (
        messages(USER, {"role": "bot", "content": "x"}),
        "Example 2, message 2 has role 'bot'; it must be one of 'system', 'developer', 'user', 'assistant', 'tool', "
        "'function'",
    ),
    "no content": (messages({"role": "user"}, ANSWER), "Example 2, message 1, key 'content': Field required"),
    "number as content": (
        messages({"role": "user", "content": 3}, ANSWER),
        "Example 2, message 1, key 'content': Input should be a valid string, or a list of parts",
    ),
    "image": (
        messages({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}, ANSWER),
        "Example 2, message 1, key 'type': Input should be 'text'",
    ),
    "weight 2": (
        messages(USER, {**ANSWER, "weight": 2}),
        "Example 2, message 2, key 'weight': Input should be 0 or 1",
    ),
    "no assistant": (
        messages(USER),
        'Line 2, key "messages": At least one message must be from the assistant.',
    ),
    "ends with the user": (
        messages(USER, ANSWER, USER),
        'Line 2, key "messages": The last message must be from the assistant.',
    ),
    "no messages": ("{}", "Example 2 is missing key 'messages'."),
    "empty messages": (
        messages(),
        "Example 2, key 'messages': List should have at least 1 item after validation, not 0",
    ),
    "messages no list": ('{"messages": "x"}', "Example 2, key 'messages': Input should be a valid array"),
    "no object": ("[1]", "Example 2 is not a JSON object."),
    "Latin 1": (
        b'{"messages": "caf\xe9"}',
        "Example 2 cannot be parsed. Error: line contains invalid json: it is not UTF-8, save the file as UTF-8 "
        "(line 2)",
    ),
    "no JSON": (
        '{"messages": [,]}',
        "Example 2 cannot be parsed. Error: line contains invalid json: expected value at line 1 column 15 (line 2)",
    ),
}


@pytest.mark.parametrize("name", BAD_LINES)
def test_a_bad_line_is_named(tmp_path, name):
    line, words = BAD_LINES[name]
    with pytest.raises(JobFailed) as failed:
        read(tmp_path, GOOD, line)
    assert failed.value.message == f"{JOB_FAILED}Invalid file format. {words}"
    assert (failed.value.code, failed.value.param) == ("invalid_training_file", "training_file")


@pytest.mark.parametrize(
    ("line", "extra"),
    [
        (messages({**USER, "weight": 1}, ANSWER), 'Example 2, message 1 contains an extra "weight".'),
        (messages(USER, ANSWER, weight=1), 'Example 2 contains an extra "weight".'),
    ],
)
def test_a_key_too_many_is_a_format_error(tmp_path, line, extra):
    with pytest.raises(JobFailed) as failed:
        read(tmp_path, GOOD, line)
    expected = f"The job failed due to a file format error in the training file. Invalid file format. {extra}"
    assert (failed.value.message, failed.value.code) == (expected, "invalid_file_format")


FILES = {
    "chats for dpo": (
        GOOD,
        "dpo",
        "Invalid file format. Input file file-abc is in the fine-tune-chat format, but the specified fine-tuning job "
        "is not using 'supervised' as the training method (provided method=dpo).",
    ),
    "preferences for supervised": (
        preference_line("a", "b", "c"),
        "supervised",
        "Invalid file format. Input file file-abc is in the fine-tune-preference format, but the specified "
        "fine-tuning job is not using 'dpo' as the training method (provided method=supervised).",
    ),
    "neither": (
        '{"text": "x"}',
        "supervised",
        "Unexpected file format, expected either prompt/completion pairs or chat messages.",
    ),
    "no input": ('{"text": "x"}', "dpo", "Invalid file format. Example 1 is missing key 'input'."),
    "half a preference": (
        '{"preferred_output": [{"role": "assistant", "content": "x"}]}',
        "dpo",
        "Invalid file format. Example 1 is missing key 'input'.",
    ),
    "the other half": (
        '{"input": {"messages": [{"role": "user", "content": "x"}]}, '
        '"preferred_output": [{"role": "assistant", "content": "x"}]}',
        "dpo",
        "Invalid file format. Example 1 is missing key 'non_preferred_output'.",
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_the_wrong_format_is_refused(tmp_path, name):
    line, method, words = FILES[name]
    with pytest.raises(JobFailed) as failed:
        read(tmp_path, line, method=method)
    assert failed.value.message == JOB_FAILED + words


def test_a_validation_file_is_called_one(tmp_path):
    with pytest.raises(JobFailed) as failed:
        read(tmp_path, messages(USER), which="validation")
    assert failed.value.message.startswith("The job failed due to an invalid validation file.")
    assert (failed.value.code, failed.value.param) == ("invalid_validation_file", "validation_file")
