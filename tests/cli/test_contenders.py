import json
from types import SimpleNamespace

import httpx2
import openai
import pytest

from luthier.cli.contenders import (
    Contender,
    Example,
    Turn,
    as_many_as_fit,
    read_examples,
    read_prompts,
    usual_system,
)
from luthier.core.errors import InvalidRequest


def chat(*messages):
    return json.dumps({"messages": [{"role": role, "content": text} for role, text in messages]})


def examples(count):
    return [Example(Turn((("system", "S"), ("user", f"q{n}"))), f"a{n}") for n in range(count)]


def test_examples_are_chats_of_plain_text_that_end_with_a_reply():
    lines = [
        chat(("system", "S"), ("user", "q"), ("assistant", "a")),
        "",
        chat(("user", "q")),
        json.dumps({"messages": [{"role": "assistant", "content": None, "tool_calls": []}]}),
    ]
    found = read_examples("\n".join(lines))
    assert found == [Example(Turn((("system", "S"), ("user", "q"))), "a")]
    assert usual_system(found) == "S"


def test_examples_go_before_the_question_as_a_chat_under_one_system_message():
    contender = Contender("few-shot", "m", examples(2))
    assert [(m["role"], m["content"]) for m in contender.messages(Turn((("system", "S"), ("user", "?"))))] == [
        ("system", "S"),
        ("user", "q0"),
        ("assistant", "a0"),
        ("user", "q1"),
        ("assistant", "a1"),
        ("user", "?"),
    ]


def test_prompts_come_one_a_line_or_as_chats(tmp_path):
    plain = tmp_path / "prompts.txt"
    plain.write_text("one?\n\ntwo?\n")
    assert [t.messages for t in read_prompts(plain, "S")] == [
        (("system", "S"), ("user", "one?")),
        (("system", "S"), ("user", "two?")),
    ]
    chats = tmp_path / "prompts.jsonl"
    chats.write_text(chat(("user", "q"), ("assistant", "a")) + "\n")
    assert [t.messages for t in read_prompts(chats, "S")] == [(("user", "q"),)]


@pytest.mark.parametrize(("name", "text", "words"), [("a.txt", "\n", "no prompts"), ("a.jsonl", "{}\n", "line 1")])
def test_bad_prompt_files_are_named(tmp_path, name, text, words):
    (tmp_path / name).write_text(text)
    with pytest.raises(InvalidRequest, match=words):
        read_prompts(tmp_path / name, None)
    with pytest.raises(InvalidRequest, match="no such file"):
        read_prompts(tmp_path / "nowhere.txt", None)


class SmallContext:
    """A server that refuses more than so many messages, as OpenAI words it."""

    def __init__(self, most):
        self.most = most
        self.chat = SimpleNamespace(completions=self)

    def create(self, *, messages, **_):
        if len(messages) > self.most:
            response = httpx2.Response(400, request=httpx2.Request("POST", "http://x"))
            body = {"message": "too long", "code": "context_length_exceeded"}
            raise openai.BadRequestError("too long", response=response, body=body)


@pytest.mark.parametrize(("most", "fit"), [(1000, 50), (70, 24), (2, 0)])
def test_as_many_examples_as_the_server_takes_less_room_for_the_answer(most, fit):
    turns = [Turn((("system", "S"), ("user", "?")))]
    contender = as_many_as_fit(SmallContext(most), "m", examples(50), turns)
    assert (contender.role, len(contender.examples)) == ("few-shot", fit)
